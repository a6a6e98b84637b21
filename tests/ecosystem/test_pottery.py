"""pottery: its Redlock for asyncio takes clients."""

import asyncio

import pytest
from pottery import AIORedlock
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


# It holds no connection between commands, so one will do.
@pytest.fixture(params=[1, 2])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


async def test_one_at_a_time_is_inside(pool: RedisPool) -> None:
    client = pool.client()
    inside = False

    async def through(_: int) -> bool:
        nonlocal inside
        async with AIORedlock(key="door", masters={client}, auto_release_time=10) as lock:
            assert not inside
            inside = True
            try:
                assert 9 < await lock.locked() <= 10
                await lock.extend()
            finally:
                inside = False
        return True

    assert await asyncio.gather(*map(through, range(5))) == [True] * 5
    assert nobody_went_without(pool)


async def test_many_tasks_take_turns_with_few_connections(pool: RedisPool) -> None:
    client = pool.client()

    async def through(number: int) -> bool:
        lock = AIORedlock(key=f"door-{number}", masters={client})
        assert await lock.acquire()
        assert await lock.locked()
        await lock.release()
        return not await lock.locked()

    results = await storm(through)
    assert len(results) >= 160
    assert all(results)
    assert nobody_went_without(pool)
