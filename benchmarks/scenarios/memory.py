"""How many bytes an idle connection takes, and a caller in line, as Python's allocator counts them.

An idle connection of redis-py's class counts with its transport, buffers and parser, and one of
`aiopool.Pool` with nothing but the pool's own books. A caller counts with its task. What hiredis or the
kernel allocate is not seen.
"""

import gc
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.contender import Contender, Place
from benchmarks.contenders import LENDERS
from benchmarks.measure import CONNECTIONS, Case, Effort, Sample, Scenario, Turn

from .mass_cancel import everybody_waits


@asynccontextmanager
async def _idle(contender: Contender, url: str, *, number: int) -> AsyncGenerator[Turn]:
    async def turn() -> Sample:
        async with contender.lend(Place(url, number), number) as lender:
            before = _traced()
            connections = [await lender.acquire() for _ in range(number)]
            while connections:
                await lender.release(connections.pop())
            return Sample((_traced() - before) / number)

    yield _tracing(turn)


@asynccontextmanager
async def _waiting(contender: Contender, url: str, *, number: int) -> AsyncGenerator[Turn]:
    async with contender.lend(Place(url, CONNECTIONS), number) as lender:

        async def turn() -> Sample:  # not the first: the connections are open
            before = _traced()
            async with everybody_waits(lender, number):
                return Sample((_traced() - before) / number)

        yield _tracing(turn)


def _tracing(turn: Turn) -> Turn:
    async def traced() -> Sample:
        tracemalloc.start()
        try:
            return await turn()
        finally:
            tracemalloc.stop()

    return traced


def _traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _cases(effort: Effort) -> list[Case]:
    idle = effort.pick(200, 100, 10)
    waiting = effort.pick(10_000, 1000, 50)
    return [
        Case("an idle connection", idle, LENDERS, partial(_idle, number=idle), unit="B"),
        Case("a caller in line", waiting, LENDERS, partial(_waiting, number=waiting), unit="B"),
    ]


MEMORY = Scenario(
    "memory",
    "memory",
    _cases,
    wanted=lambda setting: setting.hiredis and setting.loop == "asyncio",  # uvloop's can't be seen
)
