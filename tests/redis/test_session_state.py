"""A connection is lent in the state in which it was opened, or not at all."""

import pytest
from redis.exceptions import ResponseError
from servers import STRICT, Server, eventually

from aiopool import RedisPool

# What changes the session for the next user, with the number of replies it gets.
LEFT_OPEN = [
    ([("MULTI",)], 1),
    ([("multi",)], 1),
    ([(b"MULTI",)], 1),
    ([("MULTI",), ("SET", "key", "1")], 2),
    ([("MULTI",), ("UNWATCH",)], 2),
    ([("WATCH", "key")], 1),
    ([("WATCH", "key"), ("GET", "key")], 2),
    ([("WATCH", "key"), ("MULTI",), ("UNWATCH",)], 3),
    ([("SELECT", 1)], 1),
    ([("SELECT 1",)], 1),
    ([("select", "1"), ("SELECT", "0")], 2),
    ([("SUBSCRIBE", "news")], 1),
    ([("PSUBSCRIBE", "new*")], 1),
    ([("MONITOR",)], 1),
    ([("AUTH", "default", "any")], 1),
    ([("CLIENT", "NO-EVICT", "ON")], 1),
    ([("CLIENT REPLY", "OFF")], 0),
    ([("CLIENT", "REPLY", "SKIP")], 0),
    ([("SCRIPT", "DEBUG", "YES")], 1),
    ([("READONLY",)], 1),
    ([("RESET",)], 1),
    ([("QUIT",)], 1),
]


@pytest.mark.parametrize(
    ("commands", "replies"), LEFT_OPEN, ids=[str(commands) for commands, _ in LEFT_OPEN]
)
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_changed_session_is_not_lent_again(server: Server, commands, replies, protocol):
    async with RedisPool(server.url, max_size=1, protocol=protocol, **STRICT) as pool:
        conn = await pool.acquire()
        for command in commands:
            await conn.send_command(*command)
        for _ in range(replies):
            try:
                # In RESP3 it is a push message that confirms a subscription.
                await conn.read_response(push_request=protocol == 3)
            except ResponseError:  # this version of the server may not know the command
                continue
        await pool.release(conn)

        client = pool.client()
        assert await client.set("key", "value")
        assert await client.get("key") == b"value"
        assert server.clients()[0]["db"] == "0"
        assert pool.stats().closed == {"dirty": 1}


async def test_an_open_transaction_queues_no_command_of_the_next_user(server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        async with pool.connection() as conn:
            await conn.send_command("MULTI")
            assert await conn.read_response() == b"OK"
        assert await pool.client().set("key", "value") is True
        assert server.run("GET", "key") == "value"


async def test_a_watch_left_behind_fails_no_transaction_of_the_next_user(server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        async with pool.connection() as conn:
            await conn.send_command("WATCH", "key")
            assert await conn.read_response() == b"OK"
        server.run("SET", "key", "changed")
        async with pool.client().pipeline() as pipe:
            assert await pipe.get("key").execute() == [b"changed"]


async def test_a_database_selected_by_one_user_is_not_the_next_users(server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        client = pool.client()
        await client.select(7)
        await client.set("key", "value")
        assert server.run("GET", "key") == "value"


async def test_a_subscription_left_behind_tells_the_next_user_nothing(server: Server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        await conn.send_command("SUBSCRIBE", "news")
        await conn.read_response(push_request=True)
        await pool.release(conn)
        server.run("PUBLISH", "news", "hello")
        client = pool.client()
        for _ in range(5):
            server.run("PUBLISH", "news", "hello")
            assert await client.echo("mine") == b"mine"


UNDONE = [
    [("MULTI",), ("SET", "key", "1"), ("EXEC",)],
    [("MULTI",), ("SET", "key", "1"), ("DISCARD",)],
    [("multi",), ("exec",)],
    [("WATCH", "key"), ("UNWATCH",)],
    [("WATCH", "key"), ("MULTI",), ("EXEC",)],
    [("WATCH", "key"), ("MULTI",), ("DISCARD",)],
    [("MULTI",), ("NONSENSE",), ("EXEC",)],  # EXECABORT
    [("WATCH", "key"), ("SET", "key", "2"), ("MULTI",), ("GET", "key"), ("EXEC",)],
    [("SELECT", 0)],
    [("CLIENT", "SETNAME", "me")],
    [("CLIENT", "GETNAME")],
    [("SCRIPT", "FLUSH")],
]


@pytest.mark.parametrize("commands", UNDONE, ids=str)
@pytest.mark.parametrize("protocol", [2, 3])
async def test_what_was_undone_costs_no_connection(server, commands, protocol):
    async with RedisPool(server.url, max_size=1, protocol=protocol, **STRICT) as pool:
        first = await pool.client().client_id()
        async with pool.connection() as conn:
            for command in commands:
                await conn.send_command(*command)
                try:
                    await conn.read_response()
                except ResponseError:
                    continue
        assert await pool.client().client_id() == first
        assert pool.stats().closed == {}


async def test_a_connection_marked_for_reconnect_is_closed_on_its_return(server):
    async with RedisPool(server.url, max_size=1, **STRICT) as pool:
        client = pool.client()
        first = await client.client_id()
        async with pool.connection():
            await pool.update_active_connections_for_reconnect()
        assert await client.client_id() != first


async def test_a_connection_that_its_user_disconnected_is_not_lent_again(server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        async with pool.connection() as conn:
            await conn.disconnect()
        assert await pool.client().echo("mine") == b"mine"
        assert pool.stats().opened == 2
        await eventually(lambda: len(server.clients()) == 1, "only the new one is left")


async def test_a_connection_that_reconnected_while_lent_is_good_and_reused(server, wire):
    # What redis-py's own retry does when a command finds its connection dead.
    async with RedisPool(server.url, max_size=1, **wire) as pool:
        client = pool.client()
        conn = await pool.acquire()
        server.kill_clients()
        await conn.disconnect()
        await conn.send_command("ECHO", "mine")
        assert await conn.read_response() == b"mine"
        await pool.release(conn)
        assert await client.echo("mine") == b"mine"
        assert (pool.stats().opened, pool.stats().closed) == (1, {})
