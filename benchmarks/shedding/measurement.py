"""The service on a real Redis server, in real time."""

import asyncio
import random

from aiopool import RedisPool
from aiopool._cli._redis_server import redis_server

from .service import DEADLINE, SIZE, USE, Service, Tally, Uses, steady
from .simulation import Outcome

WARM_UP = 1.5
LASTS = 3.0


def measure(load: float, uses: Uses, *, shed: bool, seed: int) -> Outcome:
    """Measure one, on a server of its own."""
    # It looks for those whose time is over so many times a second.
    with redis_server("--hz", "500") as url:
        return asyncio.run(_measure(url, load, uses, shed=shed, seed=seed))


async def _measure(url: str, load: float, uses: Uses, *, shed: bool, seed: int) -> Outcome:
    draw = random.Random(seed)  # noqa: S311 - it shall repeat
    async with RedisPool(url, max_size=SIZE, timeout=DEADLINE, shed=shed) as pool:
        client = pool.client()

        async def serve(use: float) -> None:
            # Waits at the server, which has nothing there to give. (Not for ever, as 0 would.)
            await client.blpop("nothing", max(use, 0.001))

        service = Service(serve)
        await service.take(steady(load, uses, WARM_UP, draw))
        service.tally = counted = Tally()
        await service.take(steady(load, uses, LASTS, draw))
        await service.all_done()
        return Outcome(counted, len(counted.served) / (LASTS * SIZE / USE), pool.stats().opened)
