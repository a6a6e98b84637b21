"""fastapi-cache2: its backend takes a client."""

import asyncio
from itertools import count

import pytest
from fastapi_cache import FastAPICache
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from servers import Server, eventually
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


# It holds no connection between commands, so one will do.
@pytest.fixture(params=[1, 2])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool):
    pool = make_pool(max_size=request.param)
    FastAPICache.init(RedisBackend(pool.client()), prefix="cached")
    yield pool
    FastAPICache.reset()


async def test_a_decorated_function_is_called_anew_when_its_result_has_expired(
    pool: RedisPool, server: Server
) -> None:
    calls = count(1)

    @cache(expire=1)
    async def answer(number: int) -> int:
        return number * 10 + next(calls)

    assert [await answer(1), await answer(1), await answer(2)] == [11, 11, 22]
    await eventually(lambda: not server.run("KEYS", "cached:*"), "all have expired")
    assert await answer(1) == 13
    await FastAPICache.clear(namespace="")
    assert not server.run("KEYS", "*")
    assert await answer(1) == 14
    assert nobody_went_without(pool)


async def test_many_tasks_take_turns_with_few_connections(pool: RedisPool) -> None:
    @cache(expire=60)
    async def answer(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    async def through(number: int) -> bool:
        return await answer(number % 50) == number % 50 * 2

    results = await storm(through)
    assert len(results) >= 160
    assert all(results)
    assert nobody_went_without(pool)
