"""Messages that come unasked: subscriptions, MONITOR, keyspace events, invalidations."""

import asyncio
import contextlib
from typing import Any

import pytest
import redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from servers import HIREDIS, PYTHON, eventually
from walk import Make, Walk, agree, ask, client_of, counts, error_of

walk = Walk()
PARSERS = {
    "RESP2": ({"protocol": 2, **HIREDIS},),
    "RESP3": ({"protocol": 3, **HIREDIS},),
    "RESP2 in Python": ({"protocol": 2, **PYTHON},),
    "RESP3 in Python": ({"protocol": 3, **PYTHON},),
    "decoded": ({"decode_responses": True},),
}


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_messages_come_as_on_redis_pys_pools(step, pools, server):
    await agree(step, pools, server)


async def heard(pubsub: Any, number: int) -> list[dict[str, Any]]:
    """Wait for so many messages."""
    messages = []
    async with asyncio.timeout(10):
        while len(messages) < number:
            if (message := await pubsub.get_message(timeout=5)) is not None:
                messages.append(message)
    return messages


# ---- publish and subscribe -----------------------------------------------------------------------


@walk.with_each(PARSERS)
async def subscribers_hear_what_is_published(make: Make, keywords: dict[str, Any]):
    pool = make(**keywords)
    client = client_of(pool)
    async with client.pubsub() as pubsub:
        told: list[Any] = [pubsub.subscribed, counts(pool)]
        await pubsub.subscribe("news", b"\xffbinary" if pool.get_protocol() else "text")
        await pubsub.psubscribe("n*")
        told += [await heard(pubsub, 3), pubsub.subscribed, counts(pool)[1]]
        told.append(await client.publish("news", "hello"))
        told += [await heard(pubsub, 2), await client.pubsub_numsub("news")]
        told += [await pubsub.get_message(timeout=0.001), await pubsub.get_message()]
        await pubsub.ping("are you there")
        told += [await heard(pubsub, 1)]
        await pubsub.unsubscribe("news")
        await pubsub.punsubscribe()
        told += [await heard(pubsub, 2), len(pubsub.channels)]
        await pubsub.aclose()
        told += [pubsub.subscribed, counts(pool)[1]]
        await pubsub.subscribe("again")
        told.append(await heard(pubsub, 1))
    told += [counts(pool)[1], await client.echo("mine")]
    assert told[3] is True
    assert told[5] == 2
    return told


@walk.with_each(PARSERS)
async def handlers_are_called(make: Make, keywords: dict[str, Any]):
    client = make.client(**keywords)
    told = []

    async def patiently(message: Any) -> None:
        await asyncio.sleep(0)
        told.append(("patiently", message))

    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(news=told.append)
        await pubsub.psubscribe(**{"new*": patiently})
        assert await client.publish("news", "hello") == 2
        async with asyncio.timeout(10):
            while len(told) < 2:
                assert await pubsub.get_message(timeout=5) is None
        running = asyncio.create_task(pubsub.run(poll_timeout=0.01))
        await client.publish("news", "run")
        await eventually(lambda: len(told) == 4, "both heard of it")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return told


@walk.with_each(PARSERS)
async def listeners_hear_everything_in_order(make: Make, keywords: dict[str, Any]):
    client = make.client(**keywords)
    told = []
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("numbers")
        for number in range(50):
            make.server.run("PUBLISH", "numbers", number)
        async with asyncio.timeout(10):
            async for message in pubsub.listen():
                told.append(message["data"])
                if len(told) == 50:
                    break
    assert [int(number) for number in told] == list(range(50))
    return told


@walk.with_each(PARSERS)
async def shards_have_channels(make: Make, keywords: dict[str, Any]):
    client = make.client(**keywords)
    async with client.pubsub() as pubsub:
        await pubsub.ssubscribe("news")
        if int((await client.info("server"))["redis_version"].split(".")[0]) < 7:
            error = await error_of(pubsub.get_message(timeout=5))
            assert isinstance(error, redis.ResponseError)
            return str(error)
        told: list[Any] = [await heard(pubsub, 1), await client.spublish("news", "hello")]
        told.append(await heard(pubsub, 1))
        await pubsub.sunsubscribe()
        told.append(await heard(pubsub, 1))
    assert told[1] == 1
    return told


