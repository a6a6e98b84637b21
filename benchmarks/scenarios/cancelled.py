"""GET from many tasks, a tenth of which are cancelled at a random moment.

Each request is a task of its own, as in a web service whose clients hang up. A pool that loses
something by it shows errors, or becomes slow.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

from benchmarks.contender import Client, Contender, Place
from benchmarks.contenders import CLIENTS
from benchmarks.measure import CONNECTIONS, Case, Effort, Sample, Scenario, Turn, repeated
from benchmarks.server import SMALL

from .names import number_of_tasks

_TASKS = 100, 1000  # with the second, quick contenders have not answered before either
_SHARE = 0.1
_WITHIN = 0.01  # seconds: about as long as a request takes where so many share the connections
_TIMEOUT = 2.0  # for a connection, so that what is lost does not stop everything


@asynccontextmanager
async def _opened(
    contender: Contender, url: str, *, tasks: int, effort: Effort
) -> AsyncGenerator[Turn]:
    async with contender.connect(Place(url, CONNECTIONS, _TIMEOUT), tasks) as client:
        chance = Random(1)  # noqa: S311 - the same for all
        ends: Counter[str] = Counter()

        async def job(times: int, _: list[float]) -> None:
            for _unused in range(times):
                ends[await _request(client, chance)] += 1

        measure = repeated(tasks, effort.seconds, job)

        async def turn() -> Sample:
            ends.clear()
            sample = await measure()
            sample.counts = {
                "% cancelled": 100 * ends["cancelled"] / ends.total(),
                "errors": ends["error"],
            }
            return sample

        yield turn


async def _request(client: Client, chance: Random) -> str:
    async def get() -> None:
        await client.get(SMALL)

    request = asyncio.create_task(get())
    if chance.random() < _SHARE:
        asyncio.get_running_loop().call_later(chance.uniform(0, _WITHIN), request.cancel)
    await asyncio.wait([request])
    if request.cancelled():
        return "cancelled"
    return "answered" if request.exception() is None else "error"


def _cases(effort: Effort) -> list[Case]:
    return [
        Case(number_of_tasks(tasks), tasks, CLIENTS, partial(_opened, tasks=tasks, effort=effort))
        for tasks in effort.pick(_TASKS, _TASKS, (20,))
    ]


CANCELLED = Scenario(
    "cancelled",
    "GET, a tenth cancelled",
    _cases,
    wanted=lambda setting: setting.hiredis,  # it is about what the pool does
)
