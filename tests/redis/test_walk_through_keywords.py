"""Keywords and URLs: with each, connections are made, and say and understand, as redis-py's do."""

import asyncio
import json
import socket
import warnings
from typing import Any
from urllib.parse import quote

import pytest
import redis
from redis import DriverInfo
from redis._parsers import Encoder
from redis.asyncio import Connection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider
from servers import HIREDIS, PYTHON, Talker
from walk import Make, Walk, agree, ask, client_of, error_of, never, user

walk = Walk()
PASSWORD = "pa:ss/wo@rd?#%&"  # noqa: S105 - not one that matters


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_keywords_mean_what_they_mean_to_redis_pys_pools(step, pools, server, tls):
    server.tls = tls  # for the URLs
    await agree(step, pools, server)


# ---- what can be seen of a connection ------------------------------------------------------------

ATTRIBUTES = (
    "client_name", "credential_provider", "db", "driver_info", "health_check_interval", "host",
    "legacy_responses", "password", "path", "port", "protocol", "redis_connect_func",
    "retry_on_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options",
    "socket_timeout", "socket_type", "username", "suffix", "_socket_read_size",
)  # fmt: skip
OPTIONS = {
    name: (getattr(socket, level), getattr(socket, name))
    for level, name in (
        ("SOL_SOCKET", "SO_KEEPALIVE"),
        ("IPPROTO_TCP", "TCP_NODELAY"),
        ("IPPROTO_TCP", "TCP_KEEPIDLE"),
        ("IPPROTO_TCP", "TCP_KEEPINTVL"),
        ("IPPROTO_TCP", "TCP_KEEPCNT"),
    )
    if hasattr(socket, name)
}


def coding(encoder: Encoder) -> tuple[Any, ...]:
    return (
        type(encoder),
        encoder.encoding,
        encoder.encoding_errors,
        encoder.decode_responses,
    )


async def look_at(pool: Any) -> dict[str, Any]:
    """Tell how a connection was made, what the server thinks of it, and how it speaks."""
    conn = await pool.get_connection()
    told = {name: getattr(conn, name, None) for name in ATTRIBUTES}
    told["retry"] = (conn.retry.get_retries(), {e.__name__ for e in conn.retry._supported_errors})
    told["parser"] = type(conn._get_parser())
    told["encoder"] = coding(conn.encoder)
    told["repr"] = repr(conn)
    sock = conn._writer.get_extra_info("socket")
    told["socket"] = {
        name: sock.getsockopt(*option)
        for name, option in OPTIONS.items()
        if sock.family == socket.AF_INET or option[0] == socket.SOL_SOCKET
    }
    await pool.release(conn)
    told["pool"] = (pool.get_protocol(), pool.encoder_class, coding(pool.get_encoder()))

    client = client_of(pool)
    info = await client.client_info()
    told["server's view"] = [info.get(name) for name in ("db", "name", "user", "resp", "lib-name")]
    await client.set("text", "Grüße")
    told["raw"] = await client.execute_command("GET", "text", NEVER_DECODE=True)
    await client.zadd("scores", {"a": 1, "b": 2.5})
    await client.hset("hash", mapping={"a": 1, "b": "é"})
    await client.xadd("stream", {"a": 1}, id="1-1")
    told["replies"] = [
        await client.get("text"),
        await client.zrange("scores", 0, -1, withscores=True),
        await client.zscore("scores", "b"),
        await client.hgetall("hash"),
        await client.xread({"stream": 0}),
        await client.config_get("maxmemory*policy"),
        await client.pipeline().hgetall("hash").zincrby("scores", 1, "a").execute(),
        await client.set("text", "x", get=True),
    ]
    return told


# ---- keywords ------------------------------------------------------------------------------------


class JsonEncoder(Encoder):
    """Takes also what JSON takes."""

    def encode(self, value: Any) -> Any:
        return super().encode(json.dumps(value) if isinstance(value, dict) else value)


class OwnParser(HIREDIS["parser_class"]):
    """One of the program's own."""


