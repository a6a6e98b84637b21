"""The pipelined client at home in redis-py: parsers, tracers, telemetry, tokens, loops; and what shares."""

import asyncio
import contextlib
import logging
from functools import wraps

import pytest
import redis
from metrics import Telemetry
from redis.asyncio import Connection, Redis
from redis.auth.token import SimpleToken
from servers import HIREDIS, STRICT, Server, Talker, eventually, version

from aiopool import PipelinedRedis, RedisPool, WrongLoop


@pytest.fixture
async def client(pool):
    return pool.pipelined()


async def many(client: Redis, number: int = 300) -> list[bytes]:
    """Have so many tasks ask at once, each for a word of its own."""
    words = [b"%d" % n for n in range(number)]
    assert await asyncio.gather(*(client.echo(word) for word in words)) == words
    return words


# ---- connections ---------------------------------------------------------------------------------


async def test_many_tasks_make_do_with_one_connection(client, server: Server):
    await many(client)
    assert len(server.clients()) == 1


async def test_more_lanes_are_more_connections_and_no_more(pool, server: Server):
    client = pool.pipelined(lanes=3)

    async def ask(number: int) -> None:
        for turn in range(20):
            word = b"%d.%d" % (number, turn)
            assert await client.echo(word) == word
            await asyncio.sleep(0)

    await asyncio.gather(*(ask(number) for number in range(50)))
    assert 1 <= len(server.clients()) <= 3
    assert pool.stats().lent == 0


@pytest.mark.eager
async def test_it_works_with_eager_tasks(client, pool):
    await many(client)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.incr("number")) for _ in range(100)]
    assert sorted(task.result() for task in tasks) == list(range(1, 101))
    assert pool.stats().lent == 0


@pytest.mark.eager
async def test_with_eager_tasks_health_is_checked_and_push_messages_are_handled(server: Server):
    async def track(conn) -> None:
        await conn.on_connect()
        await conn.send_command("CLIENT", "TRACKING", "ON")
        await conn.read_response()

    # redis-py sends its driver_info as two commands at once: between them, a PING would be given
    # the first one's reply.
    options = {
        "health_check_interval": 0.001,
        "redis_connect_func": track,
        "protocol": 3,
        "driver_info": None,
    }
    async with RedisPool(server.url, max_size=1, **options, **STRICT) as pool:
        client = pool.pipelined()
        for number in range(10):
            assert await client.get("key") == (b"%d" % number if number else None)
            server.run("SET", "key", number + 1)
            await asyncio.sleep(0.002)
        assert pool.stats().lent == 0


async def test_what_one_task_does_is_done_in_its_order(pool):
    client = pool.pipelined(lanes=3)

    async def count(key: str) -> None:
        for number in range(50):
            await client.rpush(key, number)
        assert await client.lrange(key, 0, -1) == [b"%d" % number for number in range(50)]

    await asyncio.gather(*(count(f"list{number}") for number in range(20)))


async def test_through_tls(tls):
    async with RedisPool(tls.url, ssl_cert_reqs="none", **STRICT) as pool:
        client = pool.pipelined()
        await many(client)
        await client.set("large", b"x" * 60_000)
        assert (
            await asyncio.gather(*(client.get("large") for _ in range(20))) == [b"x" * 60_000] * 20
        )


async def test_it_needs_no_closing_and_closes_no_pool(pool):
    async with pool.pipelined() as client:
        await many(client, 3)
    await many(client, 3)
    await client.aclose()
    await many(client, 3)
    assert isinstance(client, Redis)


async def test_its_single_connection_client_is_redis_pys(client):
    async with client.client() as single:
        assert not isinstance(single, PipelinedRedis)
        number = await single.client_id()
        assert await single.client_id() == number


async def test_asked_to_it_closes_the_pool(server: Server):
    pool = RedisPool(server.url, **STRICT)
    client = pool.pipelined()
    await many(client, 3)
    await client.aclose(close_connection_pool=True)
    assert pool.stats().size == 0


# ---- which commands share ------------------------------------------------------------------------

