"""Whether everybody who could give a connection back waits for one."""

import asyncio
from collections import Counter
from collections.abc import Collection, Container

from ._connector import C
from ._idle import Entry
from ._reach import others_reach
from ._stats import task_of


def waits(task: object, waiters: Container[object]) -> bool:
    """Whether a task awaits one of these futures.

    `asyncio.Task` has no public name for what it awaits. That of others may be another: then a deadlock
    is not seen, and ends when somebody's time is up.
    """
    return getattr(task, "_fut_waiter", None) in waiters


def stuck(
    lent: Collection[Entry[C]],
    waiters: Container[object],
    newest: "asyncio.Task[object] | None",
    loop: asyncio.AbstractEventLoop,
) -> str | None:
    """Name the tasks, if all of these are in the hands of those who wait, `newest` among them."""

    def cannot(task: "asyncio.Task[object]") -> bool:
        return task is newest or waits(task, waiters)

    tasks = [task for entry in lent if (task := task_of(entry)) is not None]
    if newest not in tasks or len(tasks) < len(lent) or not all(map(cannot, tasks)):
        return None
    if any(others_reach(entry.conn, loop, cannot) for entry in lent):
        return None
    return ", ".join(
        f"{task.get_name()!r}" + (f" ({count} of them)" if count > 1 else "")
        for task, count in Counter(tasks).items()
    )