class OwnConnection(Connection):
    """Takes a keyword of its own, and overrides a method."""

    def __init__(self, *, suffix: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.suffix = suffix

    def pack_command(self, *args: Any) -> list[bytes]:
        if args[0] == "ECHO":
            args = ("ECHO", args[1] + self.suffix)
        return super().pack_command(*args)


class Provider(CredentialProvider):
    """Knows the default user, who has no password."""

    async def get_credentials_async(self) -> tuple[str, str]:
        return "default", "any"


async def connect_in_ones_own_way(conn: Any) -> None:
    await conn.on_connect()
    assert await ask(conn, "ECHO", "own") in {b"own", "own"}


def connect_at_once(conn: Any) -> None:
    conn._get_parser().on_connect(conn)


KEYWORDS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "db": {"db": 3},
    "db as text": {"db": "3"},
    "client_name": {"client_name": "web"},
    "encoding": {"encoding": "latin-1"},
    "encoding decoded": {"encoding": "latin-1", "decode_responses": True},
    "encoding_errors": {"encoding": "ascii", "encoding_errors": "replace"},
    "decode_responses": {"decode_responses": True},
    "decoded resp2": {"decode_responses": True, "protocol": 2},
    "socket_timeout": {"socket_timeout": 7},
    "no socket_timeout": {"socket_timeout": None, "socket_connect_timeout": None},
    "socket_connect_timeout": {"socket_connect_timeout": 3},
    "socket_keepalive": {"socket_keepalive": True},
    "no socket_keepalive": {"socket_keepalive": False},
    "socket_keepalive_options": {"socket_keepalive_options": {socket.TCP_KEEPCNT: 7}},
    "no socket_keepalive_options": {"socket_keepalive_options": None},
    "socket_read_size": {"socket_read_size": 64},
    "health_check_interval": {"health_check_interval": 3600},
    "retry": {"retry": Retry(ConstantBackoff(0), 3)},
    "retry_on_error": {"retry_on_error": [redis.BusyLoadingError]},
    "retry_on_timeout": {"retry_on_timeout": True},
    "protocol 2": {"protocol": 2},
    "protocol 3": {"protocol": 3},
    "protocol as text": {"protocol": "2"},
    "unified resp2": {"legacy_responses": False, "protocol": 2},
    "unified resp3": {"legacy_responses": False, "protocol": 3},
    "unified": {"legacy_responses": False},
    "python parser": PYTHON,
    "hiredis": HIREDIS,
    "parser_class": {"parser_class": OwnParser},
    "encoder_class": {"encoder_class": JsonEncoder},
    "connection_class": {"connection_class": OwnConnection},
    "driver_info": {"driver_info": DriverInfo().add_upstream_driver("web", "1.2")},
    "no driver_info": {"driver_info": None},
    "redis_connect_func": {"redis_connect_func": connect_in_ones_own_way},
    "plain redis_connect_func": {"redis_connect_func": connect_at_once, "protocol": 2},
    "credential_provider": {"credential_provider": Provider()},
    "credential_provider resp2": {"credential_provider": Provider(), "protocol": 2},
}
ROWS = {name: (keywords,) for name, keywords in KEYWORDS.items()}


@walk.with_each(ROWS)
async def with_a_keyword(make: Make, keywords: dict[str, Any]):
    told = await look_at(make(**{"retry": never(), **keywords}))
    plain = keywords.keys() & set(ATTRIBUTES) - {"protocol", "socket_keepalive_options"}
    assert {name: told[name] for name in plain} == {name: keywords[name] for name in plain}
    return told


def said_to(talker: Talker) -> list[list[bytes]]:
    """Tell what it heard, but for what a client asks that wants to know which commands may share."""
    return [words for words in talker.heard if words != [b"COMMAND"]]


# Who answers here knows no names of clients.
@walk.with_each({name: row for name, row in ROWS.items() if name != "client_name"})
async def in_the_handshake_with_a_keyword(make: Make, keywords: dict[str, Any]):
    talker = Talker()
    try:
        # At another's address: it does not know PING.
        keywords = {"retry": never(), **keywords, "health_check_interval": 0}
        pool = make(host="127.0.0.1", port=talker.port, **keywords)
        told = await client_of(pool).execute_command("ECHO", "Grüße")
        await pool.aclose()
    finally:
        talker.destroy()
    assert talker.heard[-1][0] == b"ECHO"
    return said_to(talker), told


