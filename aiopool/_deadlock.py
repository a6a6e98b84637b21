"""Whether everybody who could give a connection back waits for one."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from math import inf
from typing import Any

from ._connector import C
from ._idle import Entry
from ._line import Ticket
from ._reach import others_reach
from ._stats import task_of

# What will end by itself so soon, since the time of one of those who wait is up, is left alone.
PATIENCE = 1.0
# After a false alarm, for so long no other is looked into, as that can take some hundredths of it.
TRUSTED_FOR = 1.0


def waits(task: object, waiters: Mapping[Any, object]) -> bool:
    """Whether a task awaits one of these futures, and will go on doing so: one that was cancelled will not.

    `asyncio.Task` has no public name for what it awaits. That of others may be another: then a deadlock
    is not seen, and ends when somebody's time is up.
    """
    future = awaited(task)
    return future in waiters and not future.done()


def awaited(task: object) -> Any:  # noqa: ANN401 - whatever it is
    """Give the future that a task waits for, if it is told."""
    return getattr(task, "_fut_waiter", None)


class Deadlocks:
    """Looks for deadlocks in one line."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, waiters: Mapping[Any, Ticket], connector: object
    ) -> None:
        self._loop = loop
        self._waiters = waiters
        self._connector = connector
        self._trusted_until = -inf

    def of(self, waiters: Mapping[Any, Ticket]) -> "Deadlocks":
        """Give what looks for them in another line for the same connections."""
        return Deadlocks(self._loop, waiters, self._connector)

    def stuck(
        self,
        lent: Collection[Entry[C]],
        newest: "asyncio.Task[object] | None",
        deadline: float | None = None,
    ) -> str | None:
        """Name the tasks, if all of these are in the hands of those who wait, `newest` among them.

        With a `deadline`, that of `newest`, nobody is named if the time of one of them is up soon, who may
        then go on without. (Nor would it do to refuse at once, again and again, who tries for short.)
        """

        def cannot(task: "asyncio.Task[object]") -> bool:
            return task is newest or waits(task, self._waiters)

        tasks = [task for entry in lent if (task := task_of(entry)) is not None]
        if newest not in tasks or len(tasks) < len(lent) or not all(map(cannot, tasks)):
            return None
        now = self._loop.time()
        if now < self._trusted_until:
            return None
        if deadline is not None:
            others = [self._waiters[awaited(task)][3] for task in tasks if task is not newest]
            if min([deadline, *others]) - now <= PATIENCE:
                return None
        conns = [entry.conn for entry in lent]
        if others_reach(conns, self._connector, self._loop, cannot):
            self._trusted_until = now + TRUSTED_FOR
            return None
        return ", ".join(
            f"{task.get_name()!r}" + (f" ({count} of them)" if count > 1 else "")
            for task, count in Counter(tasks).items()
        )
