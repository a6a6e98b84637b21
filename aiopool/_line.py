"""The line of those who wait for a connection: first come, first served, nobody overtakes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf
from typing import Generic, TypeVar

from ._alarm import Alarm, weakly
from ._errors import likeness
from ._idle import Named
from ._stats import Totals, Waiting, name_of

T = TypeVar("T")

# A place in the line. Its result is what was handed over, or None when its time was up.
Waiter = asyncio.Future[T | None]

# The latest deadline of those up to it, so that these never decrease; who it is, since when; its own deadline.
Ticket = tuple[float, Named | None, float, float]

# While somebody waits who will be told why, the timer goes off so often. If it is late, the event loop
# was blocked: nobody could give anything back, however large the pool. (Blocks shorter than a beat are hardly
# seen.)
BEAT = 1 / 32
LATE = 1 / 64  # less is a loop that has work to do, on a machine that has


class Line(Generic[T]):
    """Waiters in the order of arrival; each can leave from anywhere at the cost of one look-up.

    Who is cancelled leaves when its task runs, a turn later, and is passed over until then. (To know
    at once, a waiter would have to be of a class of its own, which tasks are slower to await.)

    There is one timer for the whole line, because a timer for each of 10,000 waiters, nearly all of
    them cancelled, is most of what waiting costs. Deadlines mostly come in the order of arrival, so
    the line itself is the list of them; the few that come earlier than one before them have a heap.
    """

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_due",
        "_early",
        "_latest",
        "_loop",
        "_noted",
        "_ticket",
        "_totals",
        "waiters",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, totals: Totals) -> None:
        self._loop = loop
        self._totals = totals
        self.waiters: OrderedDict[Waiter[T], Ticket] = OrderedDict()
        self._latest = -inf
        # (deadline, ticket, waiter) of those whose deadline is before `_latest`; may hold some that
        # have left, until their deadline or until they are the majority. Tickets keep the heap from
        # comparing futures.
        self._early: list[tuple[float, int, Waiter[T]]] = []
        self._ticket = count()
        # It keeps alive who waits, even a task that nobody else has a reference to; but not what
        # those who have left were handed, and with it the pool.
        self._alarm = Alarm(loop, partial(_ring, weakly(self._expire), self.waiters))
        self._due = inf  # when it is to go off
        self._noted = -inf  # until then a delay was counted

    def __len__(self) -> int:
        """How many are in it."""
        return len(self.waiters)

    def who_waits(self, now: float) -> list[Waiting]:
        """List who is in it, in the order of arrival."""
        return [
            Waiting(name_of(who), since, now - since)
            for waiter, (_, who, since, _) in list(self.waiters.items())
            if not waiter.done()
        ]

    def outnumbers(self, others: int) -> bool:
        """Whether more than so many wait. Takes no longer than to count to that number."""
        if len(self.waiters) <= others or others < 0:
            return others < 0
        waiting = (waiter for waiter in self.waiters if not waiter.done())
        return next(islice(waiting, others, None), None) is not None

    def join(self, deadline: float, who: Named | None, now: float) -> Waiter[T]:
        """Go to the end of the line."""
        waiter: Waiter[T] = asyncio.Future(loop=self._loop)
        waiters = self.waiters
        if now > self._due:  # so the loop was blocked until now, for those before this one
            self._note_delay(now)
        if deadline >= self._latest or not waiters:
            self._latest = deadline
        else:
            self._come_early(deadline, waiter)
        waiters[waiter] = self._latest, who, now, deadline
        if now + BEAT < self._due or deadline < self._due:
            self._wake_at(deadline, now)
        return waiter

    def _wake_at(self, deadline: float, now: float) -> None:
        """Have the alarm go off then or at the next beat, if it is for somebody whose time runs."""
        if deadline < inf:
            self._alarm.at(min(deadline, now + BEAT))
            self._due = self._alarm.when

    def _come_early(self, deadline: float, waiter: Waiter[T]) -> None:
        early = self._early
        if len(early) > 2 * len(self.waiters) + 64:
            early[:] = [item for item in early if not item[2].done()]
            heapify(early)
        heappush(early, (deadline, next(self._ticket), waiter))

    def leave(self, waiter: Waiter[T]) -> T | None:
        """Give up; returns what the waiter was handed all the same, for somebody else to have."""
        self.waiters.pop(waiter, None)
        if not waiter.done() or waiter.cancelled() or waiter.exception() is not None:
            return None
        return waiter.result()

    def hand(self, what: T) -> bool:
        """Hand this to the first who waits; false if nobody does."""
        waiters = self.waiters
        while waiters:
            waiter, _ = waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(what)
                return True
        return False

    def fail(self, error: Exception) -> None:
        """Send everybody away with this error, each with a copy of their own."""
        waiters = list(self.waiters)
        self.waiters.clear()
        self._early.clear()
        self._alarm.cancel()
        self._due = inf
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(likeness(error))

    def _expire(self) -> None:
        waiters, early, now = self.waiters, self._early, self._loop.time()
        self._note_delay(now)
        self._due = inf
        while early and (early[0][0] <= now or early[0][2].done()):
            self._send_away(heappop(early)[2])
        while waiters and waiters[first := next(iter(waiters))][0] <= now:
            self._send_away(first)
        if waiters:
            self._wake_at(waiters[next(iter(waiters))][0], now)
        if early:
            self._wake_at(early[0][0], now)

    def _note_delay(self, now: float) -> None:
        """Count for how long the loop was blocked, as long as somebody has waited, if the alarm is late."""
        if now - self._due > LATE:
            # That began at some time in the beat before the alarm was due: in the middle of it, on average.
            began = max(self._due - BEAT / 2, self._noted)
            for _, _, since, _ in self.waiters.values():
                self._totals.blocked_seconds += max(0.0, now - max(began, since))
                break
        self._due = self._noted = now

    def _send_away(self, waiter: Waiter[T]) -> None:
        self.waiters.pop(waiter, None)
        if not waiter.done():
            waiter.set_result(None)


def _ring(expire: Callable[[], None], _kept_alive: object) -> None:
    expire()
