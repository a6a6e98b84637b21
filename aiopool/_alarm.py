"""A timer that can be brought forward and that keeps nobody alive."""

import asyncio
from collections.abc import Callable
from math import inf
from weakref import WeakMethod


class Alarm:
    """Calls a method at the earliest of the times it was asked for, then forgets them all.

    The method is held weakly, so that a pool which was dropped without being closed can be
    collected although one of its timers is still to go off.
    """

    __slots__ = ("__weakref__", "_loop", "_method", "_timer", "when")

    def __init__(self, loop: asyncio.AbstractEventLoop, method: Callable[[], None]) -> None:
        self._loop = loop
        self._method = WeakMethod(method)
        self._timer: asyncio.TimerHandle | None = None
        self.when = inf

    def at(self, when: float) -> None:
        """Go off at `when` (the loop's clock), unless it is to go off earlier already."""
        if when < self.when:
            self.cancel()
            self.when = when
            self._timer = self._loop.call_at(when, self._ring)

    def cancel(self) -> None:
        """Don't go off."""
        self.when = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self.when = inf
        if (method := self._method()) is not None:
            method()
