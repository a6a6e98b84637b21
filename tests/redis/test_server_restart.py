"""A server that goes away and comes back: what callers get meanwhile and afterwards."""

import asyncio

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError
from servers import STRICT, Server, eventually

from aiopool import PoolTimeout, RedisPool


async def commands(pool: RedisPool, number: int = 200) -> None:
    client = pool.client()
    results = await asyncio.gather(*(client.echo(str(n)) for n in range(number)))
    assert results == [str(n).encode() for n in range(number)]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_restart_between_two_commands_is_not_felt(fresh_server: Server, wire, kind):
    url = fresh_server.url if kind == "tcp" else fresh_server.unix_url
    async with RedisPool(url, max_size=6, min_size=3, **STRICT, **wire) as pool:
        await pool.warm(6)
        await commands(pool)
        fresh_server.restart()  # the event loop does not run meanwhile
        await commands(pool)
        assert pool.stats().closed == {"lost": 6}
        assert pool.stats().open_failed == 0


async def test_a_restart_while_the_event_loop_runs_is_not_felt_afterwards(fresh_server: Server):
    async with RedisPool(fresh_server.url, max_size=6, **STRICT) as pool:
        await pool.warm(6)
        await asyncio.to_thread(fresh_server.restart)
        await commands(pool)
        assert pool.stats().closed == {"lost": 6}


async def test_a_crash_while_idle_is_not_felt_afterwards(fresh_server: Server):
    async with RedisPool(fresh_server.url, max_size=6, **STRICT) as pool:
        await pool.warm(6)
        fresh_server.kill()
        fresh_server.start()
        await commands(pool)


async def test_while_the_server_is_down_callers_get_redis_pys_error_without_delay(
    fresh_server: Server,
):
    async with RedisPool(fresh_server.url, max_size=4, timeout=60, **STRICT) as pool:
        await pool.warm(4)
        fresh_server.stop()
        client = pool.client()
        async with asyncio.timeout(20):
            results = await asyncio.gather(
                *(client.ping() for _ in range(50)), return_exceptions=True
            )
            for result in results:
                assert isinstance(result, RedisConnectionError)
                assert not isinstance(result, MaxConnectionsError)
                assert str(fresh_server.port) in str(result)
            # Nor is it remembered: each caller's own attempt tells.
            with pytest.raises(RedisConnectionError):
                await pool.acquire()
        assert pool.stats().size == 0
        fresh_server.start()
        await commands(pool)


async def test_with_the_default_retry_a_short_timeout_names_the_connection_error_as_its_cause(
    fresh_server: Server,
):
    async with RedisPool(fresh_server.url, timeout=0.3) as pool:
        await commands(pool)
        fresh_server.stop()
        with pytest.raises(PoolTimeout, match=r"no connection within 0\.3 s") as error:
            await pool.client().ping()
        cause = error.value.__cause__
        assert isinstance(cause, RedisConnectionError)
        assert not isinstance(cause, MaxConnectionsError)
        assert str(fresh_server.port) in str(cause)


async def test_callers_who_wait_during_a_short_restart_are_served_once_it_is_back(
    fresh_server: Server,
):
    # Retries enough that a slow machine can't use them up.
    retry = Retry(NoBackoff(), 1000)
    async with RedisPool(fresh_server.url, max_size=4, timeout=60, retry=retry) as pool:
        await pool.warm(4)
        fresh_server.stop()
        waiting = asyncio.create_task(commands(pool, 50))
        await eventually(lambda: pool.stats().open_failed >= 2, "it was tried in vain")
        assert pool.stats().waiting == 50
        # One at a time finds out whether the server is back.
        assert pool.stats().opening <= 1
        fresh_server.start()
        async with asyncio.timeout(30):
            await waiting
        assert pool.stats().timed_out == 0


async def test_the_default_retry_bridges_a_short_restart(fresh_server: Server):
    async with RedisPool(fresh_server.url, timeout=60) as pool:
        await pool.warm(4)
        fresh_server.stop()
        waiting = asyncio.create_task(commands(pool, 50))
        await eventually(lambda: pool.stats().open_failed >= 1, "it was tried in vain")
        await asyncio.to_thread(fresh_server.start)
        async with asyncio.timeout(30):
            await waiting


async def test_a_crash_under_load_costs_the_commands_under_way_and_no_more(
    fresh_server: Server, wire
):
    async with RedisPool(fresh_server.url, max_size=4, timeout=60, **STRICT, **wire) as pool:
        client = pool.client()
        under_way = [asyncio.create_task(client.blpop(["list"], timeout=60)) for _ in range(4)]
        await eventually(
            lambda: len([c for c in fresh_server.clients() if "b" in c["flags"]]) == 4,
            "four are blocked",
        )
        fresh_server.kill()
        fresh_server.start()
        async with asyncio.timeout(30):
            for result in await asyncio.gather(*under_way, return_exceptions=True):
                assert isinstance(result, RedisConnectionError)
            await commands(pool)
        assert pool.stats().lent == 0


async def test_the_clients_own_retry_mends_commands_under_way(fresh_server: Server):
    async with RedisPool(fresh_server.url, max_size=2, timeout=60) as pool:
        client = pool.client()
        under_way = asyncio.create_task(client.blpop(["list"], timeout=60))
        await eventually(
            lambda: [c for c in fresh_server.clients() if "b" in c["flags"]], "it is blocked"
        )
        fresh_server.restart()
        await eventually(
            lambda: [c for c in fresh_server.clients() if "b" in c["flags"]], "it is again"
        )
        await client.rpush("list", "item")
        assert await under_way == (b"list", b"item") or await under_way == [b"list", b"item"]
        assert pool.stats().lent == 0


async def test_after_one_call_min_size_is_reached_again_without_any_other(fresh_server: Server):
    async with RedisPool(fresh_server.url, max_size=4, min_size=3, check_after=0) as pool:
        await commands(pool)
        fresh_server.restart()
        await pool.client().ping()
        await eventually(lambda: len(fresh_server.clients()) >= 3, "three are open again")
        await eventually(lambda: pool.stats().size >= 3, "and counted")
