"""Connections that go straight to the wire do what redis-py's own do, and leave to them what they don't."""

import asyncio
import contextlib
import gc
import threading
import weakref
from functools import partial

import pytest
import redis
import redis.asyncio.connection as theirs
from digests import changed, digest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis._parsers import _AsyncHiredisParser
from redis._parsers.encoders import Encoder
from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    DataError,
    InvalidResponse,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import HIREDIS, PYTHON, STRICT, Talker, eventually, wait_blocking

from aiopool import RedisPool
from aiopool.redis import _ledger, _packing
from aiopool.redis._lean import KNOWN, REPLACED, Lean, accountable, is_known

PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"
WIRED = {"protocol": 3, **HIREDIS}


@contextlib.asynccontextmanager
async def lean(url, **keywords):
    """Lend a connection that goes straight to the wire. If a test hangs, it fails."""
    async with (
        asyncio.timeout(20),
        RedisPool(url, max_size=1, **STRICT, **WIRED, **keywords) as pool,
        pool.connection() as conn,
    ):
        assert isinstance(conn, Lean)
        assert conn.wire is not None
        yield conn


class Deaf(Talker):
    """A server that does not read on while it is told not to."""

    def __init__(self):
        self.listening = threading.Event()
        self.listening.set()
        super().__init__()

    def _reply(self, words):
        self.listening.wait()
        return super()._reply(words)

    def destroy(self):
        self.listening.set()
        super().destroy()


@pytest.fixture
def deaf():
    server = Deaf()
    yield server
    server.destroy()


# ---- redis-py, as it is known --------------------------------------------------------------------


DIGESTS = {
    AbstractConnection._read_response_from_parser: "abdf0b68",
    AbstractConnection._send_packed_command: "1b9a5e65",
    AbstractConnection.can_read: "74c6e279",
    AbstractConnection.check_health: "dd21467d",
    AbstractConnection.pack_command: "878fe8fb",
    AbstractConnection.read_response: "3de71e59",
    AbstractConnection.send_command: "f6818bdc",
    AbstractConnection.send_packed_command: "1469991c",
    _AsyncHiredisParser.read_response: "1e36a321",
    _AsyncHiredisParser.read_from_socket: "7372bc57",
    _AsyncHiredisParser.can_read: "221524e2",
    _AsyncHiredisParser.on_connect: "e25c83f0",
    Encoder.encode: "01442b14",
    Redis.execute_command: "0d453bf5",
    Redis._send_command_parse_response: "169d1ffb",
    Redis._close_connection: "36b42c91",
    Redis.parse_response: "a021a6d8",
    Retry.call_with_retry: "065a0052",
    SentinelManagedConnection._connect_retry: "ae20ea45",
    SentinelManagedConnection.connect: "93ca6b27",
    SentinelManagedConnection.connect_to: "81d9d5ee",
    SentinelManagedConnection.read_response: "ccf1dd81",
    theirs.AsyncMaintNotificationsAbstractConnection._reschedule_active_read_timeout: "73df91e9",
}


@pytest.mark.parametrize("function", DIGESTS, ids=lambda function: function.__qualname__)
def test_redis_py_does_what_is_replaced_as_it_did(function):
    assert digest(function) == DIGESTS[function], changed(
        function, "aiopool/redis/_lean.py, _wire.py, _packing.py, _managed.py and _client.py"
    )


def test_the_installed_version_of_redis_py_is_known():
    assert redis.__version__.startswith(KNOWN), (
        f"see whether redis-py {redis.__version__} does what is replaced as {KNOWN}x did: until then its "
        "connections and its client go its own, slower, way"
    )


def test_an_unknown_version_of_redis_py_goes_its_own_way(monkeypatch):
    class Own(Connection):
        pass

    monkeypatch.setattr(redis, "__version__", "8.9.0")
    assert not is_known(Own)
    assert not issubclass(accountable(Own), Lean)


@pytest.mark.parametrize("name", REPLACED)
def test_what_somebody_has_put_round_redis_pys_methods_stays(monkeypatch, name):
    class Own(Connection):
        pass

    function = getattr(AbstractConnection, name)
    monkeypatch.setattr(AbstractConnection, name, partial(function))
    assert not is_known(Own)


