"""Lend a connection and give it back, without any I/O: what the pool itself costs.

With more than one task each holds its connection for a turn of the event loop, so that there is a
line where there are more tasks than connections.
"""

from asyncio import sleep
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.contender import Contender, Place
from benchmarks.contenders import LENDERS
from benchmarks.measure import CONNECTIONS, Case, Effort, Scenario, Turn, repeated

from .names import number_of_tasks

_LENDINGS = 10  # of each task at least, so that what is measured is not how tasks begin and end


@asynccontextmanager
async def _opened(
    contender: Contender, url: str, *, tasks: int, effort: Effort
) -> AsyncGenerator[Turn]:
    async with contender.lend(Place(url, CONNECTIONS), tasks) as lender:
        acquire, release = lender.acquire, lender.release

        async def at_once(times: int, _: list[float]) -> None:
            for _unused in range(times):
                connection = await acquire()
                await release(connection)

        async def hold(times: int, _: list[float]) -> None:
            for _unused in range(times):
                connection = await acquire()
                await sleep(0)
                await release(connection)

        yield repeated(tasks, effort.seconds, at_once if tasks == 1 else hold, _LENDINGS)


def _cases(effort: Effort) -> list[Case]:
    sizes = effort.pick((1, 10, 100, 1000, 10_000), (1, 100, 1000), (1, 20))
    return [
        Case(
            number_of_tasks(tasks),
            tasks,
            LENDERS,
            partial(_opened, tasks=tasks, effort=effort),
            warm_ups=2,  # the first opens the connections, so it can't tell how fast it goes
        )
        for tasks in sizes
    ]


LEND = Scenario(
    "lend",
    "lend and give back, no I/O",
    _cases,
    wanted=lambda setting: setting.hiredis,  # nothing is parsed
)
