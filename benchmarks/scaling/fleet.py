"""Application processes: each a pool for each server, one processor, and users who ask."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from benchmarks.clock import JumpingLoop

from .server import Conn, Dialler, Processor, Server

T = TypeVar("T")

DIAL = 0.001  # of a process's time for each dial: about a thousand dials a second are all it can do
RESOLUTION = 0.0005  # timers closer to each other run in one turn of the loop


class Lends(Protocol):
    """What a process asks of a pool."""

    async def acquire(self) -> Conn:
        """Lend a connection."""
        ...

    async def release(self, conn: Conn, /) -> None:
        """Take it back."""
        ...

    async def aclose(self, timeout: float | None = ..., /) -> None:
        """Close it."""
        ...


Make = Callable[[Dialler], Lends]


@dataclass(slots=True)
class Load:
    """What the users of one process do: think, ask a server for something, think again.

    Durations are means, in seconds, exponentially distributed. By Little's law so many connections
    are in use, if there are enough: `users * hold / (hold + think)`.
    """

    users: int
    hold: float
    think: float

    @property
    def in_use(self) -> float:
        """How many connections of a process are in use, on average, if nobody has to wait."""
        return self.users * self.hold / (self.hold + self.think)


class Process:
    """One application process."""

    def __init__(self, servers: Sequence[Server], make: Make) -> None:
        processor = Processor(DIAL)
        self.diallers = [Dialler(server, processor) for server in servers]
        self.pools = [make(dialler) for dialler in self.diallers]
        self.served_at = 0.0


class Fleet:
    """All processes, and what their users met with."""

    def __init__(self, processes: int, servers: Sequence[Server], make: Make, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - it shall repeat
        self._now = asyncio.get_running_loop().time
        self._users: list[asyncio.Task[None]] = []
        self.processes = [Process(servers, make) for _ in range(processes)]
        self.served = 0
        self.cut = 0  # requests that were under way when the server went down
        self.failed = 0  # those that got no connection
        self.slow_until = 0.0  # when the last ended that had waited for longer than `SLOW`
        self.longest = 0.0

    def start(self, load: Load, processes: Sequence[Process] | None = None) -> None:
        """Have users ask from now on, in all processes or in some."""
        for process in self.processes if processes is None else processes:
            for _ in range(load.users):
                self._users.append(asyncio.create_task(self._use(process, load)))

    async def stop(self) -> None:
        """Send all users home, in the midst of what they do."""
        for user in self._users:
            user.cancel()
        await asyncio.gather(*self._users, return_exceptions=True)
        self._users.clear()

    async def close(self) -> None:
        """Send the users home and close the pools."""
        await self.stop()
        for process in self.processes:
            for pool in process.pools:
                await pool.aclose(0)

    async def _use(self, process: Process, load: Load) -> None:
        draw, now = self._random, self._now
        while True:
            await asyncio.sleep(draw.expovariate(1 / load.think))
            pool = draw.choice(process.pools)
            asked = now()
            try:
                conn = await pool.acquire()
            except OSError:  # refused, or out of time
                self.failed += 1
                self._note(now() - asked)
                continue
            self._note(now() - asked)
            try:
                await asyncio.sleep(draw.expovariate(1 / load.hold))
            finally:
                alive = conn.alive
                await pool.release(conn)
            if alive:
                self.served += 1
                process.served_at = now()
            else:
                self.cut += 1

    def _note(self, waited: float) -> None:
        self.longest = max(self.longest, waited)
        if waited > SLOW:
            self.slow_until = self._now()


SLOW = 0.1  # a wait that users notice


def simulate(work: Callable[[], Coroutine[Any, Any, T]], seed: int) -> T:
    """Run this on a clock that jumps; the same seed gives the same result."""
    random.seed(seed)  # the pools' own jitter
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(resolution=RESOLUTION)) as runner:
        return runner.run(work())