def test_what_somebody_has_put_round_sentinels_reading_stays(monkeypatch):
    class Own(SentinelManagedConnection):
        pass

    function = SentinelManagedConnection.read_response
    monkeypatch.setattr(SentinelManagedConnection, "read_response", partial(function))
    assert not is_known(Own)


def test_all_that_is_replaced_is_watched():
    watched = {function.__qualname__ for function in DIGESTS}
    assert {f"AbstractConnection.{name}" for name in REPLACED} <= watched


@pytest.mark.parametrize(
    "connection_class",
    [Connection, SSLConnection, UnixDomainSocketConnection, SentinelManagedConnection],
)
def test_redis_pys_own_classes_are_known(connection_class):
    assert is_known(connection_class)
    assert issubclass(accountable(connection_class), Lean)


@pytest.mark.parametrize("base", [Connection, SentinelManagedConnection])
@pytest.mark.parametrize("name", REPLACED)
def test_a_class_with_its_own_way_keeps_it(name, base):
    class Own(base):
        pass

    setattr(Own, name, lambda *_: None)
    assert not is_known(Own)
    assert not issubclass(accountable(Own), Lean)


@pytest.mark.parametrize("name", REPLACED)
def test_where_redis_py_has_no_such_method_any_more_its_connections_are_left_as_they_are(
    monkeypatch, name
):
    class Own(Connection):
        pass

    monkeypatch.delattr(AbstractConnection, name)
    assert not is_known(Own)


async def test_parsers_in_python_go_redis_pys_way(server):
    async with RedisPool(server.url, protocol=3, **STRICT, **PYTHON) as pool:
        async with pool.connection() as conn:
            assert isinstance(conn, Lean)
            assert conn.wire is None
        assert await pool.client().echo("word") == b"word"


# ---- writing -------------------------------------------------------------------------------------


arguments = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.floats(),
    st.sampled_from(["x" * 6000, "x" * 6001, b"y" * 9000, "ä" * 3001]),
    st.binary().map(bytearray),
    st.binary().map(memoryview),
)
names = st.one_of(
    st.sampled_from(
        [
            "GET",
            "config get",
            b"CLIENT SETINFO",
            b"SET",
            " ACL  WHOAMI ",
            "grüße",
            "SET key " + "x" * 100,
        ]
    ),
    st.text(min_size=1),
    st.binary(),
    st.binary(min_size=1).map(bytearray),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(names, st.lists(arguments, max_size=5), st.sampled_from(["utf-8", "utf-16"]))
def test_commands_are_the_bytes_that_redis_py_makes_of_them(name, args, encoding):
    ours = accountable(Connection)(encoding=encoding, encoding_errors="replace")
    own = Connection(encoding=encoding, encoding_errors="replace")
    expected = own.pack_command(name, *args)
    assert b"".join(ours.pack_command(name, *args)) == b"".join(expected)
    several = [(name, *args), ("PING",), (name, *args)]
    assert b"".join(ours.pack_commands(several)) == b"".join(own.pack_commands(several))


@pytest.mark.parametrize("wrong", [True, None, object(), ["list"]])
async def test_arguments_that_redis_py_does_not_send_are_refused_in_its_words(server, wrong):
    with pytest.raises(DataError) as expected:
        Connection().pack_command("SET", "key", wrong)
    async with RedisPool(server.url, max_size=1, **STRICT, **WIRED) as pool:
        for client in (pool.client(), Redis(connection_pool=pool)):
            with pytest.raises(DataError) as refused:
                await client.set("key", wrong)
            assert str(refused.value) == str(expected.value)
        assert await pool.client().ping()
        assert pool.stats().opened == 1


async def test_an_encoder_of_the_users_own_is_asked_for_names_too(server):
    class Renaming(Encoder):
        def encode(self, value):
            value = super().encode(value)
            return {b"X-ECHO": b"ECHO", b"word": b"WORD"}.get(value, value)

    async with RedisPool(server.url, encoder_class=Renaming, **STRICT, **WIRED) as pool:
        assert await pool.client().execute_command("X-ECHO", "word") == b"WORD"


def test_no_command_is_remembered_only_names():
    conn = accountable(Connection)()
    secret = "AUTH default " + "s3cret" * 20
    caches = (_packing._head, _ledger.may_matter)
    before = [cache.cache_info().currsize for cache in caches]
    conn.pack_command(secret)
    assert [cache.cache_info().currsize for cache in caches] == before


async def test_a_pipeline_that_can_t_be_packed_leaves_no_debt(server):
    async with RedisPool(server.url, max_size=1, **STRICT, **WIRED) as pool:
        client = pool.client()
        pipeline = client.pipeline(transaction=False).get("key").set("key", object())
        with pytest.raises(DataError):
            await pipeline.execute()
        assert await client.pipeline(transaction=False).get("key").execute() == [None]
        assert (pool.stats().opened, pool.stats().idle) == (1, 1)


async def test_a_long_command_is_not_packed_twice(server, monkeypatch):
    encoded = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda *args: encoded.append(1) or encode(*args))
    async with RedisPool(server.url, max_size=1, **STRICT, **WIRED) as pool:
        await pool.client().execute_command("DEL", *[b"x" * 100] * 10_000)
    assert len(encoded) < 11_000


