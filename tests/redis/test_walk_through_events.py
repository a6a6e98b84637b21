"""Events and fresh credentials: who listens hears the same, and connections change their user."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.auth.token import SimpleToken
from redis.credentials import StreamingCredentialProvider
from redis.event import (
    AfterPooledConnectionsInstantiationEvent,
    AfterPubSubConnectionInstantiationEvent,
    AfterSingleConnectionInstantiationEvent,
    AsyncAfterConnectionReleasedEvent,
    AsyncEventListenerInterface,
    EventDispatcher,
    EventListenerInterface,
)
from redis.exceptions import AuthenticationError
from servers import eventually
from walk import Make, Walk, agree, ask, client_of, counts, never, user

walk = Walk()
PROTOCOLS = {"RESP2": (2,), "RESP3": (3,)}


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_events_and_credentials_are_as_on_redis_pys_pools(step, pools, server):
    await agree(step, pools, server)


# ---- events --------------------------------------------------------------------------------------


class Listener(EventListenerInterface):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def listen(self, event: object) -> None:
        self.heard.append(event)


class AsyncListener(AsyncEventListenerInterface):
    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def listen(self, event: object) -> None:
        await asyncio.sleep(0)
        self.heard.append(event)


@walk.feature
async def releases_are_heard_of_on_the_pools_dispatcher(make: Make):
    listener = AsyncListener()
    dispatcher = EventDispatcher({AsyncAfterConnectionReleasedEvent: [listener]})
    pool = make(event_dispatcher=dispatcher)
    conn = await pool.get_connection()
    assert listener.heard == []
    await pool.release(conn)
    await eventually(lambda: len(listener.heard) == 1, "the release was heard of")
    assert listener.heard[0].connection is conn
    client = client_of(pool)
    for number in range(3):
        await client.ping()
        await eventually(lambda n=number: len(listener.heard) == n + 2, "this one, too")
    dispatcher.unregister_listeners({AsyncAfterConnectionReleasedEvent: [listener]})
    await client.ping()
    assert {event.connection for event in listener.heard} == {conn}
    return len(listener.heard)


@walk.feature
async def who_begins_to_listen_later_is_heard_too(make: Make):
    dispatcher = EventDispatcher()
    client = make.client(event_dispatcher=dispatcher)
    await client.ping()
    listener = AsyncListener()
    dispatcher.register_listeners({AsyncAfterConnectionReleasedEvent: [listener]})
    await client.ping()
    await eventually(lambda: listener.heard, "the release was heard of")
    return [type(event) for event in listener.heard]


@walk.feature
async def clients_are_heard_of_on_their_dispatcher(make: Make):
    kinds = (
        AfterPooledConnectionsInstantiationEvent,
        AfterSingleConnectionInstantiationEvent,
        AfterPubSubConnectionInstantiationEvent,
    )
    listeners = {kind: Listener() for kind in kinds}
    dispatcher = EventDispatcher({kind: [listener] for kind, listener in listeners.items()})
    pool = make()
    client = client_of(pool, event_dispatcher=dispatcher)
    async with Redis(
        connection_pool=pool, event_dispatcher=dispatcher, single_connection_client=True
    ) as single:
        first, second, third = (listeners[kind].heard for kind in kinds)
        assert [event.connection_pools for event in first] == [[pool], [pool]]
        assert [event.connection for event in second] == [single.connection]
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert third[0].pubsub_connection is pubsub.connection
            assert third[0].connection_pool is pool
    return [event.client_type for heard in (first, second, third) for event in heard]


# ---- fresh credentials ---------------------------------------------------------------------------


class Streaming(StreamingCredentialProvider):
    """Hands out what it was pushed last, and tells everybody who asked for it."""

    def __init__(self, name: str, password: str) -> None:
        self.now = name, password
        self.callbacks: list[Callable[..., Any]] = []
        self.on_errors: list[Callable[..., Any]] = []

    def get_credentials(self) -> tuple[str, str]:
        return self.now

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.now

    def on_next(self, callback: Callable[..., Any]) -> None:
        self.callbacks.append(callback)

    def on_error(self, callback: Callable[..., Any]) -> None:
        self.on_errors.append(callback)

    def is_streaming(self) -> bool:
        return True

    async def push(self, name: str, password: str) -> None:
        self.now = name, password
        for callback in self.callbacks:
            await callback(token(name, password))


def token(name: str, password: str) -> SimpleToken:
    return SimpleToken(password, -1, 0, {"oid": name})


async def who(conn: Any) -> tuple[Any, Any]:
    return await ask(conn, "ACL", "WHOAMI"), await ask(conn, "CLIENT", "ID")


async def users(pool: Any, *lent: Any, idle: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Tell the users of lent and of idle connections.

    Those who are lent tell it twice: before and after they were released and lent again.
    """
    before = [await who(conn) for conn in lent]
    others = [await pool.get_connection() for _ in range(idle)]
    told = [await who(conn) for conn in others]
    for conn in lent:
        await pool.release(conn)
    again = [await pool.get_connection() for _ in lent]
    after = [await who(conn) for conn in again]
    for conn in [*others, *again]:
        await pool.release(conn)
    assert {number for _, number in before} == {number for _, number in after}
    return [name for name, _ in before], [name for name, _ in told], [name for name, _ in after]


