"""cashews: `connection_pool_class` is RedisPool, or whatever has a `from_url` that gives a pool."""

import asyncio
from itertools import count

import pytest
from cashews import Cache
from servers import Server, eventually
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool

pytestmark = pytest.mark.filterwarnings(
    "ignore:Call to deprecated close:DeprecationWarning"  # redis-py's, of how cashews closes its client
)


# It holds no connection between commands, so one will do.
@pytest.fixture(params=[1, 2])
async def cache(request: pytest.FixtureRequest, server: Server, make_pool: MakePool):
    class Adopted(RedisPool):
        from_url = staticmethod(make_pool.adopting(RedisPool.from_url))

    cache = Cache()
    cache.setup(
        server.url,
        connection_pool_class=Adopted,
        max_connections=request.param,
        timeout=5.0,
        suppress=False,
    )
    await cache.init()
    yield cache
    assert all(nobody_went_without(pool) for pool in make_pool.pools)
    await cache.close()


async def test_a_decorated_function_is_called_anew_when_its_result_has_expired(
    cache: Cache, server: Server
) -> None:
    calls = count(1)

    @cache(ttl=0.2, key="answer:{number}")
    async def answer(number: int) -> tuple[int, int]:
        return number, next(calls)

    assert [await answer(1), await answer(1), await answer(2)] == [(1, 1), (1, 1), (2, 2)]
    await eventually(lambda: not server.run("KEYS", "answer:1"), "it has expired")
    assert await answer(1) == (1, 3)


async def test_a_result_is_renewed_early_while_the_old_one_is_given(cache: Cache) -> None:
    calls = count(1)

    @cache.early(ttl=10, early_ttl=0.1, key="answer")
    async def answer() -> int:
        return next(calls)

    assert [await answer(), await answer()] == [1, 1]
    while (got := await answer()) == 1:  # noqa: ASYNC110 - it takes the calls
        await asyncio.sleep(0.01)
    assert got == 2


async def test_of_many_at_once_one_computes(cache: Cache) -> None:
    calls = count(1)

    @cache(ttl=10, key="answer", lock=True)
    async def answer() -> int:
        await asyncio.sleep(0.01)
        return next(calls)

    assert await asyncio.gather(*(answer() for _ in range(50))) == [1] * 50


async def test_many_tasks_take_turns_with_few_connections(cache: Cache) -> None:
    async def through(number: int) -> bool:
        await cache.set_many({f"key-{number}": number, f"too-{number}": [number]}, expire=60)
        await cache.incr("together")
        async with cache.lock(f"lock-{number % 7}", expire=10, check_interval=0.01):
            return await cache.get_many(f"key-{number}", f"too-{number}") == (number, [number])

    results = await storm(through)
    assert len(results) >= 160
    assert all(results)
    assert await cache.incr("together", 0) >= len(results)


async def test_without_a_connection_a_decorated_function_is_called_and_the_log_says_why(
    server: Server, make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(max_size=1, timeout=0.05)

    class Shared:
        from_url = staticmethod(lambda url, **options: pool)  # noqa: ARG005 - the library's signature

    cache = Cache()
    cache.setup(server.url, connection_pool_class=Shared)  # and it suppresses errors
    await cache.init()

    @cache(ttl=10, key="answer")
    async def answer() -> int:
        return 42

    async with pool.connection():
        assert await asyncio.create_task(answer()) == 42
    assert "PoolTimeout: no connection within 0.05 s (size=1/1, idle=0, lent=1" in caplog.text
    await cache.close()