async def send(conn, *, times, size):
    for _ in range(times):
        await conn.send_command("SET", "key", b"x" * size)


async def test_whoever_writes_more_than_the_peer_takes_waits_and_then_gets_redis_pys_error(deaf):
    async with lean(deaf.url, socket_timeout=0.3) as conn:
        deaf.listening.clear()
        with pytest.raises(RedisTimeoutError, match=r"^Timeout writing to socket$"):
            await send(conn, times=1000, size=100_000)
        assert not conn.is_connected


async def test_a_peer_that_takes_its_time_gets_everything(deaf):
    async with lean(deaf.url) as conn:
        deaf.listening.clear()
        sending = asyncio.create_task(send(conn, times=100, size=100_000))
        await asyncio.sleep(0.05)
        assert not sending.done()
        assert conn._writer.transport.get_write_buffer_size() <= 65536 + 100_000
        deaf.listening.set()
        await sending
        await conn.disconnect()


async def test_small_commands_without_end_wait_for_the_peer_too(deaf):
    async with lean(deaf.url, socket_timeout=0.3) as conn:
        deaf.listening.clear()
        with pytest.raises(RedisTimeoutError, match=r"^Timeout writing to socket$"):
            await send(conn, times=100_000, size=1000)


async def test_pipelines_without_end_wait_for_the_peer_too(deaf):
    async with lean(deaf.url, socket_timeout=0.3) as conn:
        deaf.listening.clear()
        packed = conn.pack_commands([("SET", "key", b"x" * 10_000)] * 10)
        with pytest.raises(RedisTimeoutError, match=r"^Timeout writing to socket$"):
            await send_packed(conn, packed, times=1000)


async def send_packed(conn, packed, *, times):
    for _ in range(times):
        await conn.send_packed_command(packed)


@pytest.mark.parametrize("size", [1, 7000])
async def test_a_write_that_fails_is_an_error_at_once_and_harms_nobody_else(server, talker, size):
    async with lean(talker.url) as conn:
        talker.reset()
        wait_blocking(lambda: talker.open == 0, "it is reset")
        with pytest.raises(RedisConnectionError):  # the loop has not heard of the reset
            await conn.send_command("ECHO", "x" * size)
        assert not conn.is_connected
        for _ in range(10):  # on sockets of the same number
            async with asyncio.timeout(2), RedisPool(server.url, max_size=3) as pool:
                assert await pool.warm(3) == 3


@pytest.mark.parametrize("chunks", [1, 3])
async def test_a_write_on_a_closed_connection_is_redis_pys_error_and_then_it_connects_anew(
    server, chunks
):
    async with lean(server.url) as conn:
        conn._writer.transport.abort()
        with pytest.raises(RedisConnectionError):
            await conn.send_command("ECHO", "x" * (7000 if chunks == 3 else 1))
        await conn.send_command("ECHO", "word")
        assert await conn.read_response() == b"word"


