"""The service on real pools, with a clock that jumps."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias
from unittest.mock import patch

from aiopool import Pool
from benchmarks.scaling.fleet import simulate

from .service import CONSTANT, DEADLINE, EXPONENTIAL, SIZE, USE, Service, Tally, Uses, steady

OPENING = 0.002  # seconds
WARM_UP = 3.0  # seconds, which don't count: until the line has the length that it will have
LASTS = 10.0


class Conn:
    """A connection, of no use any more once a use of it was cut off: its reply would come next."""

    alive = True


class Opener:
    """An `aiopool.Connector`."""

    def __init__(self) -> None:
        self.opened = 0

    async def open(self) -> Conn:
        """Connect."""
        self.opened += 1
        await asyncio.sleep(OPENING)
        return Conn()

    async def check(self, _conn: Conn, /) -> None:
        """Find it good."""

    def is_usable(self, conn: Conn, /) -> bool:
        """Look."""
        return conn.alive

    def close(self, _conn: Conn, /) -> None:
        """Do nothing."""


async def _serve(pool: Pool[Conn], use: float) -> None:
    async with pool.connection() as conn:
        try:
            await asyncio.sleep(use)
        except asyncio.CancelledError:
            conn.alive = False
            raise


@dataclass(frozen=True, slots=True)
class Rule:
    """With `shed` or without, and with what changed."""

    name: str
    shed: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)  # of `_load`

    def applied(self) -> ExitStack:
        """Have the changes made for the length of a `with` block."""
        with ExitStack() as stack:
            for name, value in self.changes.items():
                stack.enter_context(patch(f"aiopool._load.{name}", value))
            return stack.pop_all()


WITHOUT = Rule("`shed=False`", shed=False)
WITH = Rule("`shed=True`")
RULES = (
    WITHOUT,
    Rule("expected wait ≤ timeout", changes={"ROOM": 0}),
    Rule("room for 1 use more", changes={"ROOM": 1}),
    Rule("room for 2", changes={"ROOM": 2}),
    WITH,
    Rule("half of the timeout", changes={"ROOM": 1e9}),
    Rule("mean over 1 use of each", changes={"REMEMBERED": 1}),
    Rule("mean over 100", changes={"REMEMBERED": 100}),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    tally: Tally
    goodput: float  # requests served in time, as a share of what all connections can serve
    opened: int  # connections


@dataclass(frozen=True, slots=True)
class Moment:
    """One run, and what is there to make requests with."""

    service: Service
    pool: Pool[Conn]
    draw: random.Random
    uses: Uses


Story: TypeAlias = Callable[[Moment], AsyncIterator[float]]
"""Makes requests. What comes before the first `WARM_UP` seconds are over does not count."""


def at_load(load: float) -> Story:
    """Have so many times the requests that can be served."""

    async def story(run: Moment) -> AsyncIterator[float]:
        async for use in steady(load, run.uses, WARM_UP + LASTS, run.draw):
            yield use

    return story


def slowdown(before: float, then: float, load: float) -> Story:
    """Have uses take so many times as long for the first seconds, and then so many times as long."""

    async def story(run: Moment) -> AsyncIterator[float]:
        for seconds, slower in ((WARM_UP, before), (LASTS, then)):
            async for use in steady(load, run.uses, seconds, run.draw, slower * USE):
                yield use

    return story


async def bursts(run: Moment) -> AsyncIterator[float]:
    """Have 150 requests at once each second: all can be served in time, the last after 0.75 s."""
    for _ in range(round(WARM_UP + LASTS)):
        await asyncio.sleep(0.5)
        for _ in range(150):
            yield run.uses.draw(run.draw, USE)
        await asyncio.sleep(0.5)


async def subscribers(run: Moment) -> AsyncIterator[float]:
    """Have two connections held for good, and twice the requests that the others can serve."""

    async def subscribe() -> None:
        async with run.pool.connection():
            await asyncio.get_running_loop().create_future()

    held = [asyncio.create_task(subscribe()) for _ in range(2)]
    async for use in steady(2 * (SIZE - 2) / SIZE, run.uses, WARM_UP + LASTS, run.draw):
        yield use
    for task in held:
        task.cancel()


async def blocking_reads(run: Moment) -> AsyncIterator[float]:
    """Have six readers who keep a connection for five seconds at a time, beside few short requests."""

    async def read() -> None:
        while True:
            async with run.pool.connection(timeout=None):
                await asyncio.sleep(5.0)
            await asyncio.sleep(run.draw.expovariate(1.0))

    readers = [asyncio.create_task(read()) for _ in range(6)]
    async for use in steady(0.2, run.uses, WARM_UP + LASTS, run.draw):
        yield use
    for task in readers:
        task.cancel()


LOADS = (0.5, 0.9, 1.0, 1.5, 2.0, 4.0)
TROUBLES: Mapping[str, Story] = {
    "twice too much": at_load(2.0),
    "ten times slower": slowdown(1, 10, 0.5),
    "and back": slowdown(10, 1, 0.9),
    "bursts": bursts,
    "subscribers": subscribers,
    "blocking reads": blocking_reads,
}
USES = (EXPONENTIAL, CONSTANT)


def outcome(story: Story, uses: Uses, rule: Rule, seed: int, timeout: float = DEADLINE) -> Outcome:
    """Simulate one."""
    with rule.applied():
        return simulate(partial(_outcome, story, uses, rule, timeout, seed), seed)


async def _outcome(story: Story, uses: Uses, rule: Rule, timeout: float, seed: int) -> Outcome:
    opener = Opener()
    pool = Pool(opener, max_size=SIZE, timeout=timeout, shed=rule.shed)
    service = Service(partial(_serve, pool))
    run = Moment(service, pool, random.Random(seed), uses)  # noqa: S311 - it shall repeat
    counted = Tally()

    async def count() -> None:
        await asyncio.sleep(WARM_UP)
        service.tally = counted

    async with asyncio.TaskGroup() as group:
        group.create_task(count())
        group.create_task(service.take(story(run)))
    await service.all_done()
    await pool.aclose()
    return Outcome(counted, len(counted.served) / (LASTS * SIZE / USE), opener.opened)
