"""GET from a cluster: keys of all slots, one command after the other from many tasks."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from functools import partial
from itertools import cycle
from time import perf_counter

from benchmarks.cluster import KEYS, VALUE, Connections, cluster
from benchmarks.contender import Contender, Place
from benchmarks.contenders import CLUSTERED
from benchmarks.measure import CONNECTIONS, Case, Effort, Sample, Scenario, Turn, repeated

from .names import number_of_tasks

_LAPS = 5


@asynccontextmanager
async def _opened(
    contender: Contender, url: str, *, tasks: int, seconds: float
) -> AsyncGenerator[Turn]:
    # Who can't wait has what it needs for not having to, or it could hardly take part.
    size = CONNECTIONS if contender.waits else max(CONNECTIONS, tasks)
    with closing(Connections(url)) as connections:
        before = connections.made()
        async with contender.join(Place(url, size), tasks) as get:
            keys = cycle(KEYS)

            async def job(times: int, latencies: list[float]) -> None:
                for _ in range(times):
                    key = next(keys)
                    begin = perf_counter()
                    value = await get(key)
                    latencies.append(perf_counter() - begin)
                    if value != VALUE:
                        msg = f"{key} is {value!r}"
                        raise ValueError(msg)

            measure = repeated(tasks, seconds, job)
            opened = _difference(before, connections.made())

            async def turn() -> Sample:
                nonlocal opened
                before = connections.made()
                sample = await measure()
                in_turn = _difference(before, connections.made())
                opened = [sum(both) for both in zip(opened, in_turn, strict=True)]
                sample.counts = {"opened to a node": max(opened)}
                return sample

            yield turn


def _difference(before: list[int], after: list[int]) -> list[int]:
    return [b - a for a, b in zip(before, after, strict=True)]


def _cases(effort: Effort) -> list[Case]:
    return [_case(tasks, effort) for tasks in effort.pick((10, 100, 1000), (100,), (20,))]


def _case(tasks: int, effort: Effort) -> Case:
    laps = _LAPS if tasks <= effort.pick(100, 100, 0) else 1  # as in `get`
    return Case(
        number_of_tasks(tasks),
        tasks,
        CLUSTERED,
        partial(_opened, tasks=tasks, seconds=effort.seconds / laps),
        warm_ups=2,  # the first opens the connections, so it can't tell how fast it goes
        laps=laps,
        server=cluster,
    )


CLUSTER_GET = Scenario(
    "cluster-get",
    "GET of 32 bytes, cluster of 3",
    _cases,
    wanted=lambda setting: setting.hiredis,  # what a parser costs, `get` tells
)