@walk.with_each(PROTOCOLS)
async def a_token_changes_the_user_of_every_connection_in_place(make: Make, protocol: int):
    with user(make.server, "alice", "old"), user(make.server, "bob", "new"):
        pool = make(username="alice", password="old", protocol=protocol, retry=never())  # noqa: S106 - not one that matters
        conns = [await pool.get_connection() for _ in range(4)]
        everybody = {await ask(conn, "CLIENT", "ID") for conn in conns}
        for conn in conns[2:]:
            await pool.release(conn)
        await pool.re_auth_callback(token("bob", "new"))
        told = await users(pool, *conns[:2], idle=2)
        assert told == ([b"alice"] * 2, [b"bob"] * 2, [b"bob"] * 2)
        assert {int(client["id"]) for client in make.server.clients()} == everybody
        # The credentials in the keywords are not the token's, so a new connection has the old ones.
        conns = [await pool.get_connection() for _ in range(5)]
        new = [await who(conn) for conn in conns]
        for conn in conns:
            await pool.release(conn)
        await pool.aclose()
    return told, sorted(name for name, _ in new)


@walk.with_each(PROTOCOLS)
async def a_new_password_is_used_on_every_connection(make: Make, protocol: int):
    with user(make.server, "alice", "old"):
        pool = make(username="alice", password="old", protocol=protocol, retry=never())  # noqa: S106 - not one that matters
        lent, idle = await pool.get_connection(), await pool.get_connection()
        await pool.release(idle)
        make.server.run("ACL", "SETUSER", "alice", "resetpass", ">new")
        make.server.run("CONFIG", "RESETSTAT")
        await pool.re_auth_callback(token("alice", "new"))
        told = await users(pool, lent, idle=1)
        calls = make.server.run("INFO", "commandstats")["cmdstat_auth"]
        assert (calls["calls"], calls.get("failed_calls", 0)) == (2, 0)
        await pool.aclose()
    return told


@walk.with_each(PROTOCOLS)
async def a_token_that_the_server_refuses_spoils_nothing(make: Make, protocol: int):
    client = make.client(protocol=protocol, retry=never())
    pool = client.connection_pool
    lent, idle = await pool.get_connection(), await pool.get_connection()
    await pool.release(idle)
    # Whether it is told, and when, depends on whether the callback waits for the server.
    for forget in (pool.re_auth_callback(token("nobody", "wrong")), pool.release(lent)):
        with contextlib.suppress(AuthenticationError):
            await forget
    assert await asyncio.gather(*(client.echo(word) for word in "ab")) == [b"a", b"b"]
    return await client.acl_whoami(), counts(pool)[1]


@walk.with_each(PROTOCOLS)
async def the_providers_tokens_reach_every_connection(make: Make, protocol: int):
    with user(make.server, "alice", "old"), user(make.server, "bob", "new"):
        provider = Streaming("alice", "old")
        pool = make(credential_provider=provider, protocol=protocol, retry=never())
        client_of(pool, credential_provider=provider)
        assert provider.callbacks
        assert provider.on_errors
        lent, idle = await pool.get_connection(), await pool.get_connection()
        await pool.release(idle)
        await provider.push("bob", "new")
        told: list[Any] = [await users(pool, lent, idle=1)]
        assert told == [([b"alice"], [b"bob"], [b"bob"])]
        await provider.push("alice", "old")
        told.append(await users(pool, idle=2))
        conns = [await pool.get_connection() for _ in range(3)]
        told.append([(await who(conn))[0] for conn in conns])
        for conn in conns:
            await pool.release(conn)
        assert told[2] == [b"alice"] * 3
        await pool.aclose()
    return told


@walk.feature
async def the_providers_tokens_reach_clients_of_one_connection_and_subscribers(make: Make):
    with user(make.server, "alice", "old"), user(make.server, "bob", "new"):
        provider = Streaming("alice", "old")
        pool = make(credential_provider=provider, protocol=3, retry=never())
        single = client_of(pool, single_connection_client=True)
        told = [await single.acl_whoami()]
        async with client_of(pool).pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            await provider.push("bob", "new")
            told.append(await single.acl_whoami())
            told.append({client["user"] for client in make.server.clients()})
            make.server.run("PUBLISH", "news", "hello")
            told.append((await pubsub.get_message(timeout=5))["data"])
        await single.aclose()
        await pool.aclose()
    assert told == [b"alice", b"bob", {"bob"}, b"hello"]
    return told
