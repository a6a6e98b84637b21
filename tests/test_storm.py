"""Random lives on the jumping clock, with the rules checked in every turn of the loop.

Each seed is a pool with random options, a server of random moods and a crowd of random callers; two
of three also run what is ready in any order. A seed that fails is named in the test's output; replay
it alone with `AIOPOOL_SEED=<seed> pytest tests/test_storm.py`. `AIOPOOL_SEEDS` says how many there are;
else there are a thousand, which are others on the next version of Python.
"""

import asyncio
import errno
import os
import sys
from collections import Counter
from random import Random

import pytest
from clock import JumpingLoop, turns
from fakes import Conn, FakeConnector, Mortal, check_rules, fails, goes, never, slow

from aiopool import Pool, PoolClosed, PoolTimeout, TooManyWaiters

FIRST = 1000 * (sys.version_info.minor % 3)
SEEDS = range(FIRST, FIRST + 1000)
if "AIOPOOL_SEEDS" in os.environ:
    SEEDS = range(int(os.environ["AIOPOOL_SEEDS"]))
if "AIOPOOL_SEED" in os.environ:
    SEEDS = range(int(os.environ["AIOPOOL_SEED"]), int(os.environ["AIOPOOL_SEED"]) + 1)
CHUNKS = 20


class Hopeless(Exception):
    """An error that no second try would mend."""


