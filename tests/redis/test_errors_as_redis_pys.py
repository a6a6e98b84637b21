"""The pool's errors are redis-py's too, so that code written for its pools catches them."""

import asyncio
import pickle

import pytest
import redis.exceptions
from servers import STRICT, eventually

import aiopool
from aiopool import RedisPool
from aiopool.redis._connector import RedisConnector


@pytest.fixture
async def busy(server):
    """A pool whose only connection is lent."""
    pool = RedisPool(server.url, max_size=1, max_waiting=1, name="busy", **STRICT)
    async with pool, pool.connection():
        yield pool


async def test_pool_timeout_is_a_max_connections_error_and_a_timeout_error(busy):
    with pytest.raises(aiopool.PoolTimeout) as caught:
        await busy.acquire(timeout=0.01)
    error = caught.value
    assert isinstance(error, redis.exceptions.MaxConnectionsError)
    assert isinstance(error, redis.exceptions.ConnectionError)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, aiopool.PoolError)
    assert str(error).startswith("no connection within 0.01 s (size=1/1, idle=0, lent=1, ")
    assert "longest lent" in str(error)
    assert "PoolTimeout" in repr(error)
    assert error.__cause__ is None


async def test_a_command_gets_the_pools_timeout_as_it_is(server):
    pool = RedisPool(server.url, max_size=1, timeout=0.01, **STRICT)
    async with pool, pool.connection(timeout=60):  # there is one to be opened first
        for attempt in (pool.client().ping, pool.client().pipeline().ping().execute):
            with pytest.raises(aiopool.PoolTimeout):
                await attempt()


async def test_too_many_waiters_is_a_max_connections_error(busy):
    waiting = asyncio.create_task(busy.acquire(timeout=60))
    await eventually(lambda: busy.stats().waiting, "it waits")
    with pytest.raises(aiopool.TooManyWaiters) as caught:
        await busy.client().ping()
    error = caught.value
    assert isinstance(error, redis.exceptions.MaxConnectionsError)
    assert isinstance(error, aiopool.PoolError)
    assert not isinstance(error, TimeoutError)
    assert str(error).startswith("max_waiting=1 callers wait already (size=1/1")
    assert "TooManyWaiters" in repr(error)
    waiting.cancel()


async def test_pool_closed_is_a_connection_error_but_no_max_connections_error(server):
    pool = RedisPool(server.url, name="closed one", **STRICT)
    await pool.open()
    await pool.client().ping()
    await pool.aclose()
    for attempt in (pool.acquire, pool.get_connection, pool.client().ping):
        with pytest.raises(aiopool.PoolClosed) as caught:
            await attempt()
        error = caught.value
        assert isinstance(error, redis.exceptions.ConnectionError)
        assert isinstance(error, aiopool.PoolError)
        assert not isinstance(error, redis.exceptions.MaxConnectionsError)
        assert "<RedisPool 'closed one' closed (" in str(error)
        assert "PoolClosed" in repr(error)


async def test_callers_in_line_get_pool_closed_at_once(busy):
    waiting = asyncio.create_task(busy.client().ping())
    await eventually(lambda: busy.stats().waiting, "it waits")
    closing = asyncio.create_task(busy.aclose(timeout=60))
    with pytest.raises(redis.exceptions.ConnectionError, match="closed"):
        await waiting
    assert not closing.done()
    closing.cancel()


async def test_an_opening_that_the_pool_finds_useless_is_redis_pys_error(server, monkeypatch):
    # It ended after its handshake, and before the pool could lend it.
    monkeypatch.setattr(RedisConnector, "is_usable", lambda _self, _conn: False)
    async with RedisPool(server.url, **STRICT) as pool:
        with pytest.raises(redis.exceptions.ConnectionError, match="of no use as soon as it was"):
            await pool.client().ping()


async def test_a_second_release_and_a_foreign_one_are_not_lent(server):
    async with RedisPool(server.url, **STRICT) as pool, RedisPool(server.url, **STRICT) as other:
        conn = await pool.acquire()
        with pytest.raises(aiopool.NotLent, match="has not lent this Connection"):
            await other.release(conn)
        await pool.release(conn)
        with pytest.raises(aiopool.NotLent):
            await pool.release(conn)
        assert await pool.client().ping()


@pytest.mark.parametrize("kind", ["PoolTimeout", "TooManyWaiters", "PoolClosed"])
def test_the_errors_can_be_made_shown_and_pickled_by_others(kind):
    policy = RedisPool()._policy
    classes = {
        "PoolTimeout": policy.timeout_error,
        "TooManyWaiters": policy.rejected_error,
        "PoolClosed": policy.closed_error,
    }
    error = classes[kind]("words")
    assert issubclass(classes[kind], getattr(aiopool, kind))
    assert str(error) == "words"
    assert kind in repr(error)  # redis-py's is not Python's usual one
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made two words before
    assert (type(again), str(again)) == (type(error), "words")