SHARE = [
    ("GET", "key"),
    ("get", "key"),
    (b"GET", "key"),
    ("SET", "key", "value"),
    ("OBJECT ENCODING", "key"),
    ("OBJECT", "ENCODING", "key"),
    ("MEMORY USAGE", "key"),
    ("XADD", "stream", "*", "field", "value"),
    ("XREAD", "STREAMS", "stream", "0"),
    ("XREAD", "COUNT", 1, b"STREAMS", "stream", "0"),
    ("XREADGROUP", "GROUP", "group", "me", "STREAMS", "stream", ">"),
    ("XINFO STREAM", "stream"),
    ("LPOP", "list"),
    ("PUBLISH", "channel", "message"),
    ("EVAL", "return 1", 0),
    ("PING",),
    ("DBSIZE",),
    ("INFO",),
    ("COMMAND COUNT",),
    ("EVALSHA", "f" * 40, 0),
    ("SETBIT", "bits", 7, 1),
    ("HGETALL", "hash"),
    ("SADD", "set", "member"),
    ("ZADD", "sorted", 1, "member"),
    ("ZPOPMIN", "sorted"),
    ("LMOVE", "list", "other", "LEFT", "LEFT"),
    ("GEOADD", "places", 1, 2, "here"),
    ("PFADD", "counter", "member"),
    ("XGROUP CREATE", "stream", "another", "$"),
    ("EXPIRE", "key", 100),
    ("SORT", "list"),
    ("COPY", "key", "copy"),
    ("DUMP", "key"),
    ("SCAN", 0),
    ("KEYS", "*"),
    ("FLUSHDB",),
    ("TIME",),
]
SHARE_NOT = [
    ("BLPOP", "list", 0.01),
    ("BRPOP", "list", 0.01),
    ("BLMOVE", "list", "other", "LEFT", "LEFT", 0.01),
    ("BZPOPMIN", "sorted", 0.01),
    ("XREAD", "BLOCK", 10, "STREAMS", "stream", "$"),
    ("xread", "count", "1", b"block", "10", "streams", "stream", "$"),
    ("XREAD BLOCK 10", "STREAMS", "stream", "$"),
    ("XREADGROUP", "GROUP", "streams", "me", "BLOCK", 10, "STREAMS", "stream", ">"),
    ("XREADGROUP", "GROUP", "group", "Streams", "BLOCK", 10, "STREAMS", "stream", ">"),
    ("WAIT", 0, 10),
    ("SELECT", 0),
    ("CLIENT ID",),
    ("CLIENT", "ID"),
    ("CLIENT", "TRACKING", "OFF"),
    ("AUTH", "wrong"),
    ("RESET",),
    ("WATCH", "key"),
    ("MULTI",),
    ("DISCARD",),
    ("BRPOPLPUSH", "list", "other", 0.01),
    ("EXEC",),
    ("UNWATCH",),
    ("HELLO",),
    ("QUIT",),
    ("READONLY",),
    ("ACL WHOAMI",),
    ("SLOWLOG", "LEN"),
    ("LATENCY LATEST",),
    ("ROLE",),
    ("SAVE",),
    ("DEBUG", "JMAP"),
    ("SCRIPT", "FLUSH"),
    ("HIMPORT SET", "key", "fields", 1),
    ("", "PING"),
    (b"\xff", "key"),
    ("CONFIG GET", "maxclients"),
    ("SCRIPT EXISTS", "abc"),
    ("PUBSUB CHANNELS",),
    ("PUBSUB", "NUMPAT"),
    ("NO.SUCH",),
    pytest.param(
        ("OBJECT NOSUCH", "key"),
        marks=pytest.mark.skipif(version() < (7,), reason="older servers tell no second words"),
    ),
    ("GETSET" + " " * 60, "key"),
]


async def lendings(client: Redis, *command: object) -> int:
    """Say how many connections it takes to send a command and an ECHO at once."""
    pool = client.connection_pool
    before = pool.stats().acquired
    async with asyncio.timeout(10):
        word = asyncio.create_task(client.echo("word"))
        with contextlib.suppress(redis.RedisError):
            await client.execute_command(*command)
        await word
    return pool.stats().acquired - before


