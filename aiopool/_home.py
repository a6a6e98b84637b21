"""Where a life of a pool goes on: an event loop, which runs in one thread of one process."""

import asyncio
import os
import sys
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any
from weakref import WeakSet

# What tells, in no time, that one is in a loop that was met before: the running loop itself. Before CPython
# 3.12 to ask for it is a system call, for it looks whether the process has forked; there it is the thread.
# In that thread, while a task of the loop is the current one, no other loop can run (unless the loop has
# moved to another thread since: see `Home.settle`). And `asyncio.current_task` is there a function in
# Python round a look-up.
current_task: "Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None]"
whereabouts: Callable[[], object]
if sys.version_info >= (3, 12):
    current_task, whereabouts = asyncio.current_task, asyncio.get_running_loop
else:
    current_task, whereabouts = getattr(asyncio.tasks, "_current_tasks").get, get_ident  # noqa: B009 - types don't know it

# What a forked child has inherited: kept, because a finaliser that closes such a connection would do
# it by way of the event loop's selector, which parent and child share.
_inherited: list[object] = []


class Home:
    """The loop that runs now, with what tells it from others."""

    __slots__ = ("__weakref__", "loop", "pid", "time", "whereabouts")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # asyncio's own method does no more than this; a loop with another clock has its own.
        usual = type(loop).time is asyncio.BaseEventLoop.time and "time" not in vars(loop)
        self.time = monotonic if usual else loop.time
        self.pid = os.getpid()
        self.whereabouts: object = None  # those inside of the loop; None in a forked child
        self.settle()
        _homes.add(self)

    def settle(self) -> None:
        """Note where the loop runs. To be called in it, where it is not met as it was before."""
        self.whereabouts = whereabouts()

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
        home.whereabouts = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
