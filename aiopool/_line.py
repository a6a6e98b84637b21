"""The line of those who wait for a connection: first come, first served, nobody overtakes."""

import asyncio
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeAlias

from ._alarm import Alarm
from ._connector import C
from ._idle import Entry

# Its result is the entry handed over, or None when its time was up.
Waiter: TypeAlias = asyncio.Future[Entry[C] | None]


class Line(Generic[C]):
    """Futures in the order of arrival; each can leave from anywhere at the cost of one look-up.

    A future that was cancelled stays until its task has run and left, or until its turn comes: it
    is skipped, never served. Deadlines are in a heap with one timer for the whole line, because
    a timer for each of 10,000 waiters, nearly all of them cancelled, is most of what waiting costs.
    """

    __slots__ = ("__weakref__", "_alarm", "_deadlines", "_loop", "_ticket", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiters: OrderedDict[Waiter[C], None] = OrderedDict()
        # (deadline, ticket, waiter); may hold waiters that have left, until their deadline or
        # until they are the majority. Tickets keep the heap from comparing futures.
        self._deadlines: list[tuple[float, int, Waiter[C]]] = []
        self._ticket = count()
        self._alarm = Alarm(loop, self._expire)

    def __len__(self) -> int:
        """How many wait, exactly."""
        return sum(not waiter.done() for waiter in self.waiters)

    def at_least(self, number: int) -> bool:
        """Whether `number` or more wait; looks no further than it must."""
        if number <= 0:
            return True
        if len(self.waiters) < number:
            return False
        for waiter in self.waiters:
            number -= not waiter.done()
            if number == 0:
                return True
        return False

    def join(self, deadline: float | None) -> Waiter[C]:
        """Go to the end of the line. None waits for ever."""
        waiter: Waiter[C] = self._loop.create_future()
        self.waiters[waiter] = None
        if deadline is not None:
            deadlines = self._deadlines
            if len(deadlines) > 2 * len(self.waiters) + 64:
                deadlines[:] = [item for item in deadlines if not item[2].done()]
                heapify(deadlines)
            heappush(deadlines, (deadline, next(self._ticket), waiter))
            self._alarm.at(deadline)
        return waiter

    def leave(self, waiter: Waiter[C]) -> Entry[C] | None:
        """Give up; returns what the waiter was handed all the same, for somebody else to have."""
        self.waiters.pop(waiter, None)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            return None
        return waiter.result()

    def hand(self, entry: Entry[C]) -> bool:
        """Hand the entry to the first who still waits; false if nobody does."""
        waiters = self.waiters
        while waiters:
            waiter, _ = waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(entry)
                return True
        return False

    def fail(self, error: Exception) -> None:
        """Send everybody away with this error."""
        waiters = list(self.waiters)
        self.clear()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def clear(self) -> None:
        """Forget everybody and the timer."""
        self.waiters.clear()
        self._deadlines.clear()
        self._alarm.cancel()

    def _expire(self) -> None:
        deadlines, now = self._deadlines, self._loop.time()
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].done()):
            _, _, waiter = heappop(deadlines)
            if not waiter.done():
                del self.waiters[waiter]
                waiter.set_result(None)
        if deadlines:
            self._alarm.at(deadlines[0][0])