@pytest.mark.parametrize("command", SHARE, ids=str)
async def test_such_a_command_goes_with_the_others(server: Server, command):
    server.run("SET", "key", "value")
    server.run("XADD", "stream", "1-1", "field", "value")
    async with RedisPool(server.url, **STRICT) as pool:
        client = pool.pipelined()
        await client.ping()
        assert await lendings(client, *command) == 1


@pytest.mark.parametrize("command", SHARE_NOT, ids=str)
async def test_such_a_command_gets_a_connection_of_its_own(server: Server, command):
    async with RedisPool(server.url, **STRICT) as pool:
        client = pool.pipelined()
        await client.ping()
        assert await lendings(client, *command) == 2


async def test_names_are_remembered_and_whole_commands_are_not(server: Server):
    async with RedisPool(server.url, **STRICT) as pool:
        client = pool.pipelined()
        for command in ("AUTH default secret", "GET secret", "OBJECT ENCODING secret"):
            with contextlib.suppress(redis.RedisError):
                await client.execute_command(command)
        await client.execute_command("GET", "key")
        await client.execute_command("OBJECT ENCODING", "key")
        assert client._sharing.known == {"GET": True, "OBJECT ENCODING": True}


async def test_scripts_get_connections_of_their_own_if_told_to(server: Server):
    async with RedisPool(server.url, **STRICT) as pool:
        client = pool.pipelined(share_scripts=False)
        await client.ping()
        assert await lendings(client, "EVAL", "return 1", 0) == 2
        assert await lendings(client, "GET", "key") == 1


async def test_a_long_command_does_not_hold_up_the_others(server: Server):
    async with RedisPool(server.url, **STRICT) as pool:
        client = pool.pipelined()
        await client.ping()
        assert await lendings(client, "SET", "key", b"x" * 100_000) == 2
        assert await lendings(client, "DEL", *[b"x" * 1_000] * 100) == 2
        assert await lendings(client, "SET", "key", b"x" * 50_000) == 1


async def test_who_blocks_holds_up_nobody(client):
    blocked = asyncio.create_task(client.blpop("list", 20))
    await many(client)
    await client.lpush("list", "value")
    assert [*await blocked] == [b"list", b"value"]


async def test_a_user_who_may_not_ask_for_the_commands_shares_nothing_and_is_told(
    server: Server, caplog
):
    server.run("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+echo")
    try:
        pool = RedisPool(server.url, username="limited", password="secret", max_size=3, **STRICT)  # noqa: S106 - of no worth
        async with pool:
            client = pool.pipelined()
            with caplog.at_level(logging.WARNING, "aiopool"):
                await many(client, 20)
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert "does not tell its commands" in caplog.text
            assert "secret" not in caplog.text
            assert pool.stats().acquired == 21  # one for each command, COMMAND among them
    finally:
        server.run("ACL", "DELUSER", "limited")


class Vague(Talker):
    """A server with another idea of COMMAND."""

    def _reply(self, words):
        return b"*2\r\n+get\r\n:1\r\n" if words == [b"COMMAND"] else super()._reply(words)


async def test_with_a_server_of_which_the_table_of_commands_can_t_be_read_nothing_shares(caplog):
    talker = Vague()
    try:
        async with RedisPool(talker.url, max_size=3, **STRICT) as pool:
            await many(pool.pipelined(), 20)
            assert pool.stats().acquired == 21  # one for each command, COMMAND among them
    finally:
        talker.destroy()
    assert "does not tell its commands" in caplog.text


# ---- redis-py's ways -----------------------------------------------------------------------------


@pytest.fixture
def traced(monkeypatch):
    """Have something put round redis-py's method, as libraries that trace commands do."""
    seen = []
    original = Redis.execute_command

    @wraps(original)
    async def trace(self, *args, **options):
        seen.append(args)
        try:
            return await original(self, *args, **options)
        except Exception as error:
            seen.append(type(error))
            raise

    monkeypatch.setattr(Redis, "execute_command", trace)
    return seen


