"""The upkeep: closes what has been idle for too long or has lived long enough, without any traffic.

It is a timer, not a task: closing waits for nobody and opening is the opener's business, so there is
nothing to await. It sleeps until the next thing is due, and an abandoned pool can be collected.
"""

import asyncio
from collections.abc import Iterable, Mapping
from math import inf
from typing import Generic, Protocol

from ._alarm import Alarm, weakly
from ._connector import C
from ._idle import Entry, IdleQueue


class Owner(Protocol[C]):
    """What a reaper asks of its pool."""

    @property
    def idle(self) -> IdleQueue[C]:
        """The idle connections, from which it takes as the callers do."""
        ...

    @property
    def spare(self) -> int:
        """How many there are above `min_size`: so many may be closed for being idle."""
        ...

    def entries(self) -> Iterable[Entry[C]]:
        """All entries, wherever they are."""
        ...

    def close_all(self, reasons: Mapping[Entry[C], str], /) -> None:
        """Close entries that were taken, each for a reason."""
        ...

    def stir(self) -> None:
        """Make up for what was closed."""
        ...


class Reaper(Generic[C]):
    """Goes through the idle entries whenever one of them is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner[C], max_idle: float) -> None:
        self._loop = loop
        self._owner = owner
        self._max_idle = max_idle
        self._alarm = Alarm(loop, weakly(self.reap))
        # What becomes idle from then on is due when the alarm has gone off: nothing need be noted.
        self.calm_since = inf

    def watch(self, entry: Entry[C]) -> None:
        """Note that there is this entry, so that its expiry is not missed, wherever it is then."""
        self._wake_at(entry.expires)

    def expect(self, entry: Entry[C]) -> None:
        """Note that this entry has just become idle."""
        self._wake_at(entry.idle_since + self._max_idle)

    def reap(self) -> None:
        """Close what is due, the longest idle first, and sleep until the next is."""
        now, owner, idle = self._loop.time(), self._owner, self._owner.idle
        spare = owner.spare
        reasons: dict[Entry[C], str] = {}
        for entry in idle:
            if entry.expires <= now:
                reasons[entry] = entry.doom
            elif entry.idle_since + self._max_idle <= now and spare > len(reasons):
                reasons[entry] = "max_idle"
        idle.take(reasons.__contains__)
        owner.close_all(reasons)
        owner.stir()
        due = [entry.expires for entry in owner.entries() if entry.expires > now]
        if owner.spare > 0:
            due += [entry.idle_since + self._max_idle for entry in idle]
        self._wake_at(min(due, default=inf))

    def _wake_at(self, when: float) -> None:
        self._alarm.at(when)
        self.calm_since = self._alarm.when - self._max_idle

    def stop(self) -> None:
        """Sleep for good."""
        self._alarm.cancel()
