"""The pools themselves, used in each of redis-py's ways: what they are, lend, count and close."""

import asyncio
import gc
import warnings
import weakref
from typing import Any

import pytest
import redis
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.connection import (
    AsyncMaintNotificationsAbstractConnectionPool,
    ConnectionPoolInterface,
)
from redis.credentials import UsernamePasswordCredentialProvider
from redis.observability.attributes import DB_CLIENT_CONNECTION_POOL_NAME, get_pool_name
from servers import eventually
from walk import Make, Walk, agree, ask, client_of, counts, error_of, never

walk = Walk()


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_pools_do_what_redis_pys_do(step, pools, server):
    await agree(step, pools, server)


# ---- what they are -------------------------------------------------------------------------------


@walk.feature
async def they_are_connection_pools(make: Make):
    pool = make()
    for kind in (
        ConnectionPool,
        ConnectionPoolInterface,
        AsyncMaintNotificationsAbstractConnectionPool,
    ):
        assert isinstance(pool, kind)
    return callable(type(pool).from_url), pool.get_protocol()


@walk.feature
async def they_are_true_whatever_is_in_them(make: Make):
    pool = make(max_connections=1)
    told = [bool(pool)]
    conn = await pool.get_connection()
    told.append(bool(pool))
    await pool.release(conn)
    told.append(bool(pool))
    await pool.aclose()
    told.append(bool(pool))
    assert told == [True] * 4
    return told


@walk.feature
async def they_can_be_referred_to_weakly_and_go_when_nobody_needs_them(make: Make):
    pool = make.pool_class(host="127.0.0.1", port=make.server.port, max_connections=7)
    proxy, reference = weakref.proxy(pool), weakref.ref(pool)
    assert await client_of(pool).ping()
    assert reference() is pool
    assert {pool: "hashable"}[pool]
    told = [proxy.max_connections, bool(await Redis(connection_pool=proxy).ping())]
    await pool.aclose()
    del pool
    gc.collect()
    assert reference() is None
    return told


@walk.feature
async def their_repr_tells_the_address_and_no_secret(make: Make):
    with_password = make(host="db.invalid", username="al1ce", password="s3cret")  # noqa: S106 - not one that matters
    provider = UsernamePasswordCredentialProvider("al1ce", "s3cret")
    with_provider = make(host="db.invalid", credential_provider=provider)
    for pool in (with_password, with_provider):
        for text in (repr(pool), str(pool), repr(client_of(pool))):
            assert "db.invalid" in text
            assert not [secret for secret in ("al1ce", "s3cret", repr(provider)) if secret in text]
    return type(repr(with_password)).__name__


@walk.feature
async def they_tell_how_they_were_made(make: Make):
    pool = make(max_connections=7, encoding="latin-1", protocol=2)
    made = pool.make_connection()
    assert isinstance(made, pool.connection_class)
    assert not made.is_connected
    assert pool.make_connection() is not made
    assert counts(pool) == [0, 0]
    return (
        pool.max_connections,
        pool.connection_class,
        pool.encoder_class,
        pool.get_protocol(),
        type(made).__name__,
        repr(made),
        repr(pool.get_encoder().encode("é")),
    )


@walk.feature
async def they_have_a_name_for_observability(make: Make):
    # What may follow tells two pools to the same server from each other.
    address = f"127.0.0.1:{make.server.port}"
    assert get_pool_name(make()).startswith(address)
    return get_pool_name(make()).partition("_")[0] == address


@walk.feature
async def pools_derived_from_them_may_override_what_clients_call(make: Make):
    calls = []

    class Own(make.pool_class):
        def make_connection(self) -> Any:
            made = super().make_connection()
            made.client_name = "own"
            return made

        async def get_connection(self, *args: Any, **options: Any) -> Any:
            conn = await super().get_connection(*args, **options)
            calls.append(("get", conn.client_name))
            return conn

        async def release(self, connection: Any) -> None:
            calls.append(("release", connection.client_name))
            await super().release(connection)

    client = Redis(connection_pool=make.keep(Own(host="127.0.0.1", port=make.server.port)))
    assert await client.client_getname() == "own"
    assert calls == [("get", "own"), ("release", "own")]
    return calls


# ---- connection_kwargs ---------------------------------------------------------------------------


