"""An event loop whose clock jumps: when nothing is ready, it is at once the time of the next timer.

So a limit of an hour is tested with its real value, exactly, in no time; and a test in which everybody
waits for something that no timer will bring fails as `Deadlock` instead of hanging.
"""

import asyncio
import selectors
from selectors import SelectorKey


class Deadlock(AssertionError):
    """Everybody waits and no timer is set."""


class _JumpingSelector(selectors.DefaultSelector):
    loop: "JumpingLoop"

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.loop.jump()
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop for code that does no real I/O and uses no threads."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        """Go to the time of the next timer."""
        timers = self._scheduled  # the heap of asyncio.BaseEventLoop
        if not timers:
            tasks = "\n".join(repr(task) for task in asyncio.all_tasks(self))
            raise Deadlock(f"everybody waits and no timer is set:\n{tasks}")
        self._now = max(self._now, timers[0].when())

    def block(self, seconds: float) -> None:
        """Let time pass as in a callback that does not return for so long."""
        self._now += seconds
