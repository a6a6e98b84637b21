"""What the pool takes for granted of redis-py and asyncio, so that a change there is noticed here."""

import asyncio
import inspect
import re
import selectors
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from servers import STRICT, Server

from aiopool import RedisPool
from aiopool.redis._connection import Accountable
from aiopool.redis._lean import accountable


def state(retry: Retry) -> tuple[Any, ...]:
    backoff = retry._backoff
    return (
        retry.get_retries(),
        type(backoff),
        vars(backoff),
        set(retry._supported_errors),
    )


def test_the_default_retry_is_that_of_a_redis_client():
    expected = state(Redis().get_retry())
    pool = RedisPool()
    assert state(pool.client().get_retry()) == expected
    assert state(pool.make_connection().retry) == expected
    assert state(pool._policy.retry) == expected
    assert expected[0] > 0


def test_no_pool_shares_its_retry_with_another_or_with_redis_py():
    one, other = RedisPool(), RedisPool()
    assert one._policy.retry is not other._policy.retry
    assert one._policy.retry is not inspect.signature(Redis).parameters["retry"].default


async def test_a_retry_set_on_the_client_counts_for_present_and_future_connections(server):
    async with RedisPool(server.url) as pool:
        client = pool.client()
        lent = await pool.acquire()
        await client.ping()
        client.set_retry(STRICT["retry"])
        for conn in (lent, *pool._get_free_connections(), pool.make_connection()):
            assert conn.retry.get_retries() == 0
        assert pool._policy.retry.get_retries() == 0
        await pool.release(lent)


# Every public name of redis-py's pool: one more may need an answer of RedisPool's.
KNOWN = {
    "ENCODER", "OMIT_REPR_KEYS", "SENSITIVE_REPR_KEYS", "aclose", "apply_moving_notification",
    "can_get_connection", "cleanup_moving_notification", "connection_kwargs", "disconnect",
    "ensure_connection", "from_url", "get_available_connection", "get_connection",
    "get_connection_count", "get_encoder", "get_protocol", "maint_notifications_enabled",
    "make_connection", "re_auth_callback", "release", "reset", "run_proactive_reconnect",
    "set_retry", "update_active_connections_for_reconnect", "update_connection_kwargs",
    "update_connection_settings", "update_connections_settings",
    "update_maint_notifications_config",
}  # fmt: skip


def test_redis_pys_pool_has_no_method_that_redis_pool_was_not_made_with_in_mind():
    names = {name for name in dir(ConnectionPool) if not name.startswith("_")}
    assert names - KNOWN == set()


def test_everything_of_redis_pys_pool_that_changes_its_lists_is_replaced():
    lists = ("self._available_connections", "self._in_use_connections")
    # Made by the constructor, and counted or looked through by the others.
    read = {"__init__", "__del__", "get_connection_count", "_get_free_connections"}
    for name, function in inspect.getmembers(ConnectionPool, inspect.isfunction):
        if any(word in inspect.getsource(function) for word in lists):
            assert name in read or name in vars(RedisPool), name


async def test_the_private_lists_that_people_count_tell_the_truth(server):
    async with RedisPool(server.url, max_size=3, **STRICT) as pool:
        await pool.warm(3)
        lent = await pool.acquire()
        assert (len(pool._available_connections), pool._in_use_connections) == (2, {lent})
        assert [count for count, _ in pool.get_connection_count()] == [2, 1]
        await pool.release(lent)
        assert (len(pool._available_connections), pool._in_use_connections) == (3, set())


async def test_max_connections_is_max_size_and_can_be_set(server):
    async with RedisPool(server.url, max_connections=3, **STRICT) as pool:
        await pool.warm(3)
        pool.max_connections = 2
        assert (pool.stats().max_size, pool.stats().size, pool.max_connections) == (2, 2, 2)
        pool.resize(max_size=5)
        assert pool.max_connections == 5
        with pytest.raises(ValueError, match="max_connections=0 is out of range"):
            pool.max_connections = 0


def test_where_redis_py_disconnects_idle_connections_the_pool_may_retire_them():
    # Who else called these would expect the connections to be usable afterwards.
    source = inspect.getsource(redis.asyncio.connection)
    assert source.count("self._disconnect_connections(") == 1
    assert source.count("await self._update_maint_notifications_configs_for_connections(") == 1


