"""A web service under load: requests with a deadline, each of which uses a connection once."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from statistics import mean

from aiopool import TooManyWaiters

# What a request does with the seconds that its use is to take, within its deadline.
Serve = Callable[[float], Awaitable[None]]

SIZE = 10  # connections
USE = 0.05  # seconds, the mean
DEADLINE = 1.0  # of a request, in all


@dataclass(slots=True)
class Tally:
    """What became of requests: how long each took until its end, in seconds."""

    served: list[float] = field(default_factory=list[float])
    rejected: list[float] = field(default_factory=list[float])
    late: list[float] = field(default_factory=list[float])

    @property
    def requests(self) -> int:
        """How many there were."""
        return len(self.served) + len(self.rejected) + len(self.late)

    @property
    def failed(self) -> float:
        """The share that failed."""
        return 1 - len(self.served) / self.requests

    @property
    def told_after(self) -> float:
        """How long those who failed waited until they were told, on average."""
        return mean(self.rejected + self.late) if self.failed else 0.0

    def took(self, share: float) -> float:
        """How long the slowest of this share of those who were served took."""
        served = sorted(self.served)
        return served[min(len(served) - 1, int(share * len(served)))] if served else 0.0


class Service:
    """Takes requests as they come, and counts what becomes of them."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._now = asyncio.get_running_loop().time
        self._tasks: set[asyncio.Task[None]] = set()
        self.tally = Tally()

    async def take(self, arrivals: AsyncIterator[float]) -> None:
        """Take requests, each with the seconds that it is to use a connection."""
        async for use in arrivals:
            task = asyncio.create_task(self._request(use, self.tally))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def all_done(self) -> None:
        """Wait for the last one."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _request(self, use: float, tally: Tally) -> None:
        asked = self._now()
        try:
            async with asyncio.timeout(DEADLINE):
                await self._serve(use)
        except TooManyWaiters:
            ended = tally.rejected
        except TimeoutError:  # a PoolTimeout, or that of the whole request
            ended = tally.late
        else:
            ended = tally.served
        ended.append(self._now() - asked)


@dataclass(frozen=True, slots=True)
class Uses:
    """How long uses take."""

    name: str
    draw: Callable[[random.Random, float], float]  # by the mean


CONSTANT = Uses("constant", lambda _random, use: use)
EXPONENTIAL = Uses("exponential", lambda random, use: random.expovariate(1 / use))


async def steady(
    load: float, uses: Uses, seconds: float, draw: random.Random, use: float = USE
) -> AsyncIterator[float]:
    """Have requests come at random, so many times as fast as all connections can serve them."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    end = at + seconds
    while (at := at + draw.expovariate(load * SIZE / USE)) < end:
        if at > loop.time():
            await asyncio.sleep(at - loop.time())
        yield uses.draw(draw, use)
    await asyncio.sleep(end - loop.time())
