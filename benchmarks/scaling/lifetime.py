"""All connections have the same age: how many dials come at once when their lives end."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

from aiopool import Pool

from .fleet import DIAL, simulate
from .restart import PLAIN
from .server import Conn, Dialler, Processor, Server

LIFETIME = 3600.0  # the default
EACH = 5  # connections of a process
GENERATIONS = 3


@dataclass(frozen=True, slots=True)
class Expiry:
    """What came of a jitter."""

    jitter: float
    within: float  # seconds, in which all were opened
    processes: int
    worst: Sequence[int]  # dials in the worst second, of the n-th expiry
    by_minute: Mapping[float, int]  # dials a minute, by the minute since the beginning


def expiry(jitter: float, within: float, processes: int, seed: int) -> Expiry:
    """Simulate processes that open their connections within so many seconds and keep them open."""
    with patch("aiopool._limits.LIFETIME_JITTER", jitter):
        return simulate(partial(_expiry, jitter, within, processes, seed), seed)


async def _expiry(jitter: float, within: float, processes: int, seed: int) -> Expiry:
    now = asyncio.get_running_loop().time
    draw = random.Random(seed)  # noqa: S311 - it shall repeat
    server = Server(PLAIN, maxclients=10**9)
    began = now()

    async def deploy() -> Pool[Conn]:
        dialler = Dialler(server, Processor(DIAL))
        pool = Pool(dialler, max_lifetime=LIFETIME, min_size=EACH)
        await asyncio.sleep(draw.uniform(0, within))
        await pool.open()
        return pool

    pools = await asyncio.gather(*(deploy() for _ in range(processes)))
    await asyncio.sleep(began + LIFETIME * (GENERATIONS + 0.5) - now())
    worst = [
        server.most_dials(1.0, began + LIFETIME * (n - 0.5), began + LIFETIME * (n + 0.5))
        for n in range(1, GENERATIONS + 1)
    ]
    by_minute: Counter[float] = Counter()
    for bin_, dials in server.by_bin.items():
        by_minute[(bin_ / 100 - began) // 60] += dials
    for pool in pools:
        await pool.aclose(0)
    return Expiry(jitter, within, processes, worst, by_minute)