@walk.with_each(PARSERS)
async def subscribers_come_back_after_a_kill(make: Make, keywords: dict[str, Any]):
    pool = make(retry=Retry(ConstantBackoff(0), 3), **keywords)
    client = client_of(pool)
    told = []
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("news", handled=told.append)
        await pubsub.psubscribe("n*")
        await eventually(lambda: make.server.run("PUBSUB", "NUMPAT") == 1, "it is there")
        listening = asyncio.create_task(heard(pubsub, 2))
        make.server.run("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: make.server.run("PUBSUB", "NUMPAT") == 1, "it is back")
        await client.publish("handled", "hello")
        await client.publish("news", "hello again")
        told.append(await listening)
    assert len(told) == 2
    return told, counts(pool)[1]


@walk.with_each(PARSERS)
async def the_health_of_subscribers_is_checked(make: Make, keywords: dict[str, Any]):
    client = make.client(health_check_interval=3600, **keywords)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        told = [await heard(pubsub, 1)]
        pubsub.connection.next_health_check = -1
        told.append(await pubsub.get_message(timeout=5))
        assert pubsub.connection.next_health_check > 0
        await client.publish("news", "hello")
        told.append(await heard(pubsub, 1))
    return told


@walk.feature
async def push_messages_can_have_a_handler(make: Make):
    client = make.client(protocol=3)
    told = []

    async def handler(message: Any) -> None:
        told.append(message)

    async with client.pubsub(push_handler_func=handler) as pubsub:
        await pubsub.subscribe("news")
        await client.publish("news", "hello")
        async with asyncio.timeout(10):
            while len(told) < 2:
                await pubsub.get_message(timeout=0.01)
    assert told[-1] == [b"message", b"news", b"hello"]
    return told


@walk.feature
async def keyspace_events_are_heard(make: Make):
    client = make.client()
    before = make.server.run("CONFIG", "GET", "notify-keyspace-events")[1]
    make.server.run("CONFIG", "SET", "notify-keyspace-events", "KEA")
    try:
        async with client.keyspace_notifications(key_prefix="user:") as events:
            await events.subscribe_keyspace("user:*")
            await client.set("user:1", "x")
            told = None
            async with asyncio.timeout(10):
                while told is None:
                    told = await events.get_message(timeout=5)
    finally:
        make.server.run("CONFIG", "SET", "notify-keyspace-events", before)
    assert told.event_type == "set"
    return told.key, told.event_type, told.database


# ---- MONITOR -------------------------------------------------------------------------------------


@walk.with_each(PARSERS)
async def a_monitor_sees_the_others(make: Make, keywords: dict[str, Any]):
    pool = make(**keywords)
    client = client_of(pool)
    await client.ping()
    told = []
    async with client.monitor() as monitor:
        make.server.run("SELECT", 0)
        make.server.run("SET", "key", 'with "quotes"')
        async with asyncio.timeout(10):
            told += [await monitor.next_command() for _ in range(2)]
            make.server.run("SET", "key", "again")
            async for command in monitor.listen():
                told.append(command)
                break
    assert [command["command"] for command in told][1] == 'SET key with "quotes"'
    told = [(c["db"], c["client_address"], c["client_type"], c["command"]) for c in told]
    return told, counts(pool)[1], await client.echo("mine")


# ---- a connection of one's own -------------------------------------------------------------------


@walk.with_each({"hiredis": (HIREDIS,), "in Python": (PYTHON,)})
async def invalidations_are_heard(make: Make, keywords: dict[str, Any]):
    pool = make(protocol=3, **keywords)
    client = client_of(pool)
    told = []

    async def invalidate(message: Any) -> None:
        told.append(message)

    conn = await pool.get_connection()
    conn._get_parser().set_invalidation_push_handler(invalidate)
    told.append(await ask(conn, "CLIENT", "TRACKING", "ON"))
    for word in ("one", "two"):
        told.append(await ask(conn, "GET", "key"))
        await client.set("key", word)
        await eventually(lambda: not conn._socket_is_empty(), "it came")
        await conn.process_invalidation_messages()
    await conn.disconnect()
    await pool.release(conn)
    told.append(await client.get("key"))
    assert told == [b"OK", None, [b"invalidate", [b"key"]], b"one", [b"invalidate", [b"key"]],
                    b"two"]  # fmt: skip
    return told


@walk.feature
async def those_who_want_to_know_are_told_of_each_connect(make: Make):
    pool = make(protocol=3)
    told = []

    class Listener:
        async def patiently(self, conn: Any) -> None:
            told.append(await ask(conn, "CLIENT", "TRACKING", "ON"))

        def at_once(self, conn: Any) -> None:
            told.append(conn.is_connected)

    listener = Listener()
    conn = await pool.get_connection()
    conn.register_connect_callback(listener.patiently)
    conn.register_connect_callback(listener.at_once)
    await conn.disconnect()
    told.append(await ask(conn, "ECHO", "mine"))
    await pool.disconnect()
    conn.deregister_connect_callback(listener.at_once)
    told.append(await ask(conn, "ECHO", "mine"))
    conn.deregister_connect_callback(listener.patiently)
    await conn.disconnect()
    told.append(await ask(conn, "ECHO", "mine"))
    await pool.release(conn)
    told.append(await client_of(pool).echo("mine"))
    assert told == [b"OK", True, b"mine", b"OK", b"mine", b"mine", b"mine"]
    return told


@walk.with_each(PARSERS)
async def a_lent_connection_can_be_used_by_hand(make: Make, keywords: dict[str, Any]):
    pool = make(**keywords)
    conn = await pool.get_connection()
    told: list[Any] = [await ask(conn, "SET", "key", "value")]
    await conn.send_packed_command(conn.pack_commands([("GET", "key"), ("INCR", "number")]))
    told += [await conn.read_response(), await conn.read_response()]
    await conn.send_command("GET", "key")
    told.append(await conn.read_response(disable_decoding=True))
    told.append(await conn.read_response(timeout=0.001, disconnect_on_error=False))
    told += [await conn.can_read(), conn.getpeername(), conn.get_protocol(), repr(conn)]
    told.append(str(await error_of(ask(conn, "NONSENSE"))))
    await conn.send_command("ECHO", "mine")
    await eventually(lambda: not conn._socket_is_empty(), "it came")
    told += [await conn.can_read(), await conn.read_response(), await conn.can_read()]
    await conn.check_health()
    await pool.release(conn)
    assert told[3:6] == [b"value", None, False]
    return told
