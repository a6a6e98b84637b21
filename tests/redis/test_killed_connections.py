"""Connections that died while they were idle are nobody's trouble, not even for one command."""

import asyncio

import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import STRICT, Server, Talker, eventually, wait_blocking

from aiopool import RedisPool


async def commands(pool: RedisPool, each: int) -> None:
    """Send so many commands from each of 20 tasks."""
    client = pool.client()

    async def send(task: int) -> None:
        for number in range(each):
            word = f"{task}-{number}"
            assert await client.echo(word) == word.encode()

    await asyncio.gather(*(send(task) for task in range(20)))


async def idle_ones(pool: RedisPool, number: int) -> None:
    assert await pool.warm(number) == number
    client = pool.client()
    await asyncio.gather(*(client.echo("used") for _ in range(2 * number)))
    assert pool.stats().idle == number


async def test_a_kill_with_the_event_loop_blocked_till_the_next_command_is_not_felt(
    url, server: Server, wire
):
    async with RedisPool(url, max_size=8, **STRICT, **wire) as pool:
        await idle_ones(pool, 8)
        server.kill_clients()
        # No await since: that they are dead can only be seen on the sockets.
        await commands(pool, 50)
        assert pool.stats().closed == {"lost": 8}


async def test_a_kill_that_the_event_loop_saw_is_not_felt(url, server: Server, wire):
    async with RedisPool(url, max_size=8, **STRICT, **wire) as pool:
        await idle_ones(pool, 8)
        server.kill_clients()
        dead = list(pool._get_free_connections())
        await eventually(
            lambda: all(conn._reader.at_eof() for conn in dead), "the event loop saw it"
        )
        await commands(pool, 50)
        assert pool.stats().closed == {"lost": 8}


async def test_repeated_kills_under_load_of_idle_ones_only_are_not_felt(server: Server, wire):
    async with RedisPool(server.url, max_size=4, **STRICT, **wire) as pool:
        client = pool.client()
        for _ in range(20):
            await asyncio.gather(*(client.echo("x") for _ in range(8)))
            await eventually(lambda: pool.stats().opening == 0, "all are idle")
            server.kill_clients()
        assert await client.echo("mine") == b"mine"


async def test_pipelines_subscriptions_and_single_connections_begin_on_live_ones(server, wire):
    async with RedisPool(server.url, max_size=8, **STRICT, **wire) as pool:
        client = pool.client()
        for _ in range(3):
            await pool.warm(8)
            server.kill_clients()
            async with client.pipeline() as pipe:
                await pipe.watch("key")
                pipe.multi()
                assert await pipe.set("key", 1).get("key").execute() == [True, b"1"]
            await pool.warm(8)
            server.kill_clients()
            async with client.pubsub() as pubsub:
                await pubsub.subscribe("news")
                assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            await pool.warm(8)
            server.kill_clients()
            async with pool.client(single_connection_client=True) as single:
                assert await single.echo("mine") == b"mine"


@pytest.mark.parametrize("blocked", [True, False])
async def test_a_kill_through_tls_is_not_felt(server: Server, tls, blocked):
    async with RedisPool(tls.url, max_size=4, ssl_ca_data=tls.authority_pem, **STRICT) as pool:
        await idle_ones(pool, 4)
        server.kill_clients()
        wait_blocking(lambda: tls.open == 0, "the front has closed them")
        if not blocked:
            dead = list(pool._get_free_connections())
            await eventually(
                lambda: all(conn._reader.at_eof() for conn in dead), "the event loop saw it"
            )
        await commands(pool, 5)
        assert pool.stats().closed == {"lost": 4}


async def test_a_kill_while_lent_is_the_holders_error_and_nobody_elses(server: Server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        client = pool.client()
        blocked = asyncio.create_task(client.blpop(["list"], timeout=60))
        await eventually(
            lambda: [c for c in server.clients() if "b" in c["flags"]], "it is blocked"
        )
        next_one = asyncio.create_task(client.echo("mine"))
        server.kill_clients()
        with pytest.raises(RedisConnectionError):
            await blocked
        assert await next_one == b"mine"


async def test_where_two_are_killed_under_their_users_the_rest_of_their_age_is_dropped(
    server: Server, wire
):
    async with RedisPool(server.url, max_size=6, **STRICT, **wire) as pool:
        client = pool.client()
        await idle_ones(pool, 6)
        blocked = [asyncio.create_task(client.blpop(["list"], timeout=60)) for _ in range(2)]
        await eventually(
            lambda: len([c for c in server.clients() if "b" in c["flags"]]) == 2, "two are blocked"
        )
        for victim in server.clients():
            if "b" in victim["flags"]:
                server.run("CLIENT", "KILL", "ID", victim["id"])
        for result in await asyncio.gather(*blocked, return_exceptions=True):
            assert isinstance(result, RedisConnectionError)
        assert pool.stats().closed == {"lost": 6}
        await commands(pool, 10)


async def test_errors_that_the_server_replies_are_no_sign_of_a_restart(server: Server, wire):
    async with RedisPool(server.url, max_size=4, **STRICT, **wire) as pool:
        client = pool.client()
        await idle_ones(pool, 4)
        server.run("CONFIG", "SET", "requirepass", "other")
        try:
            for _ in range(2):  # redis-py disconnects then
                with pytest.raises(AuthenticationError):
                    await client.execute_command("AUTH", "default", "wrong")
        finally:
            server.run("CONFIG", "SET", "requirepass", "")
        assert pool.stats().closed == {"unusable": 2}
        assert pool.stats().idle == 2


async def test_a_write_that_fails_is_the_servers_doing(server: Server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        server.kill_clients()

        async def write_until_the_reset_has_come() -> None:
            for _ in range(1000):
                await conn.send_command("PING", check_health=False)
                await asyncio.sleep(0.001)

        with pytest.raises(RedisConnectionError, match="writ"):
            await write_until_the_reset_has_come()
        await pool.release(conn)
        assert pool.stats().closed == {"lost": 1}


async def test_what_happened_to_the_session_before_is_forgotten(server: Server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        server.kill_clients()
        with pytest.raises(RedisConnectionError):
            await conn.read_response()
        await conn.connect()
        await conn.disconnect()
        await pool.release(conn)
        assert pool.stats().closed == {"unusable": 1}


async def test_a_holder_who_writes_after_the_event_loop_saw_the_end_gets_redis_pys_error(
    talker: Talker, wire
):
    async with RedisPool(talker.url, max_size=1, **STRICT, **wire) as pool:
        async with pool.connection() as conn:
            talker.reset()
            await eventually(conn._writer.transport.is_closing, "the event loop has closed it")
            with pytest.raises(RedisConnectionError):
                await conn.send_command("ECHO", "too late")
        assert await pool.client().echo("mine") == b"mine"
        assert pool.stats().closed == {"lost": 1}
