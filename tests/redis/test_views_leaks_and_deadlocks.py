"""Views, leaks, deadlocks and what errors explain, with real clients on a real server."""

import asyncio
import time
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, ResponseError
from servers import STRICT, Server, eventually

from aiopool import Listener, PoolDeadlock, PoolTimeout, RedisPool

# ---- views ---------------------------------------------------------------------------------------


async def test_subscribers_and_blocking_reads_leave_the_others_their_connections(server: Server):
    async with RedisPool(server.url, max_size=4, **STRICT) as pool:
        slow = pool.view(limit=2, name="slow")
        blocking = Redis(connection_pool=slow)
        readers = [asyncio.create_task(blocking.blpop(["nothing"], timeout=0)) for _ in range(6)]
        await eventually(lambda: slow.stats().waiting == 4, "two read, four wait for the view")
        quick = pool.client()
        await asyncio.gather(*(quick.set(f"key {n}", n) for n in range(50)))
        assert await quick.get("key 7") == b"7"
        assert (slow.stats().lent, slow.stats().max_size) == (2, 2)
        for n in range(6):
            await quick.rpush("nothing", n)
        replies = await asyncio.gather(*readers)
        assert sorted(value for _, value in replies) == [b"%d" % n for n in range(6)]
        assert (slow.stats().lent, slow.stats().waiting, slow.stats().acquired) == (0, 0, 6)


async def test_a_view_is_a_pool_for_all_that_a_client_does(server: Server):
    async with RedisPool(server.url, max_size=4, **STRICT) as pool:
        view = pool.view(limit=2, name="all")
        client = Redis(connection_pool=view)
        assert await client.set("key", "value")
        async with client.pipeline(transaction=True) as pipe:
            assert await pipe.watch("key")
            pipe.multi()
            assert await pipe.get("key").incr("count").execute() == [b"value", 1]
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            assert view.stats().lent == 1
            assert [holder.task for holder in view.holders()] == [asyncio.current_task().get_name()]
        async with client.lock("lock", timeout=10):
            pass
        async with view.connection() as conn:
            await conn.send_command("PING")
            assert await conn.read_response() == b"PONG"
        await client.aclose()
        await view.aclose()
        assert view.stats().lent == 0
        assert await pool.client().get("key") == b"value"
        assert await client.get("key") == b"value"
        assert repr(view).startswith("<View 'all of 127.0.0.1:")


async def test_to_enter_a_view_opens_nothing_and_can_close_nothing(server: Server):
    pool = RedisPool(server.url, max_size=4, **STRICT)
    client, view = pool.client(), pool.view(limit=2)
    await client.set("key", "value")
    pool.resize(min_size=3)

    async def enter():
        async with view as entered:
            assert entered is view
            await asyncio.sleep(3600)

    entering = asyncio.create_task(enter())
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait([entering])
    assert await client.get("key") == b"value"
    await pool.aclose()
    assert await client.get("key") == b"value"  # nobody has opened it by hand
    await pool.aclose()


async def test_the_limit_of_a_view_holds_on_the_server(server: Server):
    async with RedisPool(server.url, max_size=10, **STRICT) as pool:
        client = Redis(connection_pool=pool.view(limit=3))
        await asyncio.gather(*(client.incr("count") for _ in range(200)))
        assert await client.get("count") == b"200"
        assert len(server.clients()) <= 3


async def test_a_connection_taken_without_waiting_counts_too(server: Server):
    async with RedisPool(server.url, max_size=5, **STRICT) as pool:
        view = pool.view(limit=1)
        assert view.can_get_connection()
        conn = view.get_available_connection()
        assert not view.can_get_connection()
        with pytest.raises(MaxConnectionsError, match="Too many connections"):
            view.get_available_connection()
        await view.ensure_connection(conn)
        await view.release(conn)
        assert view.can_get_connection()


