"""What a command costs, in what can be counted: see `tests/test_hot_path.py`."""

import pytest
from counting import asked_of_the_loop, calls_of
from redis.asyncio import Redis
from servers import HIREDIS

from aiopool import RedisPool


@pytest.fixture
async def pool(server):
    async with RedisPool(server.url, max_size=2, protocol=3, **HIREDIS) as pool:
        client = pool.client()
        await client.set("key", "value")
        await client.get("key")  # what is done but once is done
        yield pool


OF_THE_POOL = {
    "RedisPool.get_connection": 1,
    "Pool.acquire": 1,
    "Places.lend_idle": 1,
    "RedisPool.release": 1,
    "Pool.release": 1,
    "Places.take_back": 1,
    # A look at all of it, then at all but the socket.
    "RedisConnector.is_usable": 1,
    "Lean.may_be_lent": 1,
    "RedisConnector.is_clean": 1,
    "Lean.may_be_put_aside": 1,
    "Lean._is_in_order": 2,
    "Wire.quiet": 2,
    "Ledger.clean": 2,
}
OF_THE_CONNECTION = {
    "packed": 1,
    "noteworthy": 1,
    "Ledger.sent": 1,
    "Lean.read_response": 2,  # it suspends once
    "Wire.arrived": 1,
    "Wire.reply": 1,
    "Wire._wait": 1,
    "Wire.reschedule": 1,
    "Wire.data_received": 1,
    "Ledger.answered": 1,
}


async def test_a_get_by_the_pools_own_client(pool):
    client = pool.client()
    with calls_of("aiopool", "redis") as calls:
        assert await client.get("key") == b"value"
    assert calls == {
        **OF_THE_POOL,
        **OF_THE_CONNECTION,
        "Lean.send_now": 1,
        "Client.execute_command": 2,  # it suspends once
        # of redis-py:
        "BasicKeyCommands.get": 1,
        "CaseInsensitiveDict.get": 1,
        "ObservabilityInstance.is_enabled": 1,
        "get_observability_instance": 1,
    }


async def test_a_get_by_redis_pys_client(pool):
    client = Redis(connection_pool=pool)
    with calls_of("aiopool") as calls:
        assert await client.get("key") == b"value"
    assert calls == {
        **OF_THE_POOL,
        **OF_THE_CONNECTION,
        "Lean.pack_command": 1,
        "Lean.send_packed_command": 1,
        "Accountable._note": 1,
    }


@pytest.mark.parametrize("ours", [True, False])
async def test_a_get_takes_one_future_and_neither_task_nor_timer(pool, monkeypatch, ours):
    client = pool.client() if ours else Redis(connection_pool=pool)
    with asked_of_the_loop(monkeypatch) as asked:
        assert await client.get("key") == b"value"
    assert asked["futures"] + asked["create_future"] == 1
    assert asked["create_task"] == 0
    assert asked["call_at"] == 0


async def test_a_thousand_gets_in_a_row_take_no_more_timers_than_one(pool, monkeypatch):
    client = pool.client()
    with asked_of_the_loop(monkeypatch) as asked:
        for _ in range(1000):
            await client.get("key")
    assert asked["call_at"] <= 1
