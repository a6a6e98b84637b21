"""How many connections a server has: at rest, as usual, at the peak, and how fast they go again."""

import asyncio
from dataclasses import dataclass
from functools import partial

from aiopool import Pool

from .fleet import Fleet, Lends, Load, simulate
from .restart import PLAIN
from .server import Conn, Dialler, Server

# Few long requests stand for many short ones: how many connections are in use at a time depends only
# on the product of their rate and their length.
USUAL = Load(users=20, hold=1.0, think=19.0)
PEAK = Load(users=40, hold=1.0, think=0.25)  # besides the usual
WARM_UP = 10.0
PEAK_LASTS = 5.0
AFTER = (30.0, 60.0, 310.0)  # seconds after the peak


@dataclass(frozen=True, slots=True)
class SetUp:
    """What is there, and the options of the pools."""

    processes: int
    nodes: int = 1
    max_size: int = 10
    min_size: int = 0
    max_idle: float | None = 300.0


@dataclass(frozen=True, slots=True)
class Connections:
    """What there was on one server, the mean of the nodes if there are several."""

    setup: SetUp
    at_rest: float  # opened, and not used yet
    usual: float  # the most, while all was usual
    peak: float  # the most at all
    after: tuple[float, ...]  # so many seconds after the peak, see `AFTER`
    closed: int  # of all that were opened
    opened: int

    @property
    def bound(self) -> int:
        """How many there could be."""
        return self.setup.processes * self.setup.max_size


def connections(setup: SetUp, seed: int, *, look_on: bool = True) -> Connections:
    """Simulate a peak, and what comes after it if wanted."""
    return simulate(partial(_connections, setup, seed, AFTER if look_on else ()), seed)


async def _connections(setup: SetUp, seed: int, after: tuple[float, ...]) -> Connections:
    servers = [Server(PLAIN, maxclients=10**9) for _ in range(setup.nodes)]
    pools: list[Pool[Conn]] = []

    def make(dialler: Dialler) -> Lends:
        pool = Pool(
            dialler,
            max_size=setup.max_size,
            min_size=setup.min_size,
            max_idle=setup.max_idle,
        )
        pools.append(pool)
        return pool

    def mean(count: int) -> float:
        return count / setup.nodes

    fleet = Fleet(setup.processes, servers, make, seed)
    await asyncio.gather(*(pool.open() for pool in pools))
    at_rest = mean(sum(server.open for server in servers))
    fleet.start(USUAL)
    await asyncio.sleep(WARM_UP)
    usual = mean(sum(server.most for server in servers))
    fleet.start(PEAK)
    await asyncio.sleep(PEAK_LASTS)
    peak = mean(sum(server.most for server in servers))
    await fleet.stop()
    fleet.start(USUAL)
    seen: list[float] = []
    ended = asyncio.get_running_loop().time()
    for seconds in after:
        await asyncio.sleep(ended + seconds - asyncio.get_running_loop().time())
        seen.append(mean(sum(server.open for server in servers)))
    await fleet.close()
    stats = [pool.stats() for pool in pools]
    return Connections(
        setup=setup,
        at_rest=at_rest,
        usual=usual,
        peak=peak,
        after=tuple(seen),
        closed=sum(sum(each.closed.values()) for each in stats),
        opened=sum(each.opened for each in stats),
    )