async def test_to_disconnect_a_view_concerns_what_it_has_lent_only(server: Server):
    async with RedisPool(server.url, max_size=5, **STRICT) as pool:
        view = pool.view(limit=2)
        mine, theirs = await view.acquire(), await pool.acquire()
        await Redis.from_pool(view).aclose()  # closes the view, which closes nothing
        assert mine.is_connected
        view.drain()
        assert mine.is_connected
        await view.disconnect()
        assert not mine.is_connected
        assert theirs.is_connected
        await view.release(mine)
        await pool.release(theirs)
        assert await pool.client().ping()
        assert view.stats().lent == 0


async def test_to_open_a_view_opens_nothing(server: Server):
    pool = RedisPool(server.url, max_size=5, min_size=2, **STRICT)
    await pool.view(limit=2).open()
    assert pool.stats().size == 0
    assert await pool.client().ping()
    await pool.aclose()
    assert await pool.client().ping()  # as it was not opened by hand
    await pool.aclose()


async def test_what_a_view_can_not_do_is_said(server: Server):
    async with RedisPool(server.url, max_size=5, **STRICT) as pool:
        view = pool.view(limit=2)
        with pytest.raises(TypeError, match="a view lends whole connections"):
            view.pipelined()
        with pytest.raises(TypeError, match="this is a view already"):
            view.view(limit=1)
        with pytest.raises(TypeError, match="a view has no size but its limit"):
            view.resize(max_size=3)
        assert view.max_connections == 2
        with pytest.raises(TypeError, match="a view has no size but its limit"):
            view.max_connections = 3


# ---- deadlocks -----------------------------------------------------------------------------------


async def test_a_command_inside_of_a_watch_that_has_the_last_connection_is_told_at_once(
    server: Server,
):
    async with RedisPool(server.url, max_size=1, timeout=60, **STRICT) as pool:
        client = pool.client()
        async with asyncio.timeout(10), client.pipeline() as pipe:
            await pipe.watch("key")
            with pytest.raises(PoolDeadlock) as caught:
                await client.get("other")
        assert isinstance(caught.value, MaxConnectionsError)
        assert isinstance(caught.value, RedisConnectionError)
        assert await client.ping()


async def test_many_tasks_that_nest_are_all_served_or_told_and_nothing_is_lost(server: Server):
    async with RedisPool(server.url, max_size=3, timeout=60, **STRICT) as pool:
        client = pool.client()
        told = 0

        async def nest(number):
            nonlocal told
            while True:
                try:
                    async with client.pipeline() as pipe:
                        await pipe.watch(f"key {number}")
                        await client.set(f"other {number}", number)
                        pipe.multi()
                        return await pipe.set(f"key {number}", number).execute()
                except PoolDeadlock:
                    told += 1

        async with asyncio.timeout(30):
            results = await asyncio.gather(*(nest(number) for number in range(30)))
        assert results == [[True]] * 30
        assert told
        assert (pool.stats().lent, pool.stats().waiting) == (0, 0)


# ---- leaks ---------------------------------------------------------------------------------------


class Ear(Listener):
    def __init__(self):
        self.leaked_ones = []

    def leaked(self, _pool, holder):
        self.leaked_ones.append(holder)


async def test_a_subscriber_is_no_leak(server: Server):
    async with RedisPool(server.url, leak_after=0.05, reclaim=True, **STRICT) as pool:
        ear = Ear()
        pool.on(ear)
        pubsub = pool.client().pubsub()

        async def begin():
            await pubsub.subscribe("news")

        await asyncio.create_task(begin())  # which ends, and the subscription goes on
        held = asyncio.create_task(hold(pool, 0.3))
        await eventually(lambda: ear.leaked_ones, "the other is told of")
        await held
        assert [holder.where.endswith(" in hold") for holder in ear.leaked_ones] == [True]
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        await pool.client().publish("news", "hello")
        assert (await pubsub.get_message(timeout=5))["data"] == b"hello"
        await pubsub.aclose()


KEPT = []  # what no task reaches