class Storm:
    """One seed: callers, a moody server, and an operator who turns every knob."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        draw = self.random
        max_size = draw.randint(1, 6)
        self.connector = FakeConnector()
        self.pool: Pool[Conn] = Pool(
            self.connector,
            max_size=max_size,
            min_size=draw.randint(0, max_size),
            timeout=draw.choice([None, 0.0, 0.05, 1.0, 5.0]),
            max_waiting=draw.choice([None, None, 0, 3]),
            max_idle=draw.choice([None, 0.5, 300.0]),
            max_lifetime=draw.choice([None, 2.0, 3600.0]),
            check_after=draw.choice([None, 0.0, 0.2, 30.0]),
            max_opening=draw.randint(1, 4),
        )
        if draw.random() < 0.5:
            self.pool._policy = Mortal()
        self.users: Counter[Conn] = Counter()
        self.outcomes: Counter[str] = Counter()

    def mood(self) -> None:
        """Change how the server behaves from now on."""
        draw = self.random
        moods = [
            goes,
            goes,
            slow(draw.random()),
            fails(after=draw.random() / 10),
            fails(Hopeless()),
            fails(OSError(errno.EMFILE, "Too many open files")),
            never,
        ]
        self.connector.opens.usual = draw.choice(moods)
        self.connector.checks.usual = draw.choice(moods)
        if draw.random() < 0.3:
            for conn in self.connector.live:
                conn.broken = conn.broken or draw.random() < 0.5

    async def call(self) -> None:
        """Acquire, use, release; note how it ended."""
        draw = self.random
        timeout = draw.choice([..., ..., None, 0.0, draw.random()])
        try:
            conn = await self.pool.acquire(timeout=timeout)
        except (PoolTimeout, TooManyWaiters, PoolClosed, Hopeless, OSError) as error:
            self.outcomes[type(error).__name__] += 1
            return
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
            raise
        self.users[conn] += 1
        assert self.users[conn] == 1, "lent twice"
        try:
            await asyncio.sleep(draw.choice([0, 0, draw.random(), draw.random() / 100]))
            conn.broken = conn.broken or draw.random() < 0.1
            self.outcomes["used"] += 1
        finally:
            self.users[conn] -= 1
            await self.pool.release(conn)

    async def operate(self) -> None:
        """Do what an operator may do at any time."""
        draw = self.random
        match draw.randint(0, 9):
            case 0:
                self.pool.drain()
            case 1:
                max_size = draw.randint(1, 6)
                self.pool.resize(max_size=max_size, min_size=draw.randint(0, max_size))
            case 2:
                size = draw.randint(0, self.pool.stats().max_size)
                tasks = [asyncio.create_task(self.pool.warm(size))]
                await turns(draw.randint(0, 3))
                tasks[0].cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            case 3:
                if self.pool._serving is not None:
                    self.pool._serving.recheck()
            case _:
                self.mood()

    async def run(self) -> None:
        """Let the storm blow, then calm down and see that nothing is lost."""
        draw = self.random
        callers: list[asyncio.Task[None]] = []
        for _ in range(draw.randint(20, 80)):
            action = draw.random()
            if action < 0.6:
                callers.append(asyncio.create_task(self.call()))
            elif action < 0.8 and callers:
                victim = draw.choice(callers)
                victim.cancel()
                if draw.random() < 0.3:
                    await turns(draw.randint(0, 2))
                    victim.cancel()
            else:
                await self.operate()
            await asyncio.sleep(draw.choice([0, 0, 0, 0.001, draw.random() / 3]))

        if draw.random() < 0.3:  # close in the midst of it
            await self.close()
            await self.finish(callers)
        else:
            self.connector.opens.usual = self.connector.checks.usual = goes
            await asyncio.sleep(60.0)  # for what hangs
            await self.finish(callers)
            await self.every_slot_can_be_lent()
            await self.close()
        self.nothing_is_left()

    async def finish(self, callers: list[asyncio.Task[None]]) -> None:
        results = await asyncio.gather(*callers, return_exceptions=True)
        for result in results:
            assert result is None or isinstance(result, asyncio.CancelledError), repr(result)

    async def every_slot_can_be_lent(self) -> None:
        stats = self.pool.stats()
        assert (stats.lent, stats.waiting) == (0, 0), stats
        conns = await asyncio.gather(
            *(self.pool.acquire(timeout=2.0) for _ in range(stats.max_size))
        )
        assert len(set(conns)) == stats.max_size
        for conn in conns:
            await self.pool.release(conn)

    async def close(self) -> None:
        closing = asyncio.create_task(self.pool.aclose(timeout=self.random.choice([0, 0.1, 5.0])))
        await turns(self.random.randint(0, 4))
        if self.random.random() < 0.5:
            closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)
        await self.pool.aclose(timeout=0)

    def nothing_is_left(self) -> None:
        stats = self.pool.stats()
        assert (stats.size, stats.lent, stats.waiting) == (0, 0, 0), stats
        assert not self.connector.live, self.connector.live
        assert self.connector.opening == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


def blow(seed: int) -> Counter[str]:
    """Run one seed on a loop of its own."""
    storm = Storm(seed)
    schedule = Random(seed) if seed % 3 else None
    with asyncio.Runner(loop_factory=lambda: JumpingLoop(schedule)) as runner:
        loop = runner.get_loop()
        loop.watches.append(lambda: check_rules(storm.pool, storm.connector))
        try:
            runner.run(storm.run())
        except BaseException as error:
            loop.watches.clear()
            error.add_note(f"replay with AIOPOOL_SEED={seed}")
            raise
    return storm.outcomes


@pytest.mark.parametrize(
    "seeds",
    [SEEDS[chunk::CHUNKS] for chunk in range(min(CHUNKS, len(SEEDS)))],
    ids=lambda seeds: f"seeds {seeds.start},{seeds.start + seeds.step}..",
)
def test_in_a_storm_the_rules_hold_and_nothing_is_lost(seeds):
    for seed in seeds:
        blow(seed)


def test_the_storm_reaches_every_outcome():
    outcomes: Counter[str] = Counter()
    for seed in range(150):
        outcomes += blow(seed)
    for outcome in (
        "used",
        "cancelled",
        "PoolTimeout",
        "TooManyWaiters",
        "PoolClosed",
        "Hopeless",
    ):
        assert outcomes[outcome] > 10, outcomes
