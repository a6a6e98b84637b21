"""Lent connections that don't come back: looked for only where `leak_after` is set."""

import asyncio
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Protocol
from weakref import WeakSet, ref

from ._alarm import Alarm, weakly
from ._connector import C
from ._events import Events, Listener
from ._idle import Entry
from ._stats import Holder, holder, stack_of_the_caller, task_of


class Owner(Protocol[C]):
    """What is asked of the pool."""

    def is_kept(self, conn: C, /) -> bool:
        """Whether a holder keeps this connection on purpose, for as long as it likes."""
        ...

    def is_in_use(self, conn: C, /, *ended: "asyncio.Task[Any]") -> bool:
        """Whether somebody may give this connection back: who has the result of what has just `ended`, too."""
        ...

    def reclaim(self, entry: Entry[C], /) -> None:
        """Close a lent connection that nobody will give back."""
        ...


class Leaks(Listener, Generic[C]):
    """Tells of connections that are lent for too long, once of each, and of those whose holder has ended.

    Hears of those that come back as a listener does. So nothing of this is on the way of a pool that
    looks for no leaks.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        owner: Owner[C],
        events: Events,
        after: float,
        reclaim: bool,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._events = events
        self._after = after
        self._reclaim = reclaim
        self._watched: dict[int, Entry[C]] = {}  # in the order of lending
        self._overdue: dict[int, tuple[Entry[C], Holder]] = {}  # as was told of them
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()  # of which the end will be heard
        self._hear = partial(_ended, ref(self))
        self._alarm = Alarm(loop, weakly(self._look))

    def watch(self, entry: Entry[C]) -> None:
        """Look after a connection that is lent in this call."""
        entry.stack = stack_of_the_caller()
        self._watched[entry.key] = entry
        self._alarm.at(entry.lent_at + self._after)
        task = task_of(entry)
        if task is not None and task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._hear, context=Context())

    def returned(self, _pool: object, conn: C, used: float, /) -> None:
        """Tell of one that was overdue."""
        self._watched.pop(id(conn), None)
        if (
            overdue := self._overdue.pop(id(conn), None)
        ) is not None and self._events.leak_returned:
            self._events.tell("leak_returned", replace(overdue[1], age=used))

    def stop(self) -> None:
        """Look no more."""
        self._alarm.cancel()
        self._watched.clear()
        self._overdue.clear()
        for task in self._tasks:  # some of which may live for long
            task.remove_done_callback(self._hear)

    def _look(self) -> None:
        now = self._loop.time()
        for entry in list(self._watched.values()):
            if entry.lent_at + self._after <= now:
                del self._watched[entry.key]
                if not self._owner.is_kept(entry.conn):
                    self._tell(entry, now)
                    # It may have been handed on by a task that has ended, to nobody.
                    task = task_of(entry)
                    ended = task is not None and task.done()
                    if self._reclaim and ended and not self._owner.is_in_use(entry.conn):
                        self._take_back(entry)
        if self._watched:
            first = min(entry.lent_at for entry in self._watched.values())
            self._alarm.at(first + self._after)

    def ended(self, task: "asyncio.Task[Any]") -> None:
        """See what a task that has ended has left behind."""
        self._tasks.discard(task)
        entries = [*self._watched.values(), *(entry for entry, _ in self._overdue.values())]
        now = self._loop.time()
        for entry in entries:
            if entry.task is task and not self._owner.is_in_use(entry.conn, task):
                self._watched.pop(entry.key, None)
                self._tell(entry, now)
                if self._reclaim:
                    self._take_back(entry)

    def _take_back(self, entry: Entry[C]) -> None:
        self._overdue.pop(entry.key, None)
        self._owner.reclaim(entry)

    def _tell(self, entry: Entry[C], now: float) -> None:
        picture = holder(entry, now)
        self._overdue[entry.key] = entry, picture
        if self._events.leaked:
            self._events.tell("leaked", picture)


def _ended(leaks: "ref[Leaks[Any]]", task: "asyncio.Task[Any]") -> None:
    # A task may live for long after its pool was dropped.
    if (alive := leaks()) is not None:
        alive.ended(task)
