"""A burst of requests on a pool that is not open yet, as after a deployment."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks.contender import Contender, Place
from benchmarks.contenders import CLIENTS
from benchmarks.measure import Case, Effort, Sample, Scenario, Turn, together
from benchmarks.server import SMALL

from .names import number_of_tasks

_SIZE = 64


@asynccontextmanager
async def _opened(contender: Contender, url: str, *, tasks: int) -> AsyncGenerator[Turn]:
    async def turn() -> Sample:
        latencies: list[float] = []
        begin = perf_counter()
        async with contender.connect(Place(url, _SIZE), tasks) as client:
            opening = perf_counter() - begin  # of those that must connect first

            async def get() -> None:
                begin = perf_counter()
                await client.get(SMALL)
                latencies.append(perf_counter() - begin)

            return Sample((opening + await together(tasks, get)) / tasks, latencies)

    yield turn


def _cases(effort: Effort) -> list[Case]:
    tasks = effort.pick(10_000, 2000, 100)
    return [Case(number_of_tasks(tasks), tasks, CLIENTS, partial(_opened, tasks=tasks))]


BURST = Scenario(
    "burst",
    f"cold burst of GETs, {_SIZE} connections",
    _cases,
    wanted=lambda setting: setting.hiredis,  # it is about opening and waiting
)
