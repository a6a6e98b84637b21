"""An event loop whose clock jumps: when nothing is ready, it is at once the time of the next timer.

So a limit of an hour is tested, or simulated, with its real value, exactly, in no time; and a test in
which everybody waits for something that no timer will bring fails as `Deadlock` instead of hanging.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable
from math import inf
from random import Random
from selectors import SelectorKey


class Deadlock(AssertionError):
    """Everybody waits and no timer is set."""


class Standstill(AssertionError):
    """Somebody is always ready, so the time of the next timer never comes."""


STANDSTILL = 100_000  # turns


class _JumpingSelector(selectors.DefaultSelector):
    loop: "JumpingLoop"

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        self.loop.turn()
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.loop.jump()
        return ready


class _AnyOrder(deque[asyncio.Handle]):
    """Gives what is ready in one turn of the loop in any order.

    asyncio runs callbacks in the order in which they became ready, and that depends on which socket
    the selector names first, which timer is a microsecond earlier, and what else user code runs: so no
    order of those in one turn can be ruled out. None is put off to a later turn, as asyncio puts off none.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._left = 0  # of this turn

    def popleft(self) -> asyncio.Handle:
        self._left = self._left or len(self)
        chosen = self._random.randrange(self._left)
        self._left -= 1
        handle = self[chosen]
        del self[chosen]
        return handle


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop for code that does no real I/O and uses no threads."""

    # asyncio's own, which typeshed does not name.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _clock_resolution: float

    def __init__(self, schedule: Random | None = None, *, resolution: float | None = None) -> None:
        """Run what is ready in asyncio's order or, if told to, in one drawn from `schedule`.

        Timers that are no further than `resolution` (seconds) from the next run with it, in one turn.
        """
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.loop = self
        if schedule is not None:
            self._ready = _AnyOrder(schedule)
        if resolution is not None:
            self._clock_resolution = resolution
        self.watches: list[Callable[[], None]] = []  # called in every turn of the loop
        self._now = 1000.0
        self._turns = 0  # since the time has changed

    def turn(self) -> None:
        """Note a turn of the loop."""
        self._turns += 1
        if self._turns > STANDSTILL:
            self._turns = 0  # for what is to be cleaned up
            msg = f"{STANDSTILL} turns of the loop, and still it is {self._now}"
            raise Standstill(msg)
        for watch in self.watches:
            watch()

    def time(self) -> float:
        """Say what time it is, by the clock that jumps."""
        return self._now

    def jump(self, latest: float = inf) -> None:
        """Go to the time of the next timer, but to none after `latest`."""
        if not self._scheduled and latest == inf:
            tasks = "\n".join(repr(task) for task in asyncio.all_tasks(self))
            msg = f"everybody waits and no timer is set:\n{tasks}"
            raise Deadlock(msg)
        self._now = max(self._now, min(self._next_timer, latest))
        self._turns = 0

    def settle(self) -> None:
        """Run what is ready and what gets ready by that, while time stands still."""
        while self._ready or self._next_timer <= self._now:
            self.stop()  # a loop that is to stop makes one turn and waits for no timer
            self.run_forever()

    @property
    def _next_timer(self) -> float:
        # The top of asyncio's heap; it drops cancelled ones there in every turn.
        return self._scheduled[0].when() if self._scheduled else inf

    def block(self, seconds: float) -> None:
        """Let time pass as during a callback that takes so long."""
        self._now += seconds