@walk.with_each({"RESP2": (2,), "RESP3": (3,)})
async def as_another_user(make: Make, protocol: int):
    with user(make.server, "alice", PASSWORD):
        pool = make(username="alice", password=PASSWORD, protocol=protocol, retry=never())
        told = [await look_at(pool), await client_of(pool).acl_whoami()]
        await pool.aclose()
    assert told[1] in {"alice", b"alice"}
    return told


@walk.feature
async def under_another_name_of_the_library(make: Make):
    talker = Talker()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pool = make(host="127.0.0.1", port=talker.port, lib_name="lib", lib_version="1.2")
            client = client_of(pool)
            assert await client.echo("mine") == b"mine"
            await pool.aclose()
    finally:
        talker.destroy()
    assert [b"CLIENT", b"SETINFO", b"LIB-NAME", b"lib"] in talker.heard
    return said_to(talker), {(warning.category, str(warning.message)) for warning in caught}


@walk.with_each({"TCP": ({},), "unix": ({"connection_class": UnixDomainSocketConnection},)})
async def through_a_socket_of_either_kind(make: Make, keywords: dict[str, Any]):
    where = {"path": make.server.path} if keywords else {}
    told = await look_at(make(db=3, client_name="web", retry=never(), **keywords, **where))
    assert told["server's view"][:2] == [3, "web"]
    return told


@walk.feature
async def credentials_are_asked_for_with_each_connection(make: Make):
    asked = []

    class Counting(Provider):
        async def get_credentials_async(self) -> tuple[str, str]:
            asked.append(await super().get_credentials_async())
            return asked[-1]

    pool = make(credential_provider=Counting())
    conns = [await pool.get_connection() for _ in range(2)]
    for conn in conns:
        await pool.release(conn)
    assert await client_of(pool).ping()
    return len(asked)


@walk.feature
async def the_health_is_checked_when_it_is_time(make: Make):
    pool = make(health_check_interval=3600)
    client = client_of(pool)
    await client.echo("mine")
    make.server.run("CONFIG", "RESETSTAT")
    for _ in range(3):
        conn = await pool.get_connection()
        conn.next_health_check = -1
        await pool.release(conn)
        assert await client.echo("mine") == b"mine"
        assert conn.next_health_check > asyncio.get_running_loop().time()
    told = (await client.info("commandstats"))["cmdstat_ping"]["calls"]
    assert told == 3
    return told


@walk.feature
async def errors_to_retry_on_are_retried_on(make: Make):
    retry = Retry(ConstantBackoff(0), 2)
    client = make.client(retry=retry, retry_on_error=[redis.ResponseError])
    await client.set("text", "abc")
    make.server.run("CONFIG", "RESETSTAT")
    error = await error_of(client.execute_command("INCR", "text"))
    calls = (await client.info("commandstats"))["cmdstat_incr"]["calls"]
    assert calls == 3
    return calls, str(error)


@walk.feature
async def connection_classes_of_ones_own_are_used(make: Make):
    told = []
    for own, where in (
        (OwnConnection, {}),
        (type("OwnUnix", (UnixDomainSocketConnection,), {}), {"path": make.server.path}),
    ):
        pool = make(connection_class=own, retry=never(), **where)
        conn = await pool.get_connection()
        assert isinstance(conn, own)
        told += [pool.connection_class is own, type(conn).__name__, await ask(conn, "PING")]
        await pool.release(conn)
    pool = make(connection_class=OwnConnection, suffix="!")
    told.append(await client_of(pool).echo("mine"))
    assert told[-1] == b"mine!"
    return told


@walk.feature
async def connection_classes_may_connect_and_disconnect_in_their_own_way(make: Make):
    calls = []

    class Own(Connection):
        async def connect(self) -> None:
            calls.append("connect") if not self.is_connected else None
            await super().connect()

        async def disconnect(self, *args: Any, **kwargs: Any) -> None:
            calls.append("disconnect") if self.is_connected else None
            await super().disconnect(*args, **kwargs)

    pool = make(connection_class=Own, retry=never())
    conn = await pool.get_connection()
    await conn.disconnect()
    await pool.release(conn)
    assert await client_of(pool).ping()
    assert calls == ["connect", "disconnect", "connect"]
    return list(calls)  # not how the pool itself disconnects at the end