async def test_a_tracer_sees_every_command_and_they_share_all_the_same(
    server: Server, client, traced
):
    await many(client)
    assert len(traced) == 300
    assert len(server.clients()) == 1
    await client.client_id()
    await client.set("key", "word")
    with pytest.raises(redis.ResponseError):
        await client.incr("key")
    assert traced[300:] == [
        ("CLIENT ID",),
        ("SET", "key", "word"),
        ("INCRBY", "key", 1),
        redis.ResponseError,
    ]
    assert await client.blpop("list", 0.01) is None


async def test_redis_pys_telemetry_records_every_command(server: Server, client):
    telemetry = Telemetry()
    try:
        await many(client, 50)
        await client.blpop("list", 0.01)
        with pytest.raises(redis.ResponseError):
            await client.execute_command("LPUSH", "key")
        assert telemetry.operations() == {"ECHO": 50, "BLPOP": 1}
        assert telemetry.sum("redis.client.errors") == 1
        assert len(server.clients()) <= 2
    finally:
        telemetry.end()


async def test_an_unknown_version_of_redis_py_shares_nothing_and_works(server, monkeypatch):
    monkeypatch.setattr("aiopool.redis._pipelined.version", "8.9.0")
    async with RedisPool(server.url, max_size=3, **STRICT) as pool:
        await many(pool.pipelined(), 30)
        assert pool.stats().acquired == 30


async def test_a_connection_class_with_ways_of_its_own_shares_nothing_and_works(server):
    heard = []

    class Own(Connection):
        async def read_response(self, *args, **kwargs):
            heard.append(reply := await super().read_response(*args, **kwargs))
            return reply

    async with RedisPool(server.url, connection_class=Own, max_size=3, **STRICT) as pool:
        client = pool.pipelined()
        words = await many(client, 30)
        assert all(word in heard for word in words)
        async with asyncio.timeout(5):
            assert not await client.xread({"stream": 0})


async def test_a_response_callback_of_the_users_is_called(client):
    client.set_response_callback("ECHO", lambda reply, **_: reply.upper())
    assert await client.echo("word") == b"WORD"

    async def later(reply, **_):
        await asyncio.sleep(0)
        return reply * 2

    client.set_response_callback("ECHO", later)
    assert await client.echo("word") == b"wordword"


async def test_an_argument_redis_py_does_not_send_is_refused_to_its_caller_alone(client, pool):
    with pytest.raises(redis.DataError):
        await client.set("key", object())
    await many(client, 5)
    assert pool.stats().lent == 0


async def test_a_reply_that_can_t_be_decoded_is_an_error_of_its_caller_alone(server: Server, wire):
    server.run("SET", "binary", b"\xff")
    server.run("RPUSH", "list", "é", b"\xfe", "b", b"\xfd")
    async with RedisPool(server.url, decode_responses=True, **STRICT, **wire) as pool:
        client = pool.pipelined()
        outcomes = await asyncio.gather(
            *(client.echo(f"é{number}") for number in range(10)),
            client.get("binary"),
            client.lrange("list", 0, -1),
            *(client.echo(f"é{number}") for number in range(10, 20)),
            return_exceptions=True,
        )
        errors = [str(outcomes.pop(10)) for _ in range(2)]
        assert outcomes == [f"é{number}" for number in range(20)]
        assert "can't decode byte 0xff in position 0" in errors[0]
        assert "can't decode byte 0xfe in position 0" in errors[1]
        assert pool.stats().opened == 1


async def test_a_push_message_that_can_t_be_decoded_is_taken_for_nobodys_reply(server: Server):
    async def track(conn) -> None:
        await conn.on_connect()
        await conn.send_command("CLIENT", "TRACKING", "ON")
        await conn.read_response()

    options = {"decode_responses": True, "redis_connect_func": track, "protocol": 3}
    async with RedisPool(server.url, max_size=1, **options, **STRICT) as pool:
        client = pool.pipelined()
        assert await client.get(b"\xff") is None
        server.run("SET", b"\xff", 1)  # of which the connection is told
        words = [str(number) for number in range(20)]
        assert await asyncio.gather(*(client.echo(word) for word in words)) == words
        assert pool.stats().opened == 1


