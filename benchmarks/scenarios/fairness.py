"""Ten times as many tasks as connections, each of which asks again at once: who waits for how long?

A connection is held for a millisecond. In a fair line everybody waits for as long as everybody else.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from time import perf_counter

from benchmarks.contender import Contender, Place
from benchmarks.contenders import LENDERS
from benchmarks.measure import CONNECTIONS, Case, Effort, Sample, Scenario, Turn, percentiles

from .names import number_of_tasks

_HELD = 0.001


@asynccontextmanager
async def _opened(
    contender: Contender, url: str, *, tasks: int, seconds: float
) -> AsyncGenerator[Turn]:
    async with contender.lend(Place(url, CONNECTIONS), tasks) as lender:

        async def one(end: float) -> list[float]:
            waits: list[float] = []
            while (begin := perf_counter()) < end:
                connection = await lender.acquire()
                waits.append(perf_counter() - begin)
                await asyncio.sleep(_HELD)
                await lender.release(connection)
            return waits

        async def turn() -> Sample:
            end = perf_counter() + seconds
            each = await asyncio.gather(*(one(end) for _ in range(tasks)))
            waits = [wait for some in each for wait in some]
            lendings = [len(some) for some in each]
            middle, at = median(waits), percentiles(waits)
            return Sample(
                at["99"],
                waits=waits,
                counts={
                    "p99/median": at["99"] / middle,
                    "max/median": at["100"] / middle,
                    "most/fewest lendings": max(lendings)
                    / max(1, min(lendings)),  # at least: some may have none
                },
            )

        yield turn


def _cases(effort: Effort) -> list[Case]:
    tasks = effort.pick(100, 100, 20)
    seconds = effort.pick(0.6, 0.3, 0.02)
    return [
        Case(
            number_of_tasks(tasks),
            tasks,
            LENDERS,
            partial(_opened, tasks=tasks, seconds=seconds),
        )
    ]


FAIRNESS = Scenario(
    "fairness",
    "wait at overload, 99th percentile",
    _cases,
    wanted=lambda setting: setting.hiredis,  # nothing is parsed
)
