"""Clients and all that they do with a pool: commands, pipelines, subscriptions, scripts, locks."""

import asyncio
import warnings
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import LockError, LockNotOwnedError, NoScriptError, WatchError
from servers import HIREDIS, PYTHON, eventually
from walk import Make, Walk, agree, client_id, client_of, counts, error_of

walk = Walk()
PROTOCOLS = {"RESP2": (2,), "RESP3": (3,)}
PARSERS = {
    "RESP2": ({"protocol": 2, **HIREDIS},),
    "RESP3": ({"protocol": 3, **HIREDIS},),
    "RESP2 in Python": ({"protocol": 2, **PYTHON},),
    "RESP3 in Python": ({"protocol": 3, **PYTHON},),
    "decoded": ({"decode_responses": True},),
}


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_clients_do_what_they_do_on_redis_pys_pools(step, pools, server):
    await agree(step, pools, server)


# ---- clients and their pool ----------------------------------------------------------------------


@walk.feature
async def a_client_borrows_its_pool(make: Make):
    pool = make()
    client = client_of(pool)
    assert client.connection_pool is pool
    first = await client.client_id()
    await client.aclose()
    async with client:
        pass
    told = [client.auto_close_connection_pool, await client_id(pool) == first]
    told.append(getattr(client.connection, "is_connected", None))  # or what stands for it
    assert told == [False, True, None]
    return told


@walk.feature
async def a_client_from_the_pool_owns_it(make: Make):
    pool = make()
    client = Redis.from_pool(pool)
    told = [client.auto_close_connection_pool]
    for _ in range(2):
        told.append(await client.ping())
        await client.aclose()
        await eventually(lambda: not make.server.clients(), "no connection is left")
    async with client as entered:
        assert entered is client
        told.append(await client.ping())
    await eventually(lambda: not make.server.clients(), "no connection is left")
    told.append(await client.ping())
    assert told == [True] * 5
    return told


