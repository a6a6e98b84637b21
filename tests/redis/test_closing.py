"""Closing while holders connect, subscribe or wait: nothing comes alive afterwards."""

import asyncio
import contextlib

import pytest
import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from servers import STRICT, Server, eventually

from aiopool import RedisPool


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_its_holder_connects_while_the_pool_is_closed_stays_closed(
    server: Server, turns
):
    pool = RedisPool(server.url, max_size=1, **STRICT)
    conn = pool.get_available_connection()
    connecting = asyncio.create_task(conn.connect())
    for _ in range(turns):
        await asyncio.sleep(0)
    await pool.aclose()
    (result,) = await asyncio.gather(connecting, return_exceptions=True)
    assert result is None or isinstance(result, redis.exceptions.ConnectionError)
    other = await pool.acquire()
    await pool.release(conn)
    await pool.release(other)
    await pool.aclose()
    await eventually(lambda: not server.clients(), "nothing is left on the server")


@pytest.mark.parametrize("turns", range(8))
async def test_who_reconnects_while_the_pool_is_closed_gets_an_error_of_redis_pys(
    server: Server, wire, turns
):
    pool = RedisPool(server.url, max_size=1, **STRICT, **wire)
    conn = await pool.acquire()
    await conn.disconnect()
    sending = asyncio.create_task(conn.send_command("PING"))
    for _ in range(turns):
        await asyncio.sleep(0)
    await pool.aclose()
    (result,) = await asyncio.gather(sending, return_exceptions=True)
    assert result is None or isinstance(result, redis.exceptions.ConnectionError)
    await pool.release(conn)
    await eventually(lambda: not server.clients(), "nothing is left on the server")


async def test_a_pool_closed_while_it_is_opened_by_hand_stays_closed(server: Server):
    pool = RedisPool(server.url, min_size=1, **STRICT)
    opening = asyncio.create_task(pool.open())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await pool.aclose()
    with pytest.raises(redis.exceptions.ConnectionError, match="closed"):
        await opening
    for _ in range(2):
        with pytest.raises(redis.exceptions.ConnectionError, match="is closed"):
            await pool.client().ping()
        await pool.aclose()


async def test_subscribers_of_two_lives_of_a_pool_can_be_closed(server: Server):
    pool = RedisPool(server.url, **STRICT)
    client = Redis(connection_pool=pool)
    subscribers = [client.pubsub() for _ in range(3)]
    for subscriber in subscribers:
        await subscriber.subscribe("news")
        await pool.aclose()
    for subscriber in subscribers:
        await subscriber.aclose()
    assert pool.stats().size == 0


async def test_a_command_under_way_fails_at_once_though_it_would_be_retried(server: Server):
    pool = RedisPool(server.url)
    client = pool.client()
    await client.ping()
    pool.set_retry(client.get_retry())
    waiting = asyncio.create_task(client.blpop("nothing", timeout=60))
    await eventually(lambda: any("b" in peer["flags"] for peer in server.clients()), "it waits")
    await pool.aclose()
    async with asyncio.timeout(1):
        with pytest.raises(redis.exceptions.ConnectionError):
            await waiting
    assert client.get_retry().get_retries() == 10
    assert await client.ping()
    await pool.aclose()


async def test_a_connection_taken_at_once_does_not_overtake_who_waits_for_a_check(server: Server):
    pool = RedisPool(server.url, max_size=2, check_after=0.0, **STRICT)
    async with pool:
        await pool.warm(2)
        waiting = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        assert (pool.stats().waiting, pool.stats().idle) == (1, 1)
        with pytest.raises(redis.exceptions.MaxConnectionsError):
            pool.get_available_connection()
        await pool.release(await waiting)
        conn = pool.get_available_connection()
        await pool.release(conn)


async def test_a_holder_that_goes_on_after_the_closing_leaves_no_connection_behind(server):
    pool = RedisPool(server.url)
    async with pool.connection() as conn:
        await pool.aclose(timeout=0)
        with contextlib.suppress(RedisError):
            await conn.send_command("PING")
            await conn.read_response()
    await eventually(lambda: not server.clients(), "its connection is closed", within=2)
    assert pool.stats().size == 0


async def test_a_command_that_is_tried_again_after_the_closing_leaves_no_connection_behind(server):
    pool = RedisPool(server.url, retry=Retry(NoBackoff(), 3))
    blocked = asyncio.create_task(pool.client().blpop(["list"], timeout=0.3))
    await eventually(
        lambda: any("b" in peer["flags"] for peer in server.clients()), "it is blocked"
    )
    await pool.aclose(timeout=0)
    with contextlib.suppress(RedisError):
        await blocked
    await eventually(lambda: not server.clients(), "its connection is closed", within=2)
    assert pool.stats().size == 0
