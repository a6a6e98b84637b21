"""The upkeep: closes what has been idle for too long or has lived long enough, without any traffic.

It is a timer, not a task: closing waits for nobody and opening is the opener's business, so there is
nothing to await. It sleeps until the next thing is due, and an abandoned pool can be collected.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Generic

from ._alarm import Alarm
from ._connector import C
from ._idle import Entry, IdleQueue


class Reaper(Generic[C]):
    """Goes through the idle entries whenever one of them is due."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        idle: IdleQueue[C],
        spare: Callable[[], int],
        retire: Callable[[Entry[C], str], None],
        max_idle: float | None,
    ) -> None:
        """Take entries from `idle`, as the pool's callers do, and give them to `retire`.

        `spare()` says how many connections there are above `min_size`: for being idle, no more than
        that are closed.
        """
        self._loop = loop
        self._idle = idle
        self._spare = spare
        self._retire = retire
        self._max_idle = inf if max_idle is None else max_idle
        self._alarm = Alarm(loop, self.reap)

    def expect(self, entry: Entry[C]) -> None:
        """Note that this entry has just become idle."""
        due = min(entry.expires, entry.idle_since + self._max_idle)
        if due < self._alarm.when:
            self._alarm.at(due)

    def reap(self) -> None:
        """Close what is due, the longest idle first, and sleep until the next is."""
        now = self._loop.time()
        for entry in list(self._idle):
            if entry.expires <= now:
                self._idle.remove(entry)
                self._retire(entry, entry.doom)
            elif entry.idle_since + self._max_idle <= now and self._spare() > 0:
                self._idle.remove(entry)
                self._retire(entry, "max_idle")
        surplus = self._spare() > 0
        for entry in self._idle:
            self._alarm.at(
                min(entry.expires, entry.idle_since + self._max_idle) if surplus else entry.expires
            )

    def stop(self) -> None:
        """Sleep for good."""
        self._alarm.cancel()
