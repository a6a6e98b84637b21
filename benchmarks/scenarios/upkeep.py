"""What 10,000 idle connections cost: the processor's time for their upkeep, and the lending beside them.

The clock of the event loop is turned to where the lifetimes of the connections end, one after the
other over six minutes, and each is replaced: the busiest time that there can be without any traffic.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from time import process_time

from aiopool import Pool
from benchmarks.contender import Contender, Lender, Place
from benchmarks.contenders import CORE
from benchmarks.contenders.ours import NothingConnector
from benchmarks.measure import Case, Effort, Sample, Scenario, Turn, repeated

_LIFETIME = 3600.0  # of which up to a tenth is taken off at random
_CATCH_UP = (
    0.5  # so long, as a part of what is measured, for those that end while the clock is turned
)


class _TurnedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be turned forward."""

    turned = 0.0

    def time(self) -> float:
        return super().time() + self.turned


async def _upkeep(number: int, seconds: float) -> Sample:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _TurnedLoop)  # noqa: S101 - for the type checkers
    pool = Pool(NothingConnector(), max_size=number, min_size=number, max_lifetime=_LIFETIME)
    async with pool:
        loop.turned = 0.9 * _LIFETIME
        await asyncio.sleep(_CATCH_UP * seconds)
        closed, begin, cpu = sum(pool.stats().closed.values()), loop.time(), process_time()
        await asyncio.sleep(seconds)
        replaced, cpu = sum(pool.stats().closed.values()) - closed, process_time() - cpu
        took = loop.time() - begin
    return Sample(cpu / took, counts={"replaced per second": replaced / took})


@asynccontextmanager
async def _kept(_: Contender, __: str, *, number: int, seconds: float) -> AsyncGenerator[Turn]:
    def work() -> Sample:  # in a thread, for the clock of the loop here must not be turned
        with asyncio.Runner(loop_factory=_TurnedLoop) as runner:
            return runner.run(_upkeep(number, seconds))

    yield lambda: asyncio.to_thread(work)


@asynccontextmanager
async def _beside(number: int, place: Place) -> AsyncGenerator[Lender]:
    async with Pool(NothingConnector(), max_size=number, timeout=place.timeout) as pool:
        await pool.warm(number)
        yield Lender(pool.acquire, pool.release)


@asynccontextmanager
async def _lent(contender: Contender, url: str, *, seconds: float) -> AsyncGenerator[Turn]:
    async with contender.lend(Place(url, 1), 1) as lender:
        acquire, release = lender.acquire, lender.release

        async def job(times: int, _: list[float]) -> None:
            for _unused in range(times):
                connection = await acquire()
                await release(connection)

        yield repeated(1, seconds, job)


def _cases(effort: Effort) -> list[Case]:
    number = effort.pick(10_000, 10_000, 100)
    beside = [
        replace(CORE, name=f"{CORE.name}, {idle:,} idle", lender=partial(_beside, idle))
        for idle in (10, number)
    ]
    seconds = effort.pick(2.0, 0.5, 0.02)
    return [
        Case(
            f"a second of upkeep of {number:,}",
            0,
            [CORE],
            partial(_kept, number=number, seconds=seconds),
        ),
        Case("acquire and release", 1, beside, partial(_lent, seconds=effort.seconds)),
    ]


UPKEEP = Scenario(
    "upkeep",
    "processor's time beside idle connections",
    _cases,
    wanted=lambda setting: setting.hiredis and setting.loop == "asyncio",  # its clock can be turned
)
