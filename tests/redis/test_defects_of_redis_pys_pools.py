"""What redis-py's own pools get wrong and ours gets right: one test each, run on both.

They are expected to fail on redis-py's. If redis-py mends one, that is an error here, so that the
guide can be mended too.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.exceptions
from metrics import Telemetry
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.auth.token import SimpleToken
from redis.observability.attributes import get_pool_name
from servers import Server, eventually, slow_port

from aiopool import RedisPool


def both(theirs: type[ConnectionPool], raises: Any = AssertionError) -> Any:
    """Run the test on a pool of redis-py's, where it fails in this way, and on ours."""
    failing = pytest.mark.xfail(strict=True, raises=raises, reason="a defect of redis-py's")
    return pytest.mark.parametrize("kind", [pytest.param(theirs, marks=failing), RedisPool])


@contextlib.asynccontextmanager
async def pool_of(
    kind: type[ConnectionPool], server: Server, **options: Any
) -> AsyncIterator[ConnectionPool]:
    # As most programs make one: by host and port, with the protocol left as it is.
    pool = kind(host="127.0.0.1", port=server.port, **options)
    try:
        yield pool
    finally:
        await pool.disconnect()
        await pool.aclose()


async def echo(pool: ConnectionPool, word: bytes) -> bytes:
    conn = await pool.get_connection()
    try:
        await conn.send_command("ECHO", word)
        return await conn.read_response()
    finally:
        await pool.release(conn)


@both(ConnectionPool, redis.exceptions.ConnectionError)
async def test_a_connection_that_the_server_closed_while_idle_is_not_lent(kind, server: Server):
    async with pool_of(kind, server) as pool:
        assert await echo(pool, b"before") == b"before"
        server.kill_clients()
        assert await echo(pool, b"after") == b"after"


@both(ConnectionPool)
async def test_a_reply_that_was_left_unread_is_not_the_next_users(kind, server: Server):
    async with pool_of(kind, server) as pool:
        conn = await pool.get_connection()
        await conn.send_command("ECHO", "stale")
        await pool.release(conn)
        assert await echo(pool, b"mine") == b"mine"


@both(BlockingConnectionPool)
async def test_a_release_that_is_cancelled_loses_no_slot(kind, server: Server):
    async with pool_of(kind, server, max_connections=5, timeout=0.1) as pool:
        conns = [await pool.get_connection() for _ in range(5)]
        await pool.update_active_connections_for_reconnect()
        releases = [asyncio.ensure_future(pool.release(conn)) for conn in conns]
        await asyncio.sleep(0)
        for release in releases:
            release.cancel()
        await asyncio.gather(*releases, return_exceptions=True)
        again = await asyncio.gather(
            *(pool.get_connection() for _ in range(5)), return_exceptions=True
        )
        assert [error for error in again if isinstance(error, Exception)] == []
        for conn in again:
            await pool.release(conn)


@both(ConnectionPool, RuntimeError)
async def test_a_connection_that_authenticates_anew_is_lent_to_nobody(kind, server: Server):
    server.run("ACL", "SETUSER", "renewed", "on", ">word", "~*", "+@all")
    async with pool_of(kind, server, max_connections=2) as pool:
        conn = await pool.get_connection()
        await pool.re_auth_callback(SimpleToken("word", -1, -1, {"oid": "renewed"}))
        with server.frozen():  # so that no answer comes before the other one asks
            release = asyncio.ensure_future(pool.release(conn))
            await asyncio.sleep(0.02)
            asking = asyncio.ensure_future(echo(pool, b"mine"))
            await asyncio.sleep(0.02)
        try:
            assert await asking == b"mine"
        finally:
            with contextlib.suppress(redis.exceptions.ConnectionError):
                await release
            server.run("ACL", "DELUSER", "renewed")


@both(BlockingConnectionPool)
async def test_a_task_that_takes_and_returns_in_a_loop_starves_nobody(kind, server: Server):
    async with pool_of(kind, server, max_connections=1, timeout=5) as pool:
        turns = 0
        hot_by_now = asyncio.Event()

        async def hot_loop() -> None:
            nonlocal turns
            for turns in range(1, 301):  # noqa: B007 - told to the other one
                conn = await pool.get_connection()
                await asyncio.sleep(0)
                await pool.release(conn)
                hot_by_now.set()

        hot = asyncio.create_task(hot_loop())
        await hot_by_now.wait()
        begun = turns
        conn = await pool.get_connection()
        overtaken = turns - begun
        await pool.release(conn)
        await hot
        assert overtaken <= 2


@both(BlockingConnectionPool)
async def test_the_counted_connections_are_those_there_are(kind, server: Server):
    telemetry = Telemetry()
    try:
        async with pool_of(kind, server) as pool:
            client = Redis(connection_pool=pool)
            for _ in range(20):
                await client.ping()
            assert telemetry.counts(get_pool_name(pool)) == (1, 0)
    finally:
        telemetry.end()


@both(BlockingConnectionPool)
async def test_a_peak_leaves_no_connections_behind_for_ever(kind, server: Server):
    # Nobody but ours has an option for it.
    options = {"max_idle": 0.2} if kind is RedisPool else {}
    async with pool_of(kind, server, max_connections=10, **options) as pool:
        conns = [await pool.get_connection() for _ in range(10)]
        for conn in conns:
            await pool.release(conn)
        assert len(server.clients()) == 10
        with contextlib.suppress(pytest.fail.Exception):
            await eventually(lambda: not server.clients(), "they are closed", within=1)
        assert server.clients() == []


@both(BlockingConnectionPool)
async def test_a_burst_does_not_open_a_connection_for_each_request(kind, server: Server):
    async with slow_port(server, 0.1) as port:
        pool = kind(host="127.0.0.1", port=port, max_connections=50, timeout=10)
        try:
            await asyncio.gather(*(echo(pool, b"%d" % number) for number in range(50)))
            assert len(server.clients()) <= 10
        finally:
            await pool.disconnect()
            await pool.aclose()


@both(BlockingConnectionPool)
async def test_who_waited_in_vain_is_told_why(kind, server: Server):
    async with pool_of(kind, server, max_connections=1, timeout=0.1) as pool:
        conn = await pool.get_connection()
        with pytest.raises(redis.exceptions.ConnectionError) as caught:
            await pool.get_connection()
        await pool.release(conn)
        assert "longest lent" in str(caught.value)
