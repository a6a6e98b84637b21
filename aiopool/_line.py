"""The line of those who wait for a connection: first come, first served, nobody overtakes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf
from typing import Generic

from ._alarm import Alarm, weakly
from ._connector import C
from ._errors import likeness
from ._idle import Entry

# A place in the line. Its result is the entry handed over, or None when its time was up.
Waiter = asyncio.Future[Entry[C] | None]


class Line(Generic[C]):
    """Waiters in the order of arrival; each can leave from anywhere at the cost of one look-up.

    Who is cancelled leaves when its task runs, a turn later, and is passed over until then. (To know
    at once, a waiter would have to be of a class of its own, which tasks are slower to await.)

    There is one timer for the whole line, because a timer for each of 10,000 waiters, nearly all of
    them cancelled, is most of what waiting costs. Deadlines mostly come in the order of arrival, so
    the line itself is the list of them; the few that come earlier than one before them have a heap.
    """

    __slots__ = ("__weakref__", "_alarm", "_early", "_latest", "_loop", "_ticket", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Each with the latest deadline of those up to it, so that these never decrease.
        self.waiters: OrderedDict[Waiter[C], float] = OrderedDict()
        self._latest = -inf
        # (deadline, ticket, waiter) of those whose deadline is before `_latest`; may hold some that
        # have left, until their deadline or until they are the majority. Tickets keep the heap from
        # comparing futures.
        self._early: list[tuple[float, int, Waiter[C]]] = []
        self._ticket = count()
        # It keeps alive who waits, even a task that nobody else has a reference to; but not what
        # those who have left were handed, and with it the pool.
        self._alarm = Alarm(loop, partial(_ring, weakly(self._expire), self.waiters))

    def __len__(self) -> int:
        """How many are in it."""
        return len(self.waiters)

    def outnumbers(self, others: int) -> bool:
        """Whether more than so many wait. Takes no longer than to count to that number."""
        if len(self.waiters) <= others or others < 0:
            return others < 0
        waiting = (waiter for waiter in self.waiters if not waiter.done())
        return next(islice(waiting, others, None), None) is not None

    def join(self, deadline: float) -> Waiter[C]:
        """Go to the end of the line."""
        waiter: Waiter[C] = asyncio.Future(loop=self._loop)
        waiters = self.waiters
        if deadline >= self._latest or not waiters:
            self._latest = deadline
        else:
            self._come_early(deadline, waiter)
        waiters[waiter] = self._latest
        if deadline < self._alarm.when:
            self._alarm.at(deadline)
        return waiter

    def _come_early(self, deadline: float, waiter: Waiter[C]) -> None:
        early = self._early
        if len(early) > 2 * len(self.waiters) + 64:
            early[:] = [item for item in early if not item[2].done()]
            heapify(early)
        heappush(early, (deadline, next(self._ticket), waiter))

    def leave(self, waiter: Waiter[C]) -> Entry[C] | None:
        """Give up; returns what the waiter was handed all the same, for somebody else to have."""
        self.waiters.pop(waiter, None)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            return None
        return waiter.result()

    def hand(self, entry: Entry[C]) -> bool:
        """Hand the entry to the first who waits; false if nobody does."""
        waiters = self.waiters
        while waiters:
            waiter, _ = waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(entry)
                return True
        return False

    def fail(self, error: Exception) -> None:
        """Send everybody away with this error, each with a copy of their own."""
        waiters = list(self.waiters)
        self.waiters.clear()
        self._early.clear()
        self._alarm.cancel()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(likeness(error))

    def _expire(self) -> None:
        waiters, early, now = self.waiters, self._early, self._loop.time()
        while early and (early[0][0] <= now or early[0][2].done()):
            self._send_away(heappop(early)[2])
        while waiters and waiters[first := next(iter(waiters))] <= now:
            self._send_away(first)
        if waiters:
            self._alarm.at(waiters[next(iter(waiters))])
        if early:
            self._alarm.at(early[0][0])

    def _send_away(self, waiter: Waiter[C]) -> None:
        self.waiters.pop(waiter, None)
        if not waiter.done():
            waiter.set_result(None)


def _ring(expire: Callable[[], None], _kept_alive: object) -> None:
    expire()