# ---- reading -------------------------------------------------------------------------------------


async def test_a_reply_that_does_not_come_is_redis_pys_timeout_after_socket_timeout(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=0.1) as conn:
        loop = asyncio.get_running_loop()
        for _ in range(2):  # the second on another session
            await conn.send_command("ECHO", "word")
            begun = loop.time()
            with pytest.raises(
                RedisTimeoutError, match=rf"^Timeout reading from 127\.0\.0\.1:{talker.port}$"
            ):
                await conn.read_response()
            assert loop.time() - begun >= 0.09  # uvloop's clock is coarse
            assert not conn.is_connected
            assert asyncio.current_task().cancelling() == 0


async def test_a_timeout_with_the_connection_left_open_can_be_read_again(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=0.1) as conn:
        await conn.send_command("ECHO", "word")
        with pytest.raises(RedisTimeoutError):
            await conn.read_response(disconnect_on_error=False)
        assert conn.is_connected
        assert not conn.may_be_lent()
        talker.say(b"$4\r\nwo")
        await eventually(lambda: conn._reader._buffer, "it is here")
        talker.say(b"rd\r\n")
        assert await conn.read_response() == b"word"
        assert conn.may_be_lent()


async def test_the_time_is_that_of_the_whole_reply_not_of_its_parts(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=0.3) as conn:
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        talker.say(b"$1000\r\n")
        while not reading.done():
            talker.say(b"x")
            await asyncio.wait([reading], timeout=0.05)
        with pytest.raises(RedisTimeoutError):
            await reading


async def test_each_reply_has_the_whole_time(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=0.4) as conn:
        for _ in range(4):
            await conn.send_command("ECHO", "word")
            reading = asyncio.create_task(conn.read_response())
            await asyncio.sleep(0.2)
            talker.say(b"$4\r\nword\r\n")
            assert await reading == b"word"


@pytest.mark.parametrize("socket_timeout", [None, 5])
async def test_who_is_cancelled_while_reading_leaves_a_closed_connection(talker, socket_timeout):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=socket_timeout) as conn:
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        await asyncio.sleep(0)
        reading.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await reading
        assert not conn.is_connected


async def test_a_cancellation_in_the_very_turn_of_the_reply_or_of_the_timeout_is_one(talker):
    talker.mute.set()
    async with lean(talker.url) as conn:
        for end in (
            lambda wire: wire.data_received(b"+OK\r\n"),
            lambda wire: wire._fail(OSError()),
        ):
            await conn.send_command("ECHO", "word")
            reading = asyncio.create_task(conn.read_response())
            await asyncio.sleep(0)
            end(conn.wire)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert not conn.is_connected


async def test_two_who_read_at_once_are_told_so(talker):
    talker.mute.set()
    async with lean(talker.url) as conn:
        await conn.send_command("ECHO", "word")
        first = asyncio.create_task(conn.read_response())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task waits for a reply"):
            await conn.read_response()
        with pytest.raises(
            RedisConnectionError
        ):  # the second has closed the connection, as in redis-py
            await first


async def test_a_reply_given_to_who_is_cancelled_is_not_lost_if_the_connection_stays(talker):
    talker.mute.set()
    async with lean(talker.url) as conn:
        for word in ("first", "second"):
            await conn.send_command("ECHO", word)
        reading = asyncio.create_task(conn.read_response(disconnect_on_error=False))
        await asyncio.sleep(0)
        feed = conn._writer.transport.get_protocol().data_received
        feed(b"$5\r\nfirst\r\n")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        feed(b"$6\r\nsecond\r\n")
        assert [await conn.read_response() for _ in range(2)] == [b"first", b"second"]


