"""More processes than the server has room for: `maxclients` is reached."""

import asyncio
from dataclasses import dataclass
from functools import partial
from statistics import median

from .fleet import Fleet, Load, simulate
from .restart import PLAIN, Variant
from .server import Server

SIZE = {"max_size": 20}
OURS, NAIVE = Variant("aiopool", SIZE), Variant("naive", SIZE, naive=True)
LOAD = Load(users=30, hold=1.0, think=0.1)
LATE = Load(users=2, hold=0.05, think=0.2)
SETTLED = 3.0  # seconds, until the first storm is over
LASTS = 5.0


@dataclass(frozen=True, slots=True)
class Full:
    """What came of it."""

    variant: str
    processes: int
    maxclients: int
    open: int  # connections, the most there were
    turned_away_each_second: float
    dials_each_second: float
    served: int
    failed: int  # of the requests of those who came first
    longest_wait: float
    fewest: int  # connections of a process
    middle: float
    most: int
    late_served: int  # requests of processes that came when there was no room
    late_failed: int


def full(variant: Variant, processes: int, maxclients: int, seed: int) -> Full:
    """Simulate so many processes that could have more connections than `maxclients`."""
    with variant.applied():
        return simulate(partial(_full, variant, processes, maxclients, seed), seed)


async def _full(variant: Variant, processes: int, maxclients: int, seed: int) -> Full:
    server = Server(PLAIN, maxclients=maxclients)
    fleet = Fleet(processes, [server], variant.make, seed)
    late = Fleet(max(1, processes // 20), [server], variant.make, seed + 1)
    fleet.start(LOAD)
    await asyncio.sleep(SETTLED)
    dials, turned_away = server.dials, server.turned_away
    fleet.served = fleet.failed = 0
    fleet.longest = 0.0
    late.start(LATE)
    await asyncio.sleep(LASTS)
    sizes = [dialler.open_now for process in fleet.processes for dialler in process.diallers]
    result = Full(
        variant=variant.name,
        processes=processes,
        maxclients=maxclients,
        open=server.most,
        turned_away_each_second=(server.turned_away - turned_away) / LASTS,
        dials_each_second=(server.dials - dials) / LASTS,
        served=fleet.served,
        failed=fleet.failed,
        longest_wait=fleet.longest,
        fewest=min(sizes),
        middle=median(sizes),
        most=max(sizes),
        late_served=late.served,
        late_failed=late.failed,
    )
    await late.close()
    await fleet.close()
    return result
