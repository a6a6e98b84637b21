"""redis-py's own telemetry shows our pools as they are."""

import asyncio
import gc
import warnings

import pytest
from metrics import Telemetry
from redis.event import (
    AsyncAfterConnectionReleasedEvent,
    AsyncEventListenerInterface,
    EventDispatcher,
)
from servers import STRICT, Server, eventually

from aiopool import PoolTimeout, RedisPool


class Listener(AsyncEventListenerInterface):
    async def listen(self, event) -> None:  # noqa: ARG002 - the interface's
        await asyncio.sleep(0)


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.end()


async def test_the_counts_are_those_of_the_pool_at_every_moment(server: Server, telemetry):
    pool = RedisPool(server.url, max_size=3, max_idle=0.3, **STRICT)
    name = f"127.0.0.1:{server.port}_{pool._pool_id}"

    def agree() -> tuple[int, int]:
        stats = pool.stats()
        assert telemetry.counts(name) == (stats.idle, stats.lent)
        return stats.idle, stats.lent

    async with pool:
        assert agree() == (0, 0)
        await pool.warm(3)
        assert agree() == (3, 0)
        conns = [await pool.acquire() for _ in range(3)]
        assert agree() == (0, 3)
        waiting = asyncio.create_task(pool.acquire())
        await eventually(lambda: pool.stats().waiting, "it waits")
        await pool.release(conns[0])
        assert await waiting is conns[0]
        assert agree() == (0, 3)
        await conns[1].disconnect()
        await pool.release(conns[1])
        assert agree() == (0, 2)
        await pool.release(conns[0])
        assert agree() == (1, 1)
        await eventually(lambda: pool.stats().idle == 0, "the idle one is closed for its idleness")
        assert agree() == (0, 1)
        await pool.release(conns[2])
        pool.drain()
        assert agree() == (0, 0)
        await asyncio.gather(*(pool.client().ping() for _ in range(20)))
        agree()
    assert agree() == (0, 0)


async def test_also_of_what_listeners_hold_of_what_moves_and_of_what_is_dropped(
    server: Server, telemetry
):
    dispatcher = EventDispatcher({AsyncAfterConnectionReleasedEvent: [Listener()]})
    pool = RedisPool(server.url, event_dispatcher=dispatcher, **STRICT)
    name = f"127.0.0.1:{server.port}_{pool._pool_id}"
    stats = pool.stats
    async with pool.connection():
        assert telemetry.counts(name) == (0, 1)
    await eventually(lambda: stats().idle, "the listener has been told")
    assert telemetry.counts(name) == (1, 0)
    conn = pool.get_available_connection()
    assert telemetry.counts(name) == (0, 1)
    pool.connection_kwargs["host"] = "localhost"  # as during a move
    await pool.release(conn)
    await eventually(lambda: stats().idle, "the listener has been told")
    assert telemetry.counts(name) == (1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        pool = conn = stats = None
        gc.collect()
    assert telemetry.counts(name) == (0, 0)


async def test_times_timeouts_and_closings_are_recorded(server: Server, telemetry):
    async with RedisPool(server.url, max_size=1, **STRICT) as pool:
        name = f"127.0.0.1:{server.port}_{pool._pool_id}"
        async with pool.connection():
            with pytest.raises(PoolTimeout):
                await pool.acquire(timeout=0.01)
            waiting = asyncio.create_task(pool.acquire())
            await asyncio.sleep(0.02)
        await pool.release(await waiting)
    assert telemetry.sum("db.client.connection.timeouts", name) == 1
    assert telemetry.sum("redis.client.connection.closed") == 1
    waits = telemetry.histogram("db.client.connection.wait_time", name)
    assert waits.count == 2
    assert waits.max >= 0.01
    assert telemetry.histogram("db.client.connection.create_time", name).count == 1


async def test_two_pools_on_one_server_have_names_of_their_own(server: Server, telemetry):
    async with RedisPool(server.url, **STRICT) as one, RedisPool(server.url, **STRICT) as other:
        await one.warm(1)
        await other.warm(2)
        names = [f"127.0.0.1:{server.port}_{pool._pool_id}" for pool in (one, other)]
        assert [telemetry.counts(name) for name in names] == [(1, 0), (2, 0)]


async def test_without_telemetry_nobody_listens(server: Server):
    async with RedisPool(server.url, **STRICT) as pool:
        await pool.client().ping()
        events = pool._core._places.events
        assert (events.lent, events.returned, events.checked, events.waiting) == ((),) * 4
