"""The line of those who wait for a connection: first come, first served, nobody overtakes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic

from ._alarm import Alarm, weakly
from ._connector import C
from ._idle import Entry


class Waiter(asyncio.Future[Entry[C] | None]):
    """A place in the line. Its result is the entry handed over, or None when its time was up.

    To cancel it is to leave the line, at once and not only when the cancelled task runs: so those in
    the line are those who wait, and nobody has to skip or count the others.
    """

    line: "OrderedDict[Waiter[C], None]"

    def cancel(self, msg: object = None) -> bool:
        """Leave the line."""
        self.line.pop(self, None)
        return super().cancel(msg)


class Line(Generic[C]):
    """Waiters in the order of arrival; each can leave from anywhere at the cost of one look-up.

    Deadlines are in a heap with one timer for the whole line, because a timer for each of 10,000
    waiters, nearly all of them cancelled, is most of what waiting costs.
    """

    __slots__ = ("__weakref__", "_alarm", "_deadlines", "_loop", "_ticket", "waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiters: OrderedDict[Waiter[C], None] = OrderedDict()
        # (deadline, ticket, waiter); may hold waiters that have left, until their deadline or
        # until they are the majority. Tickets keep the heap from comparing futures.
        self._deadlines: list[tuple[float, int, Waiter[C]]] = []
        self._ticket = count()
        # It keeps alive who waits, even a task that nobody else has a reference to; but not what
        # those who have left were handed, and with it the pool.
        self._alarm = Alarm(loop, partial(_ring, weakly(self._expire), self.waiters))

    def __len__(self) -> int:
        """How many wait."""
        return len(self.waiters)

    def join(self, deadline: float | None) -> Waiter[C]:
        """Go to the end of the line. None waits for ever."""
        waiter: Waiter[C] = Waiter(loop=self._loop)
        waiter.line = self.waiters
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

    def hand(self, entry: Entry[C]) -> None:
        """Hand the entry to the first in line; there must be one."""
        waiter, _ = self.waiters.popitem(last=False)
        waiter.set_result(entry)

    def fail(self, error: Exception) -> None:
        """Send everybody away with this error, each with a copy of their own."""
        waiters = list(self.waiters)
        self.waiters.clear()
        self._deadlines.clear()
        self._alarm.cancel()
        for waiter in waiters:
            waiter.set_exception(_likeness(error))

    def _expire(self) -> None:
        deadlines, now = self._deadlines, self._loop.time()
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].done()):
            _, _, waiter = heappop(deadlines)
            if not waiter.done():
                del self.waiters[waiter]
                waiter.set_result(None)
        if deadlines:
            self._alarm.at(deadlines[0][0])


def _ring(expire: Callable[[], None], _kept_alive: object) -> None:
    expire()


def _likeness(error: Exception) -> Exception:
    """Copy an error if its class lets itself be copied.

    Tasks that raise the same object would find their tracebacks and contexts mixed up in it.
    """
    try:
        likeness = copy(error)
    except Exception:  # noqa: BLE001 - it runs a constructor of somebody else's
        return error
    likeness.__cause__, likeness.__context__ = error.__cause__, error.__context__
    return likeness.with_traceback(error.__traceback__)