@walk.feature
async def encoders_of_ones_own_encode(make: Make):
    client = make.client(encoder_class=JsonEncoder)
    await client.set("key", {"a": 1})
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        await client.publish("news", {"a": 2})
        message = await pubsub.get_message(timeout=5)
    assert await client.get("key") == b'{"a": 1}'
    return message["data"], type(client.get_encoder())


@walk.feature
async def an_option_that_does_not_exist_is_a_type_error(make: Make):
    async def attempt() -> None:
        await make(qwertz=1).get_connection()

    with pytest.raises(TypeError, match="qwertz"):
        await attempt()
    return True


# ---- URLs ----------------------------------------------------------------------------------------

URLS = {
    "plain": "redis://127.0.0.1:{port}",
    "slash": "redis://127.0.0.1:{port}/",
    "db in the path": "redis://127.0.0.1:{port}/3",
    "db in the query": "redis://127.0.0.1:{port}/3?db=4",
    "no number in the path": "redis://127.0.0.1:{port}/three",
    "localhost": "redis://localhost:{port}",
    "user": "redis://alice:{password}@127.0.0.1:{port}/3",
    "user in the query": "redis://127.0.0.1:{port}?username=alice&password={password}",
    "password of the default user": "redis://:any@127.0.0.1:{port}",
    "client_name": "redis://127.0.0.1:{port}?client_name=a%2520b",
    "timeouts": "redis://127.0.0.1:{port}?socket_timeout=7.5&socket_connect_timeout=3",
    "keepalive": "redis://127.0.0.1:{port}?socket_keepalive=no",
    "retry_on_timeout": "redis://127.0.0.1:{port}?retry_on_timeout=yes",
    "retry_on_timeout not": "redis://127.0.0.1:{port}?retry_on_timeout=no",
    "max_connections": "redis://127.0.0.1:{port}?max_connections=3",
    "health_check_interval": "redis://127.0.0.1:{port}?health_check_interval=60",
    "protocol": "redis://127.0.0.1:{port}?protocol=2",
    "legacy_responses": "redis://127.0.0.1:{port}?legacy_responses=no",
    "decode_responses": "redis://127.0.0.1:{port}?decode_responses=True",
    "encoding": "redis://127.0.0.1:{port}?encoding=latin-1&encoding_errors=replace",
    "socket_read_size": "redis://127.0.0.1:{port}?socket_read_size=64",
    "unix": "unix://{path}",
    "unix with db": "unix://{path}?db=3",
    "unix with user": "unix://alice:{password}@{path}?db=3",
    "unix with user in the query": "unix://{path}?username=alice&password={password}",
    "TLS": "rediss://127.0.0.1:{tls}/3?ssl_ca_data={ca}&ssl_min_version=772",
    "TLS unchecked": "rediss://127.0.0.1:{tls}?ssl_cert_reqs=none&ssl_check_hostname=no",
}


@walk.with_each({name: (url,) for name, url in URLS.items()})
async def with_a_url(make: Make, url: str):
    tls = make.server.tls
    url = url.format(
        port=make.server.port,
        path=make.server.path,
        password=quote(PASSWORD, safe=""),
        tls=tls.port,
        ca=quote(tls.authority_pem, safe=""),
    )
    with user(make.server, "alice", PASSWORD):
        pool = make.from_url(url, retry=never())
        told = await look_at(pool)
        kwargs = pool.connection_kwargs
        await pool.aclose()
    return told, pool.connection_class, [kwargs.get(name) for name in ("db", "client_name")]


@walk.feature
async def what_the_url_says_goes_before_the_keywords(make: Make):
    url = f"{make.server.url}/4?max_connections=3&client_name=url"
    pool = make.from_url(url, db=7, client_name="keyword", max_connections=8, retry=never())
    told = await look_at(pool)
    assert told["server's view"][:2] == [4, "url"]
    return told, pool.max_connections


@walk.with_each(
    {
        name: (url,)
        for name, url in {
            "no scheme": "localhost:6379",
            "another scheme": "http://localhost",
            "nothing": "",
            "no number": "redis://localhost?db=three",
            "no port": "redis://localhost:abc",
        }.items()
    }
)
async def a_url_that_is_none_is_a_value_error(make: Make, url: str):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - redis-py's words are its own
        make.from_url(url)
    return type(caught.value)