@pytest.mark.parametrize("size", [0, 1, 5999, 6001, 70_000, 1_000_000])
async def test_values_of_any_size_come_back_as_they_were(server, size):
    value = bytes(range(256)) * (size // 256 + 1)
    async with RedisPool(server.url, max_size=1, **STRICT, **WIRED) as pool:
        for client in (pool.client(), Redis(connection_pool=pool)):
            await client.set("key", value[:size])
            assert await client.get("key") == value[:size]
        assert pool.stats().opened == 1


async def test_replies_that_come_before_they_are_asked_for_are_read_in_order(server):
    async with lean(server.url) as conn:
        for number in range(5):
            await conn.send_command("ECHO", number)
        await eventually(lambda: len(conn._reader._buffer) >= 5 * 7, "all are here")
        assert [await conn.read_response() for _ in range(5)] == [b"%d" % n for n in range(5)]
        await conn.send_command("ECHO", "word")
        assert await conn.read_response() == b"word"
        assert conn.may_be_lent()


async def test_push_messages_between_replies_are_handled_and_are_no_replies(talker):
    async with lean(talker.url) as conn:
        heard = []

        async def handler(message):
            heard.append(message)

        conn._parser.set_invalidation_push_handler(handler)
        talker.mute.set()
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        await asyncio.sleep(0)
        talker.say(PUSH)
        await eventually(lambda: heard, "it was handled")
        talker.say(PUSH + b"$4\r\nword\r\n")
        assert await reading == b"word"
        assert heard == [[b"invalidate", [b"key"]]] * 2
        assert conn.may_be_lent()


async def test_push_messages_give_no_more_time(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=1.5) as conn:
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        await asyncio.sleep(1.2)
        talker.say(PUSH)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(RedisTimeoutError):
            await reading
        assert asyncio.get_running_loop().time() - begun < 1.4


async def test_a_push_message_of_which_the_handling_takes_all_the_time_is_no_reply(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=0.1) as conn:

        async def handler(_message):
            await asyncio.sleep(0.2)

        conn._parser.set_invalidation_push_handler(handler)
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        await asyncio.sleep(0)
        talker.say(PUSH)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(RedisTimeoutError):
            await reading
        assert asyncio.get_running_loop().time() - begun < 1


async def test_errors_are_raised_and_those_that_end_a_connection_end_it(talker):
    async with lean(talker.url) as conn:
        talker.pong = b"-ERR no\r\n"
        await conn.send_command("PING")
        with pytest.raises(ResponseError, match=r"^no$"):
            await conn.read_response()
        assert conn.may_be_lent()
        talker.pong = b"*2\r\n-ERR no\r\n:1\r\n"
        await conn.send_command("PING")
        error, one = await conn.read_response()
        assert isinstance(error, ResponseError)
        assert one == 1
        for loading in (b"-LOADING wait\r\n", b"*1\r\n-LOADING wait\r\n"):
            talker.pong = loading
            await conn.send_command("PING")
            with pytest.raises(BusyLoadingError):
                await conn.read_response()
            assert not conn.is_connected
            assert not conn.is_lost()


async def test_bytes_that_are_no_reply_are_redis_pys_error_and_end_the_connection(talker):
    async with lean(talker.url) as conn:
        talker.pong = b"no reply\r\n"
        await conn.send_command("PING")
        with pytest.raises(InvalidResponse):
            await conn.read_response()
        assert not conn.is_connected


@pytest.mark.parametrize("end", ["hang_up", "reset"])
async def test_the_end_of_a_connection_is_redis_pys_error(talker, end):
    talker.mute.set()
    async with lean(talker.url) as conn:
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        await asyncio.sleep(0)
        getattr(talker, end)()
        with pytest.raises(RedisConnectionError) as error:
            await reading
        assert str(error.value).startswith(("Connection closed by server.", "Error while reading"))
        assert not conn.is_connected
        assert conn.is_lost()


async def test_a_time_that_redis_py_changes_meanwhile_is_kept(talker):
    talker.mute.set()
    async with lean(talker.url, socket_timeout=0.2) as conn:
        await conn.send_command("ECHO", "word")
        reading = asyncio.create_task(conn.read_response())
        await asyncio.sleep(0)
        conn.update_current_socket_timeout(60)  # as in a maintenance of the server
        done, _ = await asyncio.wait([reading], timeout=0.4)
        assert not done
        conn.update_current_socket_timeout(0.1)
        with pytest.raises(RedisTimeoutError):
            await reading


async def test_health_checks_are_made(talker):
    talker.pong = b"+PONG\r\n"
    async with lean(talker.url, health_check_interval=1000) as conn:
        client_s = len(talker.heard)
        await conn.send_command("ECHO", "word")
        assert await conn.read_response() == b"word"
        assert talker.heard[client_s:] == [[b"ECHO", b"word"]]
        assert conn.next_health_check > asyncio.get_running_loop().time() + 900
        conn.next_health_check = 0
        await conn.send_command("ECHO", "word")
        assert await conn.read_response() == b"word"
        assert talker.heard[client_s + 1 :] == [[b"PING"], [b"ECHO", b"word"]]


# ---- the client ----------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("ours", [True, False])
async def test_a_command_is_tried_as_often_as_by_redis_pys_client(talker, retries, ours):
    talker.mute.set()
    retry = Retry(NoBackoff(), retries)
    async with RedisPool(talker.url, max_size=1, socket_timeout=0.05, retry=retry, **WIRED) as pool:
        client = pool.client() if ours else Redis(connection_pool=pool)
        with pytest.raises(RedisTimeoutError):
            await client.echo("word")
        assert sum(words[0] == b"ECHO" for words in talker.heard) == 1 + retries
        assert pool.stats().lent == 0
        talker.mute.clear()
        assert await client.echo("word") == b"word"


async def test_an_error_of_a_command_holds_nothing_when_it_was_caught(server):
    async with RedisPool(server.url, max_size=1, **STRICT, **WIRED) as pool:
        client = pool.client()
        await client.set("key", "text")
        with pytest.raises(ResponseError) as caught:
            await client.lpush("key", "word")
        frames = []
        traceback = caught.value.__traceback__
        while traceback is not None:
            frames.append(traceback.tb_frame)
            traceback = traceback.tb_next
        of_ours = [f for f in frames if f.f_globals["__name__"].startswith("aiopool")]
        assert of_ours
        assert not [f for f in of_ours if caught.value in f.f_locals.values()]


@pytest.mark.parametrize("reply", [b"no reply\r\n", b"-LOADING wait\r\n", b"-ERR no\r\n"])
async def test_an_error_goes_when_it_was_caught(talker, reply):
    talker.pong = reply
    gc.collect()
    gc.disable()
    try:
        async with lean(talker.url) as conn:
            await conn.send_command("PING")
            try:
                await conn.read_response()
            except RedisError as error:
                gone = weakref.ref(error)
            await asyncio.sleep(0)  # till then the loop knows what has woken this task
            assert gone() is None
    finally:
        gc.enable()


async def test_what_is_put_round_redis_pys_client_is_called(server, monkeypatch):
    async with RedisPool(server.url, **STRICT, **WIRED) as pool:
        client = pool.client()
        execute, seen = Redis.execute_command, []

        async def traced(self, *args, **options):
            seen.append(args)
            return await execute(self, *args, **options)

        await client.set("key", "value")
        monkeypatch.setattr(Redis, "execute_command", traced)
        assert await client.get("key") == b"value"
        assert await pool.client().get("key") == b"value"
        assert seen == [("GET", "key")] * 2


async def test_a_pool_that_lends_other_connections_has_a_client_too(server):
    class Other(RedisPool):
        async def get_connection(self, *_args, **_options):
            return await theirs_of(server)

        async def release(self, connection):
            await connection.disconnect()

    pool = Other(server.url)
    assert await pool.client().echo("word") == b"word"
    await pool.aclose()


async def theirs_of(server):
    conn = Connection(port=server.port)
    await conn.connect()
    return conn


async def test_commands_whose_replies_are_not_to_be_decoded_are_not(server):
    async with RedisPool(server.url, decode_responses=True, **STRICT, **WIRED) as pool:
        client = pool.client()
        await client.set("key", "Grüße")
        assert await client.get("key") == "Grüße"
        dumped = await client.dump("key")
        assert isinstance(dumped, bytes)


async def test_callbacks_of_the_users_own_are_called(server):
    async with RedisPool(server.url, **STRICT, **WIRED) as pool:
        client = pool.client()

        async def later(reply, **_):
            await asyncio.sleep(0)
            return reply * 2

        client.set_response_callback("ECHO", later)
        assert await client.echo("word") == b"wordword"
