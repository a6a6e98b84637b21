"""The pool in everyday use: by itself, through its client, and under redis-py's own clients."""

import asyncio
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError, WatchError
from servers import STRICT, WIRES, Server, eventually

from aiopool import RedisPool

pytestmark = pytest.mark.eager


def reused(pool: RedisPool) -> bool:
    """Whether all there was to do was done on one connection, which is back and good."""
    stats = pool.stats()
    return (stats.opened, stats.idle, stats.lent, dict(stats.closed)) == (1, 1, 0, {})


# ---- directly ------------------------------------------------------------------------------------


async def test_an_acquired_connection_is_connected_and_speaks_redis(url, wire):
    async with RedisPool(url, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        await conn.send_command("ECHO", "mine")
        assert await conn.read_response() == b"mine"
        await pool.release(conn)
        assert reused(pool)


async def test_a_block_lends_one_connection_and_takes_it_back_after_an_error_too(url, wire):
    async with RedisPool(url, **STRICT, **wire) as pool:
        with pytest.raises(ResponseError):  # noqa: PT012 - it shall leave the block
            async with pool.connection() as conn:
                await conn.send_command("NONSENSE")
                await conn.read_response()
        async with pool.connection() as again:
            assert again is conn
        assert reused(pool)


async def test_blocks_nested_in_each_other_have_connections_of_their_own(pool):
    async with pool.connection() as one, pool.connection() as other:
        await one.send_command("ECHO", "one")
        await other.send_command("ECHO", "other")
        assert await other.read_response() == b"other"
        assert await one.read_response() == b"one"
    assert pool.stats().idle == 2


# ---- through clients -----------------------------------------------------------------------------


@pytest.fixture
def client(pool: RedisPool) -> Redis:
    return Redis(connection_pool=pool)


async def test_the_pool_makes_clients_that_use_it_and_do_not_own_it(pool):
    async with pool.client() as client:
        assert isinstance(client, Redis)
        assert await client.set("key", "value")
        assert await client.get("key") == b"value"
        async with client.pipeline() as pipe:
            assert await pipe.incr("a").incr("a").execute() == [1, 2]
    assert await pool.client().ping()
    assert reused(pool)


async def test_commands_use_one_connection_over_and_over(pool, client):
    assert await client.ping() is True
    assert await client.set("key", "value")
    assert await client.get("key") == b"value"
    assert await client.incr("number") == 1
    await client.hset("hash", mapping={"a": 1, "b": 2})
    assert await client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
    big = b"x" * 1_000_000  # more than one read, and sent in pieces
    await client.set("big", big)
    assert await client.get("big") == big
    assert reused(pool)


async def test_an_error_reply_is_raised_and_the_connection_kept(pool, client):
    await client.set("text", "abc")
    with pytest.raises(ResponseError, match="not an integer"):
        await client.incr("text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.lpush("text", "x")
    assert await client.get("text") == b"abc"
    assert reused(pool)


async def test_tasks_share_the_pool_and_each_gets_its_own_replies(pool, client):
    async def work(number: int) -> bytes:
        await client.set(f"key{number}", number)
        return await client.get(f"key{number}")

    replies = await asyncio.gather(*(work(number) for number in range(100)))
    assert replies == [str(number).encode() for number in range(100)]
    assert pool.stats().size <= 4
    assert pool.stats().closed == {}


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_pipeline_gets_all_replies_in_order(pool, client, transaction):
    async with client.pipeline(transaction=transaction) as pipe:
        for number in range(50):
            pipe.set(f"key{number}", number).get(f"key{number}")
        replies = await pipe.execute()
    assert replies[1::2] == [str(number).encode() for number in range(50)]
    assert reused(pool)


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_pipeline_with_a_failing_command_leaves_the_connection_clean(
    pool, client, transaction
):
    async with client.pipeline(transaction=transaction) as pipe:
        pipe.set("text", "abc").incr("text").get("text")
        replies = await pipe.execute(raise_on_error=False)
    assert isinstance(replies[1], ResponseError)
    assert replies[2] == b"abc"
    assert await client.echo("mine") == b"mine"
    assert reused(pool)


async def test_a_transaction_that_the_server_refuses_leaves_the_connection_clean(pool, client):
    async with client.pipeline() as pipe:
        pipe.execute_command("NONSENSE")
        pipe.set("key", "value")
        with pytest.raises(ResponseError):
            await pipe.execute()
    assert await client.echo("mine") == b"mine"
    assert reused(pool)


async def test_watch_sees_the_change_of_another_and_the_connection_is_reused(pool, client):
    await client.set("key", 1)
    async with client.pipeline() as pipe:
        await pipe.watch("key")
        assert await pipe.get("key") == b"1"
        await client.set("key", 2)  # on a second connection, since the first is watching
        pipe.multi()
        pipe.set("key", 3)
        with pytest.raises(WatchError):
            await pipe.execute()
    assert await client.get("key") == b"2"
    assert (pool.stats().opened, pool.stats().idle) == (2, 2)
    assert pool.stats().closed == {}


async def test_client_transaction_tries_until_nobody_interferes(pool, client):
    await client.set("key", 1)
    attempts = 0

    async def double(pipe: Any) -> None:
        nonlocal attempts
        attempts += 1
        value = int(await pipe.get("key"))
        if attempts == 1:
            await client.set("key", 10)
        pipe.multi()
        pipe.set("key", 2 * value)

    await client.transaction(double, "key")
    assert attempts == 2
    assert await client.get("key") == b"20"
    assert pool.stats().closed == {}


async def test_unwatch_and_an_abandoned_watching_pipeline_leave_the_connection_reusable(
    pool, client
):
    async with client.pipeline() as pipe:
        await pipe.watch("key")
        await pipe.unwatch()
    async with client.pipeline() as pipe:
        await pipe.watch("key")  # leaving the block says UNWATCH
    assert await client.echo("mine") == b"mine"
    assert reused(pool)


async def test_publish_and_subscribe(pool, client):
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        await pubsub.psubscribe("new*")
        kinds = [(await pubsub.get_message(timeout=5))["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert await client.publish("news", "hello") == 2
        messages = [await pubsub.get_message(timeout=5) for _ in range(2)]
        assert [(m["type"], m["data"]) for m in messages] == [
            ("message", b"hello"),
            ("pmessage", b"hello"),
        ]
        assert pool.stats().lent == 1
        await pubsub.unsubscribe()
        await pubsub.punsubscribe()
    # It may have been the subscriber's, so it is not lent to anybody else.
    assert pool.stats().lent == 0
    assert await client.echo("mine") == b"mine"


async def test_a_listener_gets_every_message_in_order(client):
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("numbers")

        async def listen() -> list[bytes]:
            heard = []
            async for message in pubsub.listen():
                heard.append(message["data"])
                if len(heard) == 100:
                    break
            return heard

        listener = asyncio.create_task(listen())
        sent = 0
        while sent < 100:
            if await client.publish("numbers", sent):
                sent += 1
        assert await listener == [str(number).encode() for number in range(100)]


async def test_a_subscriber_reconnects_by_itself_after_a_kill(server, wire):
    # With redis-py's retry: it is what reconnects and subscribes again.
    async with RedisPool(server.url, **wire) as pool:
        client = pool.client()
        async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("news")
            assert await pubsub.get_message(timeout=0.01) is None
            server.run("CLIENT", "KILL", "TYPE", "pubsub")

            async def listen() -> bytes:
                async for message in pubsub.listen():
                    return message["data"]
                raise AssertionError

            listener = asyncio.create_task(listen())
            while not await client.publish("news", "hello again"):
                pass  # it is not subscribed again yet
            assert await listener == b"hello again"
        assert await client.echo("mine") == b"mine"


async def test_blocking_commands_wait_and_are_answered(pool, client):
    waiting = asyncio.create_task(client.blpop(["list"], timeout=5))
    await eventually(lambda: pool.stats().lent == 1, "it is blocked")
    await client.rpush("list", "item")
    key, item = await waiting
    assert (key, item) == (b"list", b"item")
    assert await client.blpop(["list"], timeout=0.01) is None
    assert pool.stats().closed == {}


async def test_locks_exclude(client):
    inside = 0

    async def enter() -> None:
        nonlocal inside
        async with client.lock("lock", timeout=5, sleep=0.001):
            inside += 1
            assert inside == 1
            await client.ping()
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(8)))
    assert await client.exists("lock") == 0


async def test_monitor_sees_the_others_and_its_connection_is_not_lent_again(pool, client):
    async with client.monitor() as monitor:
        watched = monitor.connection
        await client.set("key", "seen")
        while "seen" not in (await monitor.next_command())["command"]:
            pass
    assert pool.stats().lent == 0
    assert watched not in pool._get_free_connections()
    assert await client.echo("mine") == b"mine"


async def test_lua_scripts_run_by_text_and_by_hash(pool, client):
    assert await client.eval("return ARGV[1] * 2", 0, 21) == 42
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    await client.script_flush()  # so that EVALSHA fails once, as an error reply
    assert await script(keys=["sum"], args=[3]) == 3
    assert await script(keys=["sum"], args=[4]) == 7
    assert reused(pool)


async def test_scan_iterates_over_everything(pool, client):
    await client.mset({f"key{number}": number for number in range(500)})
    assert len({key async for key in client.scan_iter(count=50)}) == 500
    assert reused(pool)


async def test_a_client_keeps_its_pool_open_when_it_is_closed(pool, client):
    async with client:
        await client.ping()
    async with pool.client() as other:
        assert await other.ping()
    assert reused(pool)


# ---- other kinds of clients ----------------------------------------------------------------------


async def test_a_client_from_the_pool_owns_it_and_closes_it(server):
    pool = RedisPool(server.url, **STRICT)
    await pool.open()
    async with Redis.from_pool(pool) as client:
        assert await client.ping()
    assert pool.stats().size == 0
    with pytest.raises(redis.exceptions.ConnectionError, match="closed"):
        await client.ping()


async def test_a_pool_that_opened_by_itself_does_so_again_after_it_was_closed(server):
    pool = RedisPool(server.url, **STRICT)
    for _ in range(3):
        async with Redis.from_pool(pool) as client:
            assert await client.ping()
        assert pool.stats().size == 0
    assert await client.ping()
    lent = await pool.acquire()
    closing = asyncio.create_task(pool.aclose(timeout=60))
    await eventually(lambda: pool.stats().idle == 0 and "closed" in repr(pool), "it is closing")
    with pytest.raises(redis.exceptions.ConnectionError, match="closed"):
        await client.ping()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not lent.is_connected  # the grace is over
    assert await client.ping()
    await pool.release(lent)
    assert await client.ping()
    await pool.aclose()
    assert pool.stats().size == 0


async def test_what_is_lent_when_such_a_pool_is_closed_is_cut_at_once_and_stays_closed(
    server: Server, wire
):
    pool = RedisPool(server.url, retry=Retry(NoBackoff(), 2), **wire)
    client = pool.client()
    subscriber = client.pubsub()
    await subscriber.subscribe("news")
    single = pool.client(single_connection_client=True)
    assert await single.ping()
    waiting = asyncio.create_task(client.blpop("nothing", timeout=60))
    await eventually(lambda: len(server.clients()) == 3, "all are connected")
    async with asyncio.timeout(2):
        await pool.aclose()
    await eventually(lambda: not server.clients(), "nothing is left on the server")
    with pytest.raises(redis.exceptions.ConnectionError, match="has closed this connection"):
        await subscriber.get_message(timeout=1)
    with pytest.raises(redis.exceptions.ConnectionError, match="closed"):
        await waiting
    with pytest.raises(redis.exceptions.ConnectionError, match="has closed this connection"):
        await single.ping()
    await single.aclose()
    await subscriber.aclose()
    assert (pool.stats().lent, pool.stats().size, server.clients()) == (0, 0, [])
    assert await client.ping()
    await pool.aclose()


async def test_a_single_connection_client_keeps_its_connection_until_closed(pool):
    async with pool.client(single_connection_client=True) as client:
        first = await client.client_id()
        assert await client.client_id() == first
        assert pool.stats().lent == 1
        async with client.client() as inner:
            assert await inner.client_id() != first
            assert pool.stats().lent == 2
    assert (pool.stats().lent, pool.stats().idle) == (0, 2)


async def test_responses_are_decoded_if_asked_for(url, wire):
    async with RedisPool(url, decode_responses=True, **STRICT, **wire) as pool:
        client = pool.client()
        await client.set("key", "Grüße")
        assert await client.get("key") == "Grüße"
        await client.rpush("list", "a", "b")
        assert await client.lrange("list", 0, -1) == ["a", "b"]
        # The check's reply is text then.
        conn = await pool.acquire()
        await pool._core._connector.check(conn)
        await pool.release(conn)


@pytest.mark.parametrize("where", ["path", "query", "keyword"])
async def test_the_database_is_selected_on_every_connection(server, wire, where):
    url, options = {
        "path": (f"{server.url}/3", {}),
        "query": (f"{server.url}?db=3", {}),
        "keyword": (server.url, {"db": 3}),
    }[where]
    async with RedisPool(url, max_size=2, **options, **STRICT, **wire) as pool:
        await asyncio.gather(*(pool.client().set(f"key{n}", n) for n in range(20)))
        assert {client["db"] for client in server.clients()} == {"3"}
    assert server.run("DBSIZE") == 0


async def test_selecting_the_own_database_again_is_harmless(server, wire):
    async with RedisPool(server.url, db=3, **STRICT, **wire) as pool:
        client = pool.client()
        await client.select(3)
        await client.execute_command("SELECT 3")
        assert reused(pool)


async def test_the_health_check_of_redis_py_works_on_pooled_connections(server, wire):
    async with RedisPool(server.url, health_check_interval=3600, **STRICT, **wire) as pool:
        client = pool.client()
        await client.ping()
        (conn,) = pool._get_free_connections()
        for _ in range(10):
            conn.next_health_check = -1  # it is due
            assert await client.echo("mine") == b"mine"
            assert conn.next_health_check > 0
        conn.next_health_check = -1
        async with client.pipeline() as pipe:
            assert await pipe.set("key", 1).get("key").execute() == [True, b"1"]
        assert reused(pool)


async def test_connections_bear_the_clients_name(server: Server):
    async with RedisPool(server.url, client_name="web", **STRICT) as pool:
        await pool.warm(3)
        assert [client["name"] for client in server.clients()] == ["web"] * 3


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
async def test_a_check_of_a_long_idle_connection_is_one_round_trip_on_it(server, wire):
    async with RedisPool(server.url, check_after=0, **STRICT, **wire) as pool:
        client = pool.client()
        first = await client.client_id()
        for _ in range(10):
            assert await client.client_id() == first
        assert reused(pool)