@walk.feature
async def a_client_can_be_told_to_close_the_pool_or_not(make: Make):
    pool = make()
    borrower, owner = client_of(pool), Redis.from_pool(pool)
    first = await owner.client_id()
    await owner.aclose(close_connection_pool=False)
    told = [await borrower.client_id() == first]
    await borrower.aclose(close_connection_pool=True)
    await eventually(lambda: not make.server.clients(), "no connection is left")
    told.append(await borrower.client_id() > first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        told.append(Redis(connection_pool=pool, auto_close_connection_pool=True))
        told[-1] = told[-1].auto_close_connection_pool
        await borrower.close()
    assert told == [True, True, False]
    return told


@walk.feature
async def clients_share_a_pool(make: Make):
    pool = make(max_connections=4)
    clients = [client_of(pool) for _ in range(3)]
    replies = await asyncio.gather(*(c.echo(str(n)) for n, c in enumerate(clients)))
    assert replies == [b"0", b"1", b"2"]
    ids = {await client.client_id() for client in clients}
    assert len(ids) == 1
    return replies, len({id(client.get_connection_kwargs()) for client in clients})


@walk.feature
async def a_client_asks_its_pool_for_its_encoder(make: Make):
    client = await make.client(encoding="latin-1", decode_responses=True)  # as a coroutine
    encoder = client.get_encoder()
    assert encoder.encode("é") == b"\xe9"
    return encoder.decode(b"\xe9"), encoder.decode_responses


@walk.feature
async def a_client_of_one_connection_keeps_it_until_it_is_closed(make: Make):
    pool = make(max_connections=3)
    client = client_of(pool, single_connection_client=True)
    told = [client.connection, counts(pool)]
    assert await client.initialize() is client
    assert client.connection.is_connected
    ids = set(await asyncio.gather(*(client.client_id() for _ in range(5))))
    told += [len(ids), counts(pool)]
    async with client.pipeline() as pipe:  # this needs one of its own
        told.append(await pipe.set("key", 1).get("key").execute())
    async with client.client() as inner:
        told += [await inner.client_id() in ids, inner.single_connection_client, counts(pool)]
    await client.aclose()
    told += [client.connection, counts(pool)]
    told += [await client.ping(), counts(pool)]  # again
    await client.aclose()
    assert told == [None, [0, 0], 1, [0, 1], [True, b"1"], False, True, [0, 2], None, [2, 0],
                    True, [1, 1]]  # fmt: skip
    return told


@walk.feature
async def a_client_of_one_connection_replaces_it_when_marked(make: Make):
    pool = make()
    async with client_of(pool, single_connection_client=True) as client:
        first = await client.client_id()
        await pool.update_active_connections_for_reconnect()
        told = [await client.client_id() == first, await client.client_id() > first]
    assert told == [True, True]
    return told


@walk.feature
async def a_block_may_be_entered_by_several_tasks(make: Make):
    client = Redis.from_pool(make())

    async def work(number: int) -> bytes:
        async with client:
            await asyncio.sleep(0)
            return await client.echo(str(number))

    replies = await asyncio.gather(*(work(number) for number in range(5)))
    assert replies == [str(number).encode() for number in range(5)]
    await eventually(lambda: not make.server.clients(), "no connection is left")
    return replies


# ---- commands ------------------------------------------------------------------------------------


@walk.with_each(PARSERS)
async def commands_are_answered(make: Make, keywords: dict[str, Any]):
    client = make.client(**keywords)
    told: list[Any] = [
        await client.set("key", "Grüße", ex=100),
        await client.get("key"),
        await client.mget("key", "none"),
        await client.incrbyfloat("float", 1.5),
        await client.rpush("list", 1, 2, 3),
        await client.lrange("list", 0, -1),
        await client.sadd("set", "one"),
        await client.smembers("set"),
        await client.hset("hash", mapping={"a": 1}),
        await client.hgetall("hash"),
        await client.zadd("zset", {"a": 1, "b": 2}),
        await client.zrange("zset", 0, -1, withscores=True),
        await client.geoadd("geo", (1, 2, "here")),
        await client.geopos("geo", "here", "there"),
        await client.config_get("databases"),
        (await client.info("server"))["redis_mode"],
        await client.execute_command("OBJECT ENCODING", "list"),
        await client.bitfield("bits").set("u8", 0, 255).get("u8", 0).execute(),
        [row["name"] for row in await client.client_list(_type="normal")],
        await client.delete("key", "none"),
        await client.get("key"),
    ]
    big = "x" * 300_000
    assert await client.set("big", big)
    assert str(await client.get("big")).strip("b'") == big
    client.set_response_callback("PING", lambda reply, **_: f"mine: {bool(reply)}")
    assert await client.ping() == "mine: True"
    return told


@walk.feature
async def many_tasks_get_their_own_replies(make: Make):
    client = make.client(max_connections=20)
    replies = await asyncio.gather(*(client.echo(str(number)) for number in range(20)))
    assert replies == [str(number).encode() for number in range(20)]
    return counts(client.connection_pool)[1]


@walk.with_each(PROTOCOLS)
async def blocking_commands_block(make: Make, protocol: int):
    client = make.client(protocol=protocol)
    told = []
    for command, prompt in (
        (client.blpop(["list"], timeout=10), ("RPUSH", "list", "item")),
        (client.blmove("list", "other", 10), ("RPUSH", "list", "item")),
        (client.bzpopmin("zset", 10), ("ZADD", "zset", 1, "a")),
        (client.xread({"stream": "$"}, block=10_000), ("XADD", "stream", "1-1", "a", 1)),
    ):
        waiting = asyncio.create_task(command)
        await eventually(lambda: "b" in "".join(c["flags"] for c in make.server.clients()), "so")
        make.server.run(*prompt)
        told.append(await waiting)
    told.append(await client.blpop(["list"], timeout=0.01))
    told.append(await client.wait(0, 1))
    assert list(told[0]) == [b"list", b"item"]
    assert told[-2] is None
    return told


@walk.with_each(PROTOCOLS)
async def scans_find_everything(make: Make, protocol: int):
    client = make.client(protocol=protocol)
    names = [f"key{number}".encode() for number in range(100)]
    await client.mset(dict.fromkeys(names, 1))
    told = [sorted([key async for key in client.scan_iter(match="key*", count=10)])]
    await client.hset("hash", mapping=dict.fromkeys(names, 1))
    await client.sadd("set", *names)
    await client.zadd("zset", dict.fromkeys(names, 1.5))
    told += [sorted([item async for item in client.hscan_iter("hash", count=10)])]
    told += [sorted([item async for item in client.sscan_iter("set", count=10)])]
    told += [sorted([item async for item in client.zscan_iter("zset", count=10)])]
    assert told[0] == sorted(names)
    return told


@walk.with_each(PROTOCOLS)
async def streams_have_groups_of_consumers(make: Make, protocol: int):
    client = make.client(protocol=protocol)
    await client.xgroup_create("stream", "group", mkstream=True)
    for number in range(1, 4):
        await client.xadd("stream", {"n": number}, id=f"{number}-1")
    told: list[Any] = [
        await client.xreadgroup("group", "one", {"stream": ">"}, count=2),
        await client.xack("stream", "group", "1-1"),
        await client.xpending("stream", "group"),
        await client.xautoclaim("stream", "group", "other", min_idle_time=0),
        await client.xreadgroup("group", "other", {"stream": ">"}, block=10_000),
        (await client.xinfo_groups("stream"))[0]["pending"],
        await client.xlen("stream"),
        await client.xrange("stream", "2-1", "3-1"),
        await client.xtrim("stream", maxlen=1, approximate=False),
    ]
    error = await error_of(client.xgroup_create("stream", "group"))
    assert "BUSYGROUP" in str(error)
    assert told[1] == 1
    return told, str(error)


# ---- pipelines -----------------------------------------------------------------------------------


@walk.with_each(PARSERS)
async def pipelines_collect_replies(make: Make, keywords: dict[str, Any]):
    client = make.client(**keywords)
    told: list[Any] = []
    for transaction in (True, False):
        async with client.pipeline(transaction=transaction) as pipe:
            pipe.set("key", 1).incr("key").hset("hash", "a", 1).hgetall("hash")
            told += [len(pipe), bool(pipe), await pipe.execute(), await pipe.execute()]
            pipe.set("text", "abc").incr("text").get("text")
            replies = await pipe.execute(raise_on_error=False)
            told.append([str(reply) for reply in replies])
            pipe.set("text", "abc").incr("text").get("text")
            told.append(str(await error_of(pipe.execute())))
            pipe.get("key")
            await pipe.reset()
            told.append(await pipe.execute())
        big = client.pipeline(transaction=transaction)
        for number in range(500):
            big.set(f"key{number}", "x" * 100)
        assert await big.execute() == [True] * 500
    assert told[2][:2] == [True, 2]
    return told, counts(client.connection_pool)


@walk.with_each(PROTOCOLS)
async def transactions_watch(make: Make, protocol: int):
    pool = make(protocol=protocol, max_connections=3)
    client = client_of(pool)
    told: list[Any] = []
    for interfere in (True, False):
        async with client.pipeline() as pipe:
            await pipe.watch("key")
            told.append(await pipe.get("key"))
            if interfere:
                await client.set("key", 1)
            pipe.multi()
            pipe.incr("key")
            try:
                told.append(await pipe.execute())
            except WatchError as error:
                told.append(str(error))
    async with client.pipeline() as pipe:
        await pipe.watch("key")
        told += [pipe.watching, await pipe.unwatch(), pipe.watching]
        await pipe.watch("key")
        pipe.multi()
        pipe.execute_command("NONSENSE")
        told.append(str(await error_of(pipe.execute())))
    async with client.pipeline() as pipe:
        await pipe.watch("key")  # and leaves it so
    await client.set("key", 7)
    told.append(await client.get("key"))
    assert told[1] == "Watched variable changed."
    assert told[3] == [2]
    return told, counts(pool)[1]


@walk.feature
async def a_transaction_function_is_tried_until_nobody_interferes(make: Make):
    client = make.client()
    attempts = []

    async def double(pipe: Any) -> str:
        attempts.append(int(await pipe.get("key") or 1))
        if len(attempts) == 1:
            await client.set("key", 10)
        pipe.multi()
        pipe.set("key", 2 * attempts[-1])
        return "value"

    told = [await client.transaction(double, "key"), await client.get("key")]
    told.append(await client.transaction(double, "key", value_from_callable=True))
    assert (told, attempts) == ([[True], b"20", "value"], [1, 10, 20])
    return told


@walk.feature
async def a_watch_that_is_lost_with_its_connection_is_a_watch_error(make: Make):
    client = make.client(retry=Retry(ConstantBackoff(0), 1))
    async with client.pipeline() as pipe:
        await pipe.watch("key")
        make.server.kill_clients()
        pipe.multi()
        pipe.set("key", 1)
        error = await error_of(pipe.execute())
    assert isinstance(error, WatchError)
    return str(error), await client.get("key")


@walk.feature
async def the_pipelines_of_modules_work(make: Make):
    # Those of json() and ts() are none for asyncio in redis-py either.
    client = make.client()
    pipe = client.ft().pipeline()
    pipe.set("key", 1).incr("key")
    told = await pipe.execute()
    assert told == [True, 2]
    errors = [
        await error_of(attempt)
        for attempt in (client.json().get("key"), client.ts().get("key"), client.ft().info())
    ]
    return told, [str(error) for error in errors]


# ---- scripts and locks ---------------------------------------------------------------------------


@walk.with_each({"bytes": (False,), "text": (True,)})
async def scripts_run(make: Make, decode: bool):
    client = make.client(decode_responses=decode)
    other = make.client(decode_responses=decode)
    script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    await client.script_flush()
    told = [script.sha, await script(keys=["sum"], args=[3]), await script(["sum"], [4], other)]
    await client.script_flush()
    async with client.pipeline() as pipe:
        pipe.set("sum", 10)
        await script(keys=["sum"], args=[1], client=pipe)
        told.append(await pipe.execute())
    told += [
        await client.eval("return {KEYS[1], ARGV[1]}", 1, "key", "arg"),
        await client.evalsha(script.sha, 1, "sum", 1),
        await client.script_exists(script.sha, "0" * 40),
    ]
    error = await error_of(client.evalsha("0" * 40, 0))
    assert isinstance(error, NoScriptError)
    assert told[1:4] == [3, 7, [True, 11]]
    return told, str(error)


@walk.feature
async def locks_lock(make: Make):
    client = make.client()
    lock, other = client.lock("lock", timeout=10), client.lock("lock", timeout=10, sleep=0.001)
    told = [
        await lock.acquire(),
        await other.acquire(blocking=False),
        await other.acquire(blocking_timeout=0.005),
        await lock.locked(),
        await lock.owned(),
        await other.owned(),
        await lock.extend(10),
        await lock.reacquire(),
        await lock.release(),
        await lock.locked(),
        await other.acquire(token="mine"),  # noqa: S106 - not one that matters
        await client.get("lock"),
    ]
    await client.delete("lock")
    errors = [await error_of(other.release()), await error_of(lock.release())]
    assert isinstance(errors[0], LockNotOwnedError)
    assert isinstance(errors[1], LockError)
    inside = []

    async def enter() -> None:
        async with client.lock("lock", sleep=0.001):
            inside.append(1)
            assert len(inside) == 1
            await client.ping()
            inside.pop()

    await asyncio.gather(*(enter() for _ in range(4)))
    assert told[:4] == [True, False, False, True]
    return told, [str(error) for error in errors]
