"""taskiq-redis: its broker and its result backend use the pool that is their attribute."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from servers import eventually
from taskiq import AsyncBroker
from taskiq.api import run_receiver_task
from taskiq.exceptions import SendTaskError
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker
from traffic import MakePool, nobody_went_without, storm

from aiopool import PoolTimeout, RedisPool

BROKERS = {"list": ListQueueBroker, "stream": RedisStreamBroker}


def pooled(kind: str, pool: RedisPool) -> AsyncBroker:
    """Make a broker with a result backend, both on this pool; theirs are never used, so they open nothing."""
    results = RedisAsyncResultBackend("redis://")
    results.redis_pool = pool
    options = {"xread_block": 50} if kind == "stream" else {}
    broker = BROKERS[kind]("redis://", **options).with_result_backend(results)
    broker.connection_pool = pool
    return broker


@asynccontextmanager
async def working(broker: AsyncBroker):
    await broker.startup()
    receiver = asyncio.create_task(run_receiver_task(broker))
    try:
        yield
    finally:
        receiver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiver
        await broker.shutdown()


@pytest.fixture(params=BROKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


# While it waits for the next task, the receiver holds a connection.
@pytest.fixture(params=[2, 3])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


async def test_tasks_are_run_and_their_results_come_back(kind: str, pool: RedisPool) -> None:
    broker = pooled(kind, pool)

    @broker.task
    async def double(number: int) -> int:
        if number == 7:
            raise ValueError(number)
        return number * 2

    async with working(broker):
        tasks = [await double.kiq(number) for number in range(10)]
        results = [await task.wait_result(check_interval=0.01, timeout=5) for task in tasks]
    assert [result.is_err for result in results] == [number == 7 for number in range(10)]
    assert [result.return_value for result in results if not result.is_err] == [
        number * 2 for number in range(10) if number != 7
    ]
    assert nobody_went_without(pool)


async def test_tasks_that_are_kept_waiting_or_given_up_cost_the_others_nothing(
    kind: str, pool: RedisPool
) -> None:
    broker = pooled(kind, pool)

    @broker.task
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    async def through(number: int) -> bool:
        task = await double.kiq(number)
        return (await task.wait_result(check_interval=0.05)).return_value == number * 2

    async with working(broker):
        results = await storm(through)
    assert len(results) >= 160
    assert all(results)
    assert nobody_went_without(pool)


async def test_on_one_connection_only_the_receiver_is_served(make_pool: MakePool) -> None:
    pool = make_pool(max_size=1, timeout=0.05)
    broker = pooled("list", pool)

    @broker.task
    async def double(number: int) -> int:
        return number * 2

    async with working(broker):
        await eventually(lambda: pool.stats().lent, "it waits for a task")
        with pytest.raises(SendTaskError) as raised:
            await double.kiq(1)
    assert isinstance(raised.value.__cause__, PoolTimeout)
    assert "size=1/1, idle=0, lent=1" in str(raised.value.__cause__)
