"""Everybody in line gives up at once, as when a service is shut down or its clients have all left."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks.contender import Contender, Lender, Place
from benchmarks.contenders import LENDERS
from benchmarks.measure import CONNECTIONS, Case, Effort, Sample, Scenario, Turn

_TURNS_TO_STAND_IN_LINE = 5  # of the event loop; one is enough for most


@asynccontextmanager
async def everybody_waits(
    lender: Lender, waiters: int
) -> AsyncGenerator[list["asyncio.Task[None]"]]:
    """Lend all connections, and have so many tasks wait for them in vain."""

    async def wait() -> None:
        await lender.acquire()

    held = [await lender.acquire() for _ in range(CONNECTIONS)]
    tasks = [asyncio.create_task(wait()) for _ in range(waiters)]
    for _ in range(_TURNS_TO_STAND_IN_LINE):
        await asyncio.sleep(0)
    try:
        yield tasks
    finally:
        await _cancel(tasks)
        for connection in held:
            await lender.release(connection)


async def _cancel(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@asynccontextmanager
async def _opened(contender: Contender, url: str, *, waiters: int) -> AsyncGenerator[Turn]:
    async with contender.lend(Place(url, CONNECTIONS), waiters) as lender:

        async def turn() -> Sample:
            begin = perf_counter()
            async with everybody_waits(lender, waiters) as tasks:
                all_wait = perf_counter()
                await _cancel(tasks)
                cancelling = perf_counter() - all_wait
            return Sample(
                cancelling / waiters,
                counts={"times their creation": cancelling / (all_wait - begin)},
            )

        yield turn


def _cases(effort: Effort) -> list[Case]:
    waiters = effort.pick(10_000, 2000, 50)
    name = f"{waiters:,} waiters"
    return [Case(name, waiters, LENDERS, partial(_opened, waiters=waiters))]


MASS_CANCEL = Scenario(
    "mass-cancel",
    "cancel all in line",
    _cases,
    wanted=lambda setting: setting.hiredis,  # nothing is parsed
)