@pytest.mark.parametrize("anew", [False, True])
async def test_a_subscriber_whose_task_has_ended_is_no_leak_also_if_it_had_to_subscribe_anew(
    server: Server, anew
):
    async with RedisPool(server.url, max_size=1, leak_after=60, reclaim=True) as pool:

        async def begin():
            pubsub = pool.client().pubsub()
            KEPT.append(pubsub)
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            if anew:
                server.run("CLIENT", "KILL", "TYPE", "pubsub")
                assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"

        await asyncio.create_task(begin())
        await asyncio.sleep(0.05)
        assert (pool.stats().lent, pool.stats().closed) == (1, {})
        await KEPT.pop().aclose()


@pytest.mark.parametrize("command", ["SELECT 3", "READONLY", "HELLO 3", "CLIENT NO-EVICT ON"])
async def test_a_session_that_was_changed_and_left_behind_is_a_leak_like_any(
    server: Server, command
):
    async with RedisPool(server.url, max_size=1, leak_after=60, reclaim=True, **STRICT) as pool:
        client = pool.client()

        async def change():
            conn = await pool.acquire()  # and nobody gives it back
            await conn.send_command(*command.split())
            with suppress(ResponseError):  # a server without a cluster knows no READONLY
                await conn.read_response()

        await asyncio.create_task(change())
        await eventually(lambda: pool.stats().closed == {"reclaimed": 1}, "it is reclaimed")
        assert await client.ping()


async def hold(pool, seconds):
    async with pool.connection():
        await asyncio.sleep(seconds)


async def test_what_careless_handlers_leave_behind_is_reclaimed_and_the_service_goes_on(
    server: Server,
):
    async with RedisPool(server.url, max_size=3, leak_after=60, reclaim=True, **STRICT) as pool:
        ear = Ear()
        pool.on(ear)
        client = pool.client()

        async def handle(number):
            await client.set(f"key {number}", number)
            if number % 5 == 0:
                conn = await pool.acquire()  # and nobody gives it back
                await conn.send_command("PING")

        for begin in range(0, 50, 10):
            await asyncio.gather(*(handle(number) for number in range(begin, begin + 10)))
        await eventually(lambda: pool.stats().lent == 0, "all are reclaimed")
        assert len(ear.leaked_ones) == 10
        assert {holder.ended for holder in ear.leaked_ones} == {True}
        assert pool.stats().closed["reclaimed"] == 10
        assert await client.get("key 49") == b"49"
        assert len(server.clients()) <= 3


# ---- exhaustion ----------------------------------------------------------------------------------


async def test_an_error_tells_a_blocked_loop_from_a_busy_pool(server: Server):
    async with RedisPool(server.url, max_size=1, timeout=0.5, **STRICT) as pool:
        client = pool.client()
        reader = asyncio.create_task(client.blpop(["nothing"], timeout=0), name="reader")
        await eventually(lambda: pool.stats().lent == 1, "it reads")
        with pytest.raises(PoolTimeout) as busy:
            await client.ping()
        # Not that it was 0: a machine that stalls blocks the loop, too. (On the tests' own clock, it is.)
        assert "by task 'reader'" in str(busy.value)

        waiter = asyncio.create_task(client.ping())
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - that is the crime
        with pytest.raises(PoolTimeout, match="the event loop was blocked") as blocked:
            await waiter
        assert 0.2 < blocked.value.blocked <= blocked.value.waited
        reader.cancel()
        await asyncio.wait([reader])


async def test_no_password_is_in_what_an_error_reports(locked_server: Server):
    url = locked_server.url.replace("//", "//:wr0ng@")
    async with RedisPool(url, max_size=1, leak_after=1, **STRICT) as pool:
        for _ in range(2):
            with pytest.raises(RedisConnectionError) as caught:
                await pool.acquire(timeout=0.3)
            assert "wr0ng" not in str(caught.value)
        assert "wr0ng" not in (pool.last_error or "")
