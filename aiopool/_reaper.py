"""The upkeep: closes what has been idle for too long or has lived long enough, without any traffic.

It is a timer, not a task: closing waits for nobody and opening is the opener's business, so there is
nothing to await. It sleeps until the next thing is due, and an abandoned pool can be collected.
"""

import asyncio
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

    def close(self, entry: Entry[C], reason: str, /) -> None:
        """Close an entry that was taken."""
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
        self.alarm = Alarm(loop, weakly(self.reap))

    def expect(self, entry: Entry[C]) -> None:
        """Note that this entry has just become idle."""
        self.alarm.at(min(entry.idle_since + self._max_idle, entry.expires))

    def reap(self) -> None:
        """Close what is due, the longest idle first, and sleep until the next is."""
        now, owner, idle = self._loop.time(), self._owner, self._owner.idle
        for entry in list(idle):
            if entry.expires <= now:
                idle.remove(entry)
                owner.close(entry, entry.doom)
            elif entry.idle_since + self._max_idle <= now and owner.spare > 0:
                idle.remove(entry)
                owner.close(entry, "max_idle")
        owner.stir()
        for entry in idle:
            self.alarm.at(entry.expires)
            if owner.spare > 0:
                self.alarm.at(entry.idle_since + self._max_idle)

    def stop(self) -> None:
        """Sleep for good."""
        self.alarm.cancel()
