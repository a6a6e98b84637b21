"""`AsyncAfterConnectionReleasedEvent`: who listens has the connection, before the next user does."""

import asyncio

import pytest
from redis.auth.token import SimpleToken
from redis.event import (
    AsyncAfterConnectionReleasedEvent,
    AsyncEventListenerInterface,
    EventDispatcher,
    EventDispatcherInterface,
)
from servers import STRICT, eventually

from aiopool import RedisPool


class Listener(AsyncEventListenerInterface):
    def __init__(self) -> None:
        self.heard: list[object] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def listen(self, event) -> None:
        self.heard.append(event.connection)
        await self.gate.wait()
        await event.connection.send_command("ECHO", "between")
        assert await event.connection.read_response() == b"between"
        if self.error is not None:
            raise self.error


def dispatcher_to(listener: Listener) -> EventDispatcher:
    return EventDispatcher({AsyncAfterConnectionReleasedEvent: [listener]})


async def test_a_listener_has_the_released_connection_for_itself(server):
    listener = Listener()
    dispatcher = dispatcher_to(listener)
    async with RedisPool(server.url, event_dispatcher=dispatcher, max_size=1, **STRICT) as pool:
        conn = await pool.acquire()
        await pool.release(conn)
        waiting = asyncio.create_task(pool.acquire())
        await eventually(lambda: listener.heard, "the listener has heard of it")
        assert listener.heard == [conn]
        assert not waiting.done()
        listener.gate.set()
        assert await waiting is conn
        await pool.release(conn)
        await eventually(lambda: pool.stats().idle == 1, "the listener has done its work")
        assert listener.heard == [conn, conn]
        assert pool.stats().closed == {}


async def test_a_listener_that_fails_costs_nothing_but_a_line_in_the_log(server, caplog):
    listener = Listener()
    listener.gate.set()
    listener.error = RuntimeError("no time")
    dispatcher = dispatcher_to(listener)
    async with RedisPool(server.url, event_dispatcher=dispatcher, max_size=1, **STRICT) as pool:
        client = pool.client()
        number = await client.client_id()
        assert await client.client_id() == number
        await eventually(lambda: len(listener.heard) == 2, "the listener was told twice")
    assert "no time" in caplog.text


async def test_a_listener_that_hangs_costs_the_connection_not_the_slot(server):
    listener = Listener()
    dispatcher = dispatcher_to(listener)
    async with RedisPool(server.url, event_dispatcher=dispatcher, max_size=1, **STRICT) as pool:
        client = pool.client()
        number = await client.client_id()
        listener.gate.clear()
        assert await client.client_id() != number
        assert pool.stats().closed == {"check_failed": 1}


async def test_a_connection_that_is_not_kept_is_announced_to_nobody(server):
    listener = Listener()
    dispatcher = dispatcher_to(listener)
    async with RedisPool(server.url, event_dispatcher=dispatcher, **STRICT) as pool:
        async with pool.connection() as conn:
            await conn.send_command("SUBSCRIBE", "news")
        await pool.aclose()
        assert listener.heard == []


async def test_a_listener_that_leaves_debts_costs_the_connection_also_if_a_token_is_new(server):
    class Messy(AsyncEventListenerInterface):
        async def listen(self, event) -> None:
            await event.connection.send_command("MULTI")
            assert await event.connection.read_response() == b"OK"

    server.run("ACL", "SETUSER", "renewed", "on", ">word", "~*", "&*", "+@all")
    dispatcher = EventDispatcher({AsyncAfterConnectionReleasedEvent: [Messy()]})
    async with RedisPool(server.url, event_dispatcher=dispatcher, max_size=1, **STRICT) as pool:
        conn = await pool.acquire()
        await pool.re_auth_callback(SimpleToken("word", -1, -1, {"oid": "renewed"}))
        await pool.release(conn)
        assert await pool.client().get("mykey") is None
        assert pool.stats().closed == {"dirty": 1}
    server.run("ACL", "DELUSER", "renewed")


# The second asks for the server's commands first, with which others share.
@pytest.mark.parametrize(("kind", "times"), [("client", 5), ("pipelined", 6)])
async def test_what_a_listener_itself_lends_and_returns_is_not_announced(server, kind, times):
    class Busy(AsyncEventListenerInterface):
        heard = 0

        async def listen(self, event) -> None:  # noqa: ARG002 - the interface's
            self.heard += 1
            await asyncio.create_task(client.incr("heard"))

    listener = Busy()
    dispatcher = EventDispatcher({AsyncAfterConnectionReleasedEvent: [listener]})
    async with RedisPool(server.url, event_dispatcher=dispatcher, max_size=3, **STRICT) as pool:
        client = getattr(pool, kind)()
        for _ in range(5):
            await client.ping()
            # Else all connections could be with the listener, who needs another one.
            await eventually(
                lambda: pool.stats().checking == 0 and pool.stats().lent == 0, "it is quiet again"
            )
        assert (listener.heard, server.run("GET", "heard")) == (times, str(times))
        assert pool.stats().closed == {}


async def test_callers_do_not_wait_for_a_slow_listener_if_another_connection_can_be_opened(server):
    listener = Listener()
    dispatcher = dispatcher_to(listener)
    async with RedisPool(server.url, event_dispatcher=dispatcher, timeout=0.7, **STRICT) as pool:
        conn = await pool.acquire()
        await pool.release(conn)
        async with pool.connection() as other:
            assert other is not conn
        listener.gate.set()


async def test_with_redis_pys_own_listener_only_a_release_costs_no_detour(server):
    async with RedisPool(server.url, event_dispatcher=EventDispatcher(), **STRICT) as pool:
        conn = await pool.acquire()
        await pool.release(conn)
        assert pool.stats().idle == 1


class Deaf(EventDispatcherInterface):
    """A dispatcher of the user's own, which nothing is known of."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def dispatch(self, event) -> None:
        raise NotImplementedError

    async def dispatch_async(self, event) -> None:
        self.events.append(event)

    def register_listeners(self, mappings) -> None:
        raise NotImplementedError

    def unregister_listeners(self, mappings) -> None:
        raise NotImplementedError


async def test_a_dispatcher_of_ones_own_is_told_too(server):
    dispatcher = Deaf()
    async with RedisPool(server.url, event_dispatcher=dispatcher, **STRICT) as pool:
        async with pool.connection() as conn:
            pass
        await eventually(lambda: dispatcher.events, "it was told")
        (event,) = dispatcher.events
        assert isinstance(event, AsyncAfterConnectionReleasedEvent)
        assert event.connection is conn
