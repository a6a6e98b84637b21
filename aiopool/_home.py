"""Where a life of a pool goes on: an event loop, which runs in one thread of one process."""

import asyncio
import os
import sys
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any
from weakref import WeakSet

# Gives the task that a loop is running. `asyncio.current_task` does the same, but before CPython 3.12 it
# is a function in Python round this look-up.
current_task: "Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]" = (
    asyncio.current_task
)
if sys.version_info < (3, 12):
    current_task = getattr(asyncio.tasks, "_current_tasks").get  # noqa: B009 - types know nothing of it

# What a forked child has inherited: kept, because a finaliser that closes such a connection would do
# it by way of the event loop's selector, which parent and child share.
_inherited: list[object] = []


class Home:
    """The loop that runs now, with what tells it from others."""

    __slots__ = ("__weakref__", "loop", "pid", "thread", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # asyncio's own method does no more than this; a loop with another clock has its own.
        self.time = monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
        self.pid = os.getpid()
        # Whoever is in this thread, while a task of the loop is the current one, is in the loop. To know
        # it so takes less time than to ask for the running loop, a system call on CPython 3.11.
        self.thread: int | None = get_ident()
        _homes.add(self)

    @property
    def alive(self) -> bool:
        """Whether the loop can still run, and in this process."""
        return self.pid == os.getpid() and not self.loop.is_closed()

    @property
    def elsewhere(self) -> bool:
        """Whether the loop is running, but not here: in another thread."""
        if not self.loop.is_running():
            return False
        try:
            return asyncio.get_running_loop() is not self.loop
        except RuntimeError:
            return True

    def keep_for_ever(self, what: object) -> bool:
        """Keep what lived here, if this is another process; says whether it is."""
        if self.pid == os.getpid():
            return False
        _inherited.append(what)
        return True


_homes: WeakSet[Home] = WeakSet()


def _after_fork() -> None:
    """Have the child ask which loop runs: it has the parent's thread and current task, but no loop."""
    for home in _homes:
        home.thread = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
