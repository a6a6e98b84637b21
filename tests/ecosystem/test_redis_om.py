"""redis-om: a model's `database` is a client that decodes. What needs no module of the server works."""

import asyncio

import pytest
import redis.exceptions
from aredis_om import Field, HashModel, NotFoundError
from servers import Server
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


# It holds no connection between commands, so one will do.
@pytest.fixture(params=[1, 2])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param, decode_responses=True)


@pytest.fixture
def customers(pool: RedisPool):
    class Customer(HashModel, index=True):
        name: str = Field(index=True)
        age: int

        class Meta:
            database = pool.client()
            model_key_prefix = "customer"

    return Customer


async def test_a_model_is_saved_found_by_its_key_changed_and_deleted(
    customers, pool: RedisPool, server: Server
) -> None:
    ada = await customers(name="Ada", age=36).save()
    assert await customers.get(ada.pk) == ada
    await ada.update(age=37)
    assert (await customers.get(ada.pk)).age == 37
    assert [pk async for pk in await customers.all_pks()] == [ada.pk]
    await ada.expire(100)
    assert 99 <= server.run("TTL", ada.key()) <= 100
    await customers.delete(ada.pk)
    with pytest.raises(NotFoundError):
        await customers.get(ada.pk)
    assert nobody_went_without(pool)


async def test_searching_fails_as_the_server_says(customers) -> None:
    with pytest.raises(redis.exceptions.ResponseError, match="unknown command"):
        await customers.find(customers.name == "Ada").all()


async def test_many_tasks_take_turns_with_few_connections(customers, pool: RedisPool) -> None:
    async def through(number: int) -> bool:
        several = [customers(name=f"{number}-{n}", age=n) for n in range(3)]
        await customers.add(several)
        return await asyncio.gather(*(customers.get(one.pk) for one in several)) == several

    results = await storm(through, tasks=100)
    assert len(results) >= 80
    assert all(results)
    assert nobody_went_without(pool)
