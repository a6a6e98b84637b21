"""Traffic by day and night: how many connections stay open, by `max_idle`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, tau

from aiopool import Pool

from .fleet import Fleet, Lends, Load, simulate
from .restart import PLAIN
from .server import Conn, Dialler, Server

USERS = 20
HOLD = 1.0
NIGHT, NOON = 0.2, 5.0  # connections of a process in use
DAYS = 2


@dataclass(frozen=True, slots=True)
class Day:
    """What came of a `max_idle`, in connections of one process (the mean of all)."""

    max_idle: float | None
    length: float  # of a day, in seconds
    processes: int
    open: Sequence[float]  # a hundred a day
    in_use: Sequence[float]  # those in use, by Little's law
    dials: int  # of all processes in the last day
    requests: int  # likewise

    @property
    def last_day(self) -> Sequence[float]:
        """What was open in the last day."""
        return self.open[-100:]


def day(max_idle: float | None, length: float, processes: int, seed: int) -> Day:
    """Simulate some days of so many seconds."""
    return simulate(partial(_day, max_idle, length, processes, seed), seed)


async def _day(max_idle: float | None, length: float, processes: int, seed: int) -> Day:
    server = Server(PLAIN)

    def make(dialler: Dialler) -> Lends:
        # Lives end by the hour of real days, not by that of these.
        pool: Pool[Conn] = Pool(dialler, max_idle=max_idle, max_lifetime=None, max_size=USERS)
        return pool

    fleet = Fleet(processes, [server], make, seed)
    load = Load(USERS, HOLD, 1.0)
    open_, in_use = list[float](), list[float]()
    dials = requests = 0
    for step in range(DAYS * 100):
        wanted = NIGHT + (NOON - NIGHT) * (1 - cos(tau * step / 100)) / 2
        load.think = HOLD * (USERS / wanted - 1)
        if step == 0:
            fleet.start(load)
        if step == (DAYS - 1) * 100:
            dials, requests = server.dials, fleet.served
        await asyncio.sleep(length / 100)
        open_.append(server.open / processes)
        in_use.append(wanted)
    result = Day(
        max_idle, length, processes, open_, in_use, server.dials - dials, fleet.served - requests
    )
    await fleet.close()
    return result
