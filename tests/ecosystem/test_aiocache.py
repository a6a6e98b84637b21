"""aiocache: `connection_pool_class` is RedisPool, or a function that gives a pool which others share."""

import asyncio
from itertools import count

import pytest
from aiocache import Cache, cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock
from servers import Server, eventually
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool

pytestmark = pytest.mark.filterwarnings(
    "ignore:Call to deprecated close:DeprecationWarning"  # redis-py's, of how aiocache closes a client
)


@pytest.fixture(params=[1, 2])  # it holds no connection between commands, so one will do
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


@pytest.fixture
async def cache(pool: RedisPool):
    async with Cache(Cache.REDIS, connection_pool_class=lambda **_: pool) as cache:
        yield cache


async def test_a_decorated_function_is_called_anew_when_its_result_has_expired(
    pool: RedisPool, server: Server
) -> None:
    calls = count(1)

    @cached(ttl=0.2, key="answer", cache=Cache.REDIS, connection_pool_class=lambda **_: pool)
    async def answer() -> int:
        return next(calls)

    assert [await answer(), await answer()] == [1, 1]
    assert 0 < server.run("PTTL", "answer") <= 200
    await eventually(lambda: not server.run("EXISTS", "answer"), "it has expired")
    assert await answer() == 2
    assert nobody_went_without(pool)


async def test_it_can_make_the_pool_itself_and_close_it(
    server: Server, make_pool: MakePool
) -> None:
    cache = Cache(
        Cache.REDIS,
        endpoint=server.host,
        port=server.port,
        pool_max_size=3,
        connection_pool_class=make_pool.adopting(RedisPool),
        connection_pool_kwargs={"timeout": 2.0},
    )
    async with cache:
        assert await cache.set("key", {"some": "thing"})
        assert await cache.get("key") == {"some": "thing"}
        pool = cache.client.connection_pool
        assert (pool.stats().max_size, pool.stats().size) == (3, 1)
    assert pool.stats().size == 0


async def test_to_close_a_cache_on_a_view_leaves_the_pool_open(pool: RedisPool) -> None:
    view = pool.view(limit=1)
    async with Cache(Cache.REDIS, connection_pool_class=lambda **_: view) as cache:
        assert await cache.set("key", 1)
        assert view.stats().acquired == 1
    assert pool.stats().size == 1


async def test_whoever_meets_a_lock_gets_a_value_in_the_end(cache: Cache, pool: RedisPool) -> None:
    calls = count(1)

    async def computed(_: int) -> int:
        async with RedLock(cache, "key", lease=5):
            if (found := await cache.get("key")) is None:
                found = next(calls)
                await cache.set("key", found)
        return found

    # Mostly 1. But who has waited for the lock goes on without it: that is how aiocache has it.
    assert all(await asyncio.gather(*map(computed, range(50))))
    assert nobody_went_without(pool)


async def test_of_two_who_change_a_value_one_is_told(cache: Cache) -> None:
    await cache.set("key", "old")
    async with OptimisticLock(cache, "key") as one, OptimisticLock(cache, "key") as other:
        assert await one.cas("new")
        with pytest.raises(OptimisticLockError):
            await other.cas("newer")
    assert await cache.get("key") == "new"


async def test_many_tasks_take_turns_with_few_connections(cache: Cache, pool: RedisPool) -> None:
    async def through(number: int) -> bool:
        key = f"key-{number}"
        await cache.multi_set([(key, number), (f"{key}-too", number)], ttl=60)
        assert await cache.increment(key, 2) == number + 2
        return await cache.multi_get([key, f"{key}-too"]) == [number + 2, number]

    assert all(await storm(through))
    assert nobody_went_without(pool)


async def test_without_a_connection_a_decorated_function_is_called_and_the_log_says_why(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(max_size=1, timeout=0.05)

    @cached(key="answer", cache=Cache.REDIS, connection_pool_class=lambda **_: pool)
    async def answer() -> int:
        return 42

    async with pool.connection():
        assert await asyncio.create_task(answer()) == 42
    assert "PoolTimeout: no connection within 0.05 s (size=1/1, idle=0, lent=1" in caplog.text
