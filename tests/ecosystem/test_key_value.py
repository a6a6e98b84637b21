"""py-key-value: its store takes a client that decodes."""

import asyncio

import pytest
from key_value.aio.stores.redis import RedisStore
from servers import Server
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


# It holds no connection between commands, so one will do.
@pytest.fixture(params=[1, 2])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param, decode_responses=True)


@pytest.fixture
async def store(pool: RedisPool):
    async with RedisStore(client=pool.client()) as store:
        yield store
    assert nobody_went_without(pool)
    assert pool.stats().size > 0  # a client that was given to it is not closed


async def test_values_are_kept_for_their_time(store: RedisStore, server: Server) -> None:
    await store.put("key", {"some": "thing"}, ttl=100)
    await store.put("key", {"another": "thing"}, collection="others")
    assert await store.get("key") == {"some": "thing"}
    assert await store.get("key", collection="others") == {"another": "thing"}
    value, left = await store.ttl("key")
    assert value == {"some": "thing"}
    assert 99 < left <= 100
    assert sorted(server.run("TTL", key) > 0 for key in server.run("KEYS", "*")) == [False, True]
    assert await store.delete("key")
    assert await store.get("key") is None


async def test_many_tasks_take_turns_with_few_connections(store: RedisStore) -> None:
    async def through(number: int) -> bool:
        keys = [f"key-{number}", f"too-{number}"]
        values = [{"number": number}, {"number": -number}]
        await store.put_many(keys, values, ttl=60)
        return await store.get_many([*keys, "nothing"]) == [*values, None]

    results = await storm(through)
    assert len(results) >= 160
    assert all(results)
    assert all(await asyncio.gather(*map(through, range(10))))