@pytest.mark.parametrize(
    ("owner", "method", "parameters"),
    [
        (AbstractConnection, "pack_command", ["self", "args"]),
        (AbstractConnection, "send_packed_command", ["self", "command", "check_health"]),
        (
            AbstractConnection,
            "read_response",
            ["self", "disable_decoding", "timeout", "disconnect_on_error", "push_request"],
        ),
        (
            AbstractConnection,
            "connect_check_health",
            ["self", "check_health", "retry_socket_connect"],
        ),
        (
            AbstractConnection,
            "disconnect",
            ["self", "nowait", "error", "failure_count", "health_check_failed"],
        ),
        (ConnectionPool, "get_connection", ["self", "command_name", "keys", "options"]),
        (ConnectionPool, "release", ["self", "connection"]),
        (ConnectionPool, "disconnect", ["self", "inuse_connections"]),
    ],
)
def test_the_methods_that_are_extended_have_the_signatures_they_had(owner, method, parameters):
    assert list(inspect.signature(getattr(owner, method)).parameters) == parameters


@pytest.mark.parametrize(
    "connection_class", [Connection, SSLConnection, UnixDomainSocketConnection]
)
def test_accountable_connections_are_still_their_own_class_with_its_name(connection_class):
    made = accountable(connection_class)
    assert issubclass(made, (Accountable, connection_class))
    assert made.__name__ == connection_class.__name__
    assert accountable(made) is made


def test_every_way_of_sending_passes_the_accountable_methods():
    for name, function in inspect.getmembers(AbstractConnection, inspect.isfunction):
        # These three write; everybody else sends through them.
        if name not in {"send_packed_command", "_send_packed_command"}:
            assert ".writelines(" not in inspect.getsource(function), name
            assert "_writer.write(" not in inspect.getsource(function), name
    assert "self.pack_command(" in inspect.getsource(AbstractConnection.pack_commands)


async def test_the_private_parts_of_a_connection_are_where_they_were(server: Server, wire):
    conn = accountable(Connection)(host="127.0.0.1", port=server.port, **wire)
    assert conn._writer is None
    assert conn._reader is None
    assert conn._connect_callbacks == []
    assert conn.should_reconnect() is False
    await conn.connect()
    try:
        assert isinstance(conn._reader, asyncio.StreamReader)
        assert isinstance(conn._writer, asyncio.StreamWriter)
        assert isinstance(conn._reader._buffer, bytearray)
        assert conn._writer.get_extra_info("socket").fileno() > 0
        assert conn._writer.get_extra_info("ssl_object") is None
        assert int(conn.protocol) == wire["protocol"]
        looking = conn._get_parser().can_read()
        with pytest.raises(StopIteration) as answer:  # it never suspends
            looking.send(None)
        assert answer.value.value is False
        assert conn.may_be_lent()
        conn._get_parser().on_disconnect()
        assert not conn.is_sound()
    finally:
        await conn.disconnect()


def test_the_private_parts_of_asyncios_transports_are_where_they_were(server: Server, tls):
    # What _bury needs; uvloop's transports have none of it, and need none of it.
    loop = asyncio.SelectorEventLoop(selectors.DefaultSelector())
    plain = accountable(Connection)(host="127.0.0.1", port=server.port)
    secret = accountable(SSLConnection)(
        host="127.0.0.1", port=tls.port, ssl_ca_data=tls.authority_pem
    )
    loop.run_until_complete(plain.connect())
    loop.run_until_complete(secret.connect())
    below = secret._writer.transport._ssl_protocol._transport
    socks = [transport._sock for transport in (plain._writer.transport, below)]
    assert all(callable(t._call_connection_lost) for t in (plain._writer.transport, below))
    loop.close()
    plain.abort()
    secret.abort()
    assert [sock.fileno() for sock in socks] == [-1, -1]


def test_clients_of_redis_py_use_no_more_of_a_pool_than_the_pool_has():
    source = inspect.getsource(redis.asyncio.client)
    used = set(re.findall(r"\bself\.connection_pool\.(\w+)", source))
    used |= set(re.findall(r"\bpool\.(\w+)\(", source))
    assert {"get_connection", "release", "get_encoder", "aclose", "set_retry"} <= used
    pool = RedisPool()
    for name in used:
        assert hasattr(pool, name), name
