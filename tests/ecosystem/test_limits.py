"""limits: its storage takes `connection_pool`."""

import asyncio

import pytest
from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    SlidingWindowCounterRateLimiter,
)
from servers import Server
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


# No connection is held between commands, so one will do.
@pytest.fixture(params=[1, 3])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


@pytest.fixture
def storage(pool: RedisPool, server: Server) -> RedisStorage:
    return RedisStorage(f"async+{server.url}", implementation="redispy", connection_pool=pool)


@pytest.mark.parametrize(
    "strategy",
    [FixedWindowRateLimiter, MovingWindowRateLimiter, SlidingWindowCounterRateLimiter],
)
async def test_of_many_at_once_exactly_as_many_pass_as_may(
    strategy, storage: RedisStorage, pool: RedisPool
) -> None:
    limiter = strategy(storage)
    limit = parse("37/hour")
    passed = await asyncio.gather(*(limiter.hit(limit, "user") for _ in range(200)))
    assert sum(passed) == 37
    assert (await limiter.get_window_stats(limit, "user")).remaining == 0
    assert await limiter.hit(limit, "somebody else")
    await limiter.clear(limit, "user")
    assert await limiter.test(limit, "user")
    assert nobody_went_without(pool)


async def test_a_moving_window_moves(storage: RedisStorage) -> None:
    limiter = MovingWindowRateLimiter(storage)
    limit = parse("2/second")
    assert [await limiter.hit(limit) for _ in range(3)] == [True, True, False]

    async def passes() -> None:
        while not await limiter.hit(limit):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)

    await asyncio.wait_for(passes(), 5)


async def test_who_is_cancelled_costs_the_others_nothing(
    storage: RedisStorage, pool: RedisPool
) -> None:
    limiter = MovingWindowRateLimiter(storage)
    limit = parse("50/hour")
    passed = await storm(lambda _: limiter.hit(limit, "user"))
    # What a cancelled task has asked for may have been counted all the same.
    assert 10 <= sum(passed) <= 50
    assert not await limiter.hit(limit, "user")
    assert nobody_went_without(pool)