@walk.feature
async def connection_kwargs_are_a_dict_that_counts_for_future_connections(make: Make):
    pool = make(client_name="early")
    kwargs = pool.connection_kwargs
    assert client_of(pool).get_connection_kwargs() is kwargs
    told = []
    conns = []

    async def lend() -> None:
        conns.append(await pool.get_connection())
        info = await ask(conns[-1], "CLIENT", "INFO")
        told.append([field for field in info.decode().split() if field[:3] in {"db=", "nam"}])

    await lend()
    kwargs["client_name"] = "later"
    kwargs.update({"db": 3})
    await lend()
    pool.connection_kwargs = {**kwargs, "client_name": "replaced"}
    await lend()
    for conn in conns:
        await pool.release(conn)
    assert told == [["name=early", "db=0"], ["name=later", "db=3"], ["name=replaced", "db=3"]]
    return type(kwargs) is dict, told


NAMES = ("host", "port", "protocol", "legacy_responses", "decode_responses")


@walk.of_the_pool_that_redis_makes
async def connection_kwargs_hold_the_defaults(make: Make):
    pool = make()
    kwargs = pool.connection_kwargs
    assert kwargs["host"] == "127.0.0.1"
    registry = pool.himport_registry
    conn = await pool.get_connection()
    for other in (
        kwargs["himport_registry"],
        client_of(pool).himport_registry,
        conn.himport_registry,
        pool.make_connection().himport_registry,
    ):
        assert other is registry
    await pool.release(conn)
    retry = kwargs["retry"]
    return [kwargs[name] for name in NAMES], type(retry), retry.get_retries()


@walk.of_the_pool_that_redis_makes
async def connection_kwargs_hold_what_was_said(make: Make):
    pool = make(protocol=2, legacy_responses=False, decode_responses=True, retry=never(), db=3)
    kwargs = pool.connection_kwargs
    assert kwargs["decode_responses"] is True
    return [kwargs[name] for name in (*NAMES, "db")], kwargs["retry"].get_retries()


@walk.of_the_pool_that_redis_makes
async def commands_that_look_into_connection_kwargs_work(make: Make):
    client = make.client()
    # The server does not know it, but only the server says so.
    assert isinstance(await error_of(client.vset().vemb("k", "e", raw=True)), redis.ResponseError)
    return client.get_retry().get_retries(), client.get_connection_kwargs()["decode_responses"]


# ---- lending -------------------------------------------------------------------------------------


@walk.feature
async def lent_connections_are_ready_and_the_last_returned_is_lent_first(make: Make):
    pool = make()
    one, other = await pool.get_connection(), await pool.get_connection()
    assert isinstance(one, Connection)
    assert one is not other
    told = [one.is_connected, await one.can_read(), one.getpeername(), one.should_reconnect()]
    told.append([await ask(conn, "ECHO", "mine") for conn in (one, other)])
    for conn in (one, other):
        assert await pool.release(conn) is None
    again = await pool.get_connection()
    told.append(again is other)
    await pool.release(again)
    assert told == [True, False, "127.0.0.1", False, [b"mine"] * 2, True]
    return told


@walk.feature
async def get_connection_still_takes_the_arguments_of_old(make: Make):
    pool = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        conn = await pool.get_connection("GET", "key", option=1)
    assert conn.is_connected
    await pool.release(conn)
    return counts(pool)


@walk.feature
async def they_count_idle_and_lent_connections(make: Make):
    pool = make(max_connections=3)
    told = []

    def count() -> None:
        counted = pool.get_connection_count()
        names = [attributes.pop(DB_CLIENT_CONNECTION_POOL_NAME) for _, attributes in counted]
        assert names == [get_pool_name(pool)] * 2
        told.append(counted)

    count()
    conns = [await pool.get_connection() for _ in range(3)]
    count()
    await pool.release(conns.pop())
    count()
    assert counts(pool) == [1, 2]
    for conn in conns:
        await pool.release(conn)
    count()
    return told


@walk.feature
async def they_tell_whether_they_have_a_connection(make: Make):
    pool = make(max_connections=1)
    told = [bool(pool.can_get_connection())]
    conn = await pool.get_connection()
    told.append(bool(pool.can_get_connection()))
    await pool.release(conn)
    told.append(bool(pool.can_get_connection()))
    assert told == [True, False, True]
    return told