async def test_an_error_inside_a_reply_that_ends_the_connection_puts_no_reply_in_anothers_place(
    server: Server, wire
):
    async with RedisPool(server.url, **STRICT, **wire) as pool:
        client = pool.pipelined()
        await client.ping()
        words = [b"%d" % number for number in range(20)]
        error, *others = await asyncio.gather(
            client.eval("return {redis.error_reply('LOADING no'), 'mine', 'mine, too'}", 0),
            *(client.echo(word) for word in words),
            return_exceptions=True,
        )
        assert isinstance(error, redis.BusyLoadingError)
        if wire["parser_class"] is HIREDIS["parser_class"]:
            assert others == words
        else:  # redis-py's parser in Python leaves the rest of that reply unread
            assert {type(other) for other in others} == {redis.BusyLoadingError}
        assert await client.echo("word") == b"word"


async def test_a_new_token_is_shown_on_a_lane_that_is_always_busy(server: Server):
    server.run("ACL", "SETUSER", "renewed", "on", ">first", ">second", "~*", "&*", "+@all")
    try:
        pool = RedisPool(server.url, username="renewed", password="first", max_size=1, **STRICT)  # noqa: S106 - of no worth
        async with pool:
            client = pool.pipelined()
            stop = asyncio.Event()

            async def work() -> None:
                while not stop.is_set():
                    await client.echo("word")

            server.run("CONFIG", "RESETSTAT")
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(work())
                await eventually(lambda: pool.stats().lent, "the lane is busy")
                await pool.re_auth_callback(SimpleToken("second", -1, -1, {"oid": "renewed"}))
                await eventually(
                    lambda: server.run("INFO", "commandstats").get("cmdstat_auth"),
                    "the connection has authenticated anew",
                )
                stop.set()
            assert pool.stats().opened == 1
    finally:
        server.run("ACL", "DELUSER", "renewed")


# ---- loops ---------------------------------------------------------------------------------------


def test_on_one_loop_after_the_other(server: Server):
    pool = RedisPool(server.url, **STRICT)
    client = pool.pipelined()
    for _ in range(3):

        async def use() -> None:
            await many(client, 20)
            asyncio.create_task(client.echo("left behind"))  # noqa: RUF006 - that is the point
            await asyncio.sleep(0)

        asyncio.run(use())

    async def end() -> None:
        await many(client, 20)
        await pool.aclose()

    asyncio.run(end())


def test_on_two_loops_of_one_thread_it_says_so(server: Server):
    pool = RedisPool(server.url, **STRICT)
    client = pool.pipelined()
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(many(client, 5))
        with pytest.raises(WrongLoop):
            second.run(client.echo("word"))
        first.run(many(client, 5))
        first.run(pool.aclose())


async def test_hiredis_is_not_needed(server: Server):
    for protocol in 2, 3:
        async with RedisPool(server.url, protocol=protocol, **STRICT, **HIREDIS) as pool:
            conn = await pool.acquire()
            conn.wire = None
            await pool.release(conn)
            await many(pool.pipelined(), 30)


def test_its_repr_shows_the_pool_and_no_password():
    text = repr(RedisPool("redis://:secret@localhost").pipelined())
    assert "PipelinedRedis" in text
    assert "RedisPool" in text
    assert "secret" not in text


@pytest.mark.skipif(version() < (7,), reason="functions came with Redis 7")
async def test_functions_share_as_scripts_do(server: Server):
    async with RedisPool(server.url, **STRICT) as pool:
        client = pool.pipelined()
        code = "#!lua name=mylib\nredis.register_function('one', function() return 1 end)"
        await client.function_load(code, replace=True)
        assert await lendings(client, "FCALL", "one", 0) == 1
        assert await client.fcall("one", 0) == 1
        await client.function_flush()
