"""A timer that can be brought forward."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from math import inf
from weakref import WeakMethod


class Alarm:
    """Calls back at the earliest of the times it was asked for, then forgets them all."""

    __slots__ = ("_callback", "_context", "_loop", "_timer", "when")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        # Not the context of whoever happens to set the alarm: it would live as long.
        self._context = Context()
        self._timer: asyncio.TimerHandle | None = None
        self.when = inf

    def at(self, when: float) -> None:
        """Go off at `when` (the loop's clock), unless it is to go off earlier already."""
        if when < self.when:
            self.cancel()
            self.when = when
            self._timer = self._loop.call_at(when, self._ring, context=self._context)

    def cancel(self) -> None:
        """Don't go off."""
        self.when = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self.when = inf
        self._callback()


def weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls the method if its object is still there.

    For alarms of the upkeep: a pool that was dropped without being closed can then be collected
    although one of its timers is still to go off.
    """
    reference = WeakMethod(method)

    def call() -> None:
        if (alive := reference()) is not None:
            alive()

    return call