@walk.feature
async def connections_can_be_taken_first_and_connected_later(make: Make):
    pool = make(max_connections=2)
    conn = pool.get_available_connection()
    told = [conn.is_connected, counts(pool)]
    await pool.ensure_connection(conn)
    told += [conn.is_connected, await ask(conn, "ECHO", "mine")]
    unused = pool.get_available_connection()
    told.append(counts(pool))
    with pytest.raises(redis.MaxConnectionsError):
        pool.get_available_connection()
    await pool.release(conn)
    told.append(pool.get_available_connection() is conn)
    await pool.release(conn)
    await pool.release(unused)
    told.append(await client_of(pool).echo("mine"))
    assert told == [False, [0, 1], True, b"mine", [0, 2], True, b"mine"]
    return told


@walk.feature
async def ensure_connection_replaces_what_the_server_has_closed(make: Make):
    pool = make(protocol=2)  # with the other one, redis-py does not look
    conn = await pool.get_connection()
    first = await ask(conn, "CLIENT", "ID")
    make.server.kill_clients()
    await eventually(conn._reader.at_eof, "it is closed here, too")
    await pool.ensure_connection(conn)
    told = [conn.is_connected, await ask(conn, "CLIENT", "ID") != first]
    await pool.release(conn)
    assert told == [True, True]
    return told


@walk.feature
async def a_made_connection_works_without_the_pool(make: Make):
    pool = make(db=3)
    conn = pool.make_connection()
    await conn.connect()
    told = [await ask(conn, "PING"), counts(pool), conn.db]
    await conn.disconnect()
    assert told == [b"PONG", [0, 0], 3]
    return told, conn.is_connected


@walk.feature
async def more_than_there_are_is_a_connection_error_and_nothing_is_lost(make: Make):
    pool = make(max_connections=2, **make.impatient)
    client = client_of(pool)
    conns = [await pool.get_connection() for _ in range(2)]
    attempts = pool.get_connection(), client.ping(), client.pipeline().ping().execute()
    for error in await asyncio.gather(*(error_of(attempt) for attempt in attempts)):
        assert isinstance(error, redis.ConnectionError)
    told = [counts(pool)]
    for conn in conns:
        await pool.release(conn)
    told += [await client.ping(), counts(pool)]
    assert told == [[0, 2], True, [2, 0]]
    return told


@walk.feature
async def max_connections_can_be_changed(make: Make):
    pool = make(max_connections=1, **make.impatient)
    conns = [await pool.get_connection()]
    pool.max_connections = 2
    conns.append(await pool.get_connection())
    assert isinstance(await error_of(pool.get_connection()), redis.ConnectionError)
    for conn in conns:
        await pool.release(conn)
    return counts(pool)


@walk.of_the_plain_pool
async def a_pool_with_none_left_tells_it_with_max_connections_error(make: Make):
    pool = make(max_connections=1, **make.impatient)
    conn = await pool.get_connection()
    error = await error_of(client_of(pool).ping())
    await pool.release(conn)
    assert isinstance(error, redis.MaxConnectionsError)
    return redis.MaxConnectionsError in type(error).__mro__


@walk.of_the_blocking_pool
async def a_waiter_gets_what_the_next_one_returns(make: Make):
    pool = make(max_connections=1, timeout=10)
    conn = await pool.get_connection()
    waiter = asyncio.create_task(pool.get_connection())
    await asyncio.sleep(0)
    assert not waiter.done()
    await pool.release(conn)
    assert await waiter is conn
    await pool.release(conn)
    return counts(pool)


@walk.of_the_blocking_pool
async def one_connection_serves_many_tasks(make: Make):
    client = make.client(max_connections=1, timeout=None)
    replies = await asyncio.gather(*(client.echo(str(number)) for number in range(50)))
    assert replies == [str(number).encode() for number in range(50)]
    return len(make.server.clients())


@walk.of_the_blocking_pool
async def a_timeout_in_the_url_is_the_pools(make: Make):
    pool = make.from_url(f"{make.server.url}?timeout=0.3&max_connections=1")
    conn = await pool.get_connection()
    error = await error_of(pool.get_connection())
    await pool.release(conn)
    assert isinstance(error, redis.ConnectionError)
    return isinstance(error.__cause__ or error, TimeoutError)


@walk.of_the_blocking_pool
async def a_queue_class_may_be_named(make: Make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pool = make(queue_class=asyncio.LifoQueue)
    assert await client_of(pool).ping()
    return counts(pool)
