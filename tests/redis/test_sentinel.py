"""`SentinelPool`, on two real servers and a Sentinel that says what it is told to."""

import asyncio
import contextlib
import gc
import logging
import sys
import warnings
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis.sentinel
from counting import calls_of
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
    SlaveNotFoundError,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ExecAbortError, ReadOnlyError
from servers import HIREDIS, STRICT, Server, TlsFront, eventually, free_port

from aiopool import PoolTimeout, RedisPool, SentinelPool, _opener
from aiopool.redis._lean import Lean
from aiopool.redis._sentinel import _ear, _question
from aiopool.redis._sentinel._discovery import discovery_of

HOST = "127.0.0.1"


class Told(Sentinel):
    """A Sentinel that says what it is told to. To be heard, it has servers on which to publish."""

    def __init__(self, *servers: Server, speakers: tuple[Server, ...] = (), **keywords: Any):
        self.speakers = speakers
        keywords.setdefault("sentinel_kwargs", {"client_name": "asks"})
        super().__init__([(HOST, speaker.port) for speaker in speakers], **keywords)
        self.ports = [server.port for server in servers]  # the master's, then the replicas'
        self.asked: Counter[str] = Counter()
        self.answers = asyncio.Event()
        self.answers.set()

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        self.asked[service_name] += 1
        await self.answers.wait()
        await asyncio.sleep(0)
        if not self.ports:
            raise MasterNotFoundError(f"No master found for {service_name!r}")
        return HOST, self.ports[0]

    async def discover_slaves(self, service_name: str) -> list[tuple[str, int]]:
        self.asked[f"replicas of {service_name}"] += 1
        await asyncio.sleep(0)
        return [(HOST, port) for port in self.ports[1:]]

    def switch(self) -> None:
        """Have the master and the first replica change places, and say nothing of it."""
        self.ports[:2] = reversed(self.ports[:2])

    def say(self, service: str = "mymaster", speaker: int = 0) -> None:
        """Tell of the last switch."""
        new, old = self.ports[:2]
        words = f"{service} {HOST} {old} {HOST} {new}"
        self.speakers[speaker].run("PUBLISH", "+switch-master", words)

    def listeners(self, speaker: int = 0) -> int:
        return self.speakers[speaker].run("PUBSUB", "NUMSUB", "+switch-master")[1]

    async def is_heard(self, speaker: int = 0) -> None:
        await eventually(lambda: self.listeners(speaker) == 1, "somebody listens")


@pytest.fixture(scope="module")
def _other() -> Any:
    server = Server()
    yield server
    server.kill()
    server.destroy()


@pytest.fixture
def other(_other: Server) -> Server:
    _other.run("FLUSHALL")
    return _other


@pytest.fixture
def roles(server: Server, other: Server) -> Any:
    """Two servers, of which the first is to become the second's replica; afterwards all is as before."""
    yield server, other
    for each in (server, other):
        each.run("REPLICAOF", "NO", "ONE")


def demote(server: Server, master: Server) -> None:
    server.run("REPLICAOF", HOST, master.port)


@contextlib.asynccontextmanager
async def pool_of(sentinel: Sentinel, service: str = "mymaster", **options: Any):
    """Make a pool as redis-py does, and close all."""
    client = sentinel.master_for(service, connection_pool_class=SentinelPool, **options)
    try:
        async with asyncio.timeout(30):
            yield client.connection_pool
    finally:
        await client.aclose()
        await sentinel.aclose()


async def place(client: Redis) -> int:
    """Say on which server a command goes."""
    return (await client.config_get("port"))["port"]


CLIENTS = {
    "Redis": lambda pool: Redis(connection_pool=pool),
    "client": lambda pool: pool.client(),
    "pipelined": lambda pool: pool.pipelined(),
}


@pytest.fixture(params=CLIENTS)
def client_of(request: pytest.FixtureRequest) -> Any:
    return CLIENTS[request.param]


# ---- who is asked, and how often -----------------------------------------------------------------


async def test_sentinel_is_asked_once_for_all_who_want_to_know(server):
    sentinel = Told(server)
    async with (
        pool_of(sentinel, max_size=20) as pool,
        pool_of(sentinel, max_size=20) as same,
        pool_of(sentinel, "other") as another,
    ):
        clients = [pool.client(), same.client(), another.client()]
        await asyncio.gather(*[client.ping() for client in clients for _ in range(50)])
        assert pool.stats().opened + same.stats().opened + another.stats().opened > 3
        assert sentinel.asked == {"mymaster": 1, "other": 1}


async def test_an_answer_holds_for_a_second(server, monkeypatch):
    sentinel = Told(server)
    async with pool_of(sentinel) as pool:
        assert await pool.get_master_address() == (HOST, server.port)
        loop = asyncio.get_running_loop()
        now = loop.time()
        for later, asked in [(0.9, 1), (1.1, 2)]:
            monkeypatch.setattr(loop, "time", lambda later=later: now + later)
            await pool.get_master_address()
            assert sentinel.asked["mymaster"] == asked
        monkeypatch.undo()


async def test_a_failed_opening_has_sentinel_asked_again(server):
    sentinel = Told(server)
    sentinel.ports.insert(0, free_port())
    async with pool_of(sentinel) as pool:
        client = pool.client()
        command = asyncio.create_task(client.ping())
        await eventually(lambda: pool.stats().open_failed, "an opening has failed")
        del sentinel.ports[0]
        assert await command
        assert sentinel.asked["mymaster"] <= pool.stats().open_failed + 1


async def test_one_who_asks_after_a_failure_is_not_told_what_was_asked_before(server):
    sentinel = Told(server)
    sentinel.ports.insert(0, free_port())
    async with pool_of(sentinel) as pool:
        sentinel.answers.clear()
        early = asyncio.create_task(pool.get_master_address())
        await eventually(lambda: sentinel.asked["mymaster"], "it is asked")
        pool.led_astray()
        late = asyncio.create_task(pool.get_master_address())
        await asyncio.sleep(0)
        assert sentinel.asked["mymaster"] == 1  # by one at a time
        sentinel.answers.set()
        assert (await early)[1] == sentinel.ports.pop(0)
        assert await late == (HOST, server.port)
        assert sentinel.asked["mymaster"] == 2


async def test_who_asks_lives_on_when_another_who_asks_is_cancelled(server):
    sentinel = Told(server)
    async with pool_of(sentinel) as pool:
        sentinel.answers.clear()
        askers = [asyncio.create_task(pool.get_master_address()) for _ in range(3)]
        await eventually(lambda: sentinel.asked["mymaster"], "it is asked")
        askers[0].cancel()
        await asyncio.sleep(0)
        sentinel.answers.set()
        assert await askers[1] == await askers[2] == (HOST, server.port)
        assert sentinel.asked["mymaster"] == 1


async def test_when_nobody_wants_to_know_any_more_nobody_asks(server, monkeypatch):
    monkeypatch.setattr(_question, "PATIENCE", 1000.0)
    sentinel = Told(server)
    async with pool_of(sentinel) as pool:
        sentinel.answers.clear()
        asker = asyncio.create_task(pool.get_master_address())
        await eventually(lambda: sentinel.asked["mymaster"], "it is asked")
        asker.cancel()
        await eventually(lambda: len(asyncio.all_tasks()) == 1, "no task is left")
        sentinel.answers.set()
        assert await pool.get_master_address() == (HOST, server.port)


async def test_who_asks_when_all_others_were_just_cancelled_is_answered(server):
    sentinel = Told(server)
    async with pool_of(sentinel) as pool:
        sentinel.answers.clear()
        asker = asyncio.create_task(pool.get_master_address())
        await eventually(lambda: sentinel.asked["mymaster"], "it is asked")
        sentinel.answers.set()
        asker.cancel()
        await asyncio.sleep(0)
        assert await pool.get_master_address() == (HOST, server.port)


async def test_when_a_sentinel_hangs_another_is_asked_first(server, other, monkeypatch):
    monkeypatch.setattr(_question, "PATIENCE", 0.05)
    sentinel = Told(server, speakers=(server, other))
    async with pool_of(sentinel) as pool:
        first, second = sentinel.sentinels
        sentinel.answers.clear()
        with pytest.raises(RedisConnectionError, match=r"no Sentinel has answered within 0\.05 s"):
            await pool.get_master_address()
        assert sentinel.sentinels == [second, first]
        with pytest.raises(RedisConnectionError, match=r"within 0\.1 s"):  # it may only be slow
            await pool.get_master_address()
        sentinel.answers.set()
        assert await pool.get_master_address() == (HOST, server.port)


async def test_that_no_sentinel_knows_the_master_is_told_in_redis_pys_words():
    sentinel = Told()
    async with pool_of(sentinel, **STRICT) as pool:
        with pytest.raises(MasterNotFoundError, match="No master found for 'mymaster'"):
            await pool.client().ping()
        assert pool.stats().size == 0


# ---- a switch ------------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", [True, False])
async def test_after_a_switch_that_is_heard_nobody_is_led_to_the_old_master(
    server, other, wire, decode
):
    sentinel = Told(server, other, speakers=(server,))
    theirs = ConnectionPool(host=HOST, port=server.port, decode_responses=decode, **wire)
    sentinel.sentinels = [Redis(connection_pool=theirs)]
    async with pool_of(sentinel, max_size=4, **STRICT) as pool:
        client = pool.client()
        lent = [await pool.acquire() for _ in range(3)]
        await pool.release(lent.pop())
        await sentinel.is_heard()
        sentinel.switch()
        sentinel.say()
        await eventually(lambda: not pool.stats().idle, "the idle are closed")
        assert pool.stats().lent == 2
        assert all(conn.is_connected for conn in lent)  # till they are given back
        ports = await asyncio.gather(*[place(client) for _ in range(20)])
        for conn in lent:
            await pool.release(conn)
            assert not conn.is_connected
        ports += await asyncio.gather(*[place(client) for _ in range(20)])
        assert set(ports) == {str(other.port)}
        assert pool.stats().closed == {"drained": 3}
        assert pool.master_address == (HOST, other.port)


async def test_what_is_said_of_others_or_known_already_changes_nothing(server, other, monkeypatch):
    sentinel = Told(server, other, speakers=(server,))
    async with pool_of(sentinel) as pool:
        await pool.client().ping()
        await sentinel.is_heard()
        heard, hear = [], pool._discovery.heard_of
        monkeypatch.setattr(pool._discovery, "heard_of", lambda to: (heard.append(to), hear(to)))
        sentinel.switch()
        sentinel.say("other")
        server.run("PUBLISH", "+switch-master", "mymaster is away")  # of a kind that there is not
        sentinel.switch()
        sentinel.say()  # that the master is who it is
        await eventually(lambda: heard == [(HOST, server.port)], "the last has come")
        assert pool.stats().closed == {}
        assert pool.master_address == (HOST, server.port)


async def test_a_switch_that_a_discovery_finds_counts_as_well(server, other):
    sentinel = Told(server, other)  # none that could be heard
    async with pool_of(sentinel, **STRICT) as pool:
        lent = await pool.acquire()
        await pool.client().ping()
        assert pool.stats().idle == 1
        sentinel.switch()
        pool.led_astray()
        assert await pool.get_master_address() == (HOST, other.port)
        assert (pool.stats().idle, pool.stats().lent) == (0, 1)
        await pool.release(lent)
        assert pool.stats().closed == {"drained": 2}


async def test_a_switch_is_told_to_all_pools_of_the_service(server, other):
    sentinel = Told(server, other)
    async with pool_of(sentinel) as pool, pool_of(sentinel) as same:
        await asyncio.gather(pool.client().ping(), same.client().ping())
        sentinel.switch()
        pool.led_astray()
        await pool.get_master_address()
        assert (pool.stats().idle, same.stats().idle) == (0, 0)


async def test_an_opening_that_hangs_at_the_old_master_ends_with_the_switch(other):
    old = Server()
    try:
        with old.frozen():
            sentinel = Told(old, other, speakers=(other,))
            async with pool_of(sentinel, max_size=1, timeout=20, **STRICT) as pool:
                callers = [asyncio.create_task(place(pool.client())) for _ in range(5)]
                await sentinel.is_heard()
                await eventually(lambda: sentinel.asked["mymaster"], "it is under way")
                sentinel.switch()
                sentinel.say()
                async with asyncio.timeout(2):  # else 5 s of socket_timeout
                    assert set(await asyncio.gather(*callers)) == {str(other.port)}
                assert pool.stats().open_failed == 0
    finally:
        old.destroy()


async def test_the_pause_after_failures_ends_with_the_switch(other, monkeypatch):
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(_opener, pause, 60.0)
    sentinel = Told(other, speakers=(other,))
    sentinel.ports.insert(0, free_port())
    async with pool_of(sentinel, timeout=None) as pool:
        caller = asyncio.create_task(place(pool.client()))
        await eventually(lambda: pool.stats().open_failed, "it has failed")
        await sentinel.is_heard()
        sentinel.switch()
        sentinel.say()
        assert await caller == str(other.port)
        assert pool.stats().open_failed == 1


async def test_commands_that_share_leave_a_master_that_hangs_at_once(other):
    old = Server()
    try:
        sentinel = Told(old, other, speakers=(other,))
        async with pool_of(sentinel, max_size=2, decode_responses=True, **STRICT) as pool:
            client = pool.pipelined()
            other.run("SET", "place", "new")
            await client.ping()
            await sentinel.is_heard()
            with old.frozen():
                hanging = asyncio.create_task(client.ping())
                await eventually(lambda: pool.stats().lent, "it is under way")
                sentinel.switch()
                sentinel.say()
                await eventually(lambda: pool.master_address is None, "it is heard")
                async with asyncio.timeout(2):  # else 5 s of socket_timeout
                    assert await client.get("place") == "new"
            assert await hanging
            assert pool.stats().closed == {"drained": 1}
    finally:
        old.destroy()


@pytest.mark.asyncio(loop_factories=["asyncio"])  # once is long enough
async def test_a_thousand_switches_leave_the_capacity_as_it_was(server, other):
    sentinel = Told(server, other)
    async with pool_of(sentinel, max_size=4, **STRICT) as pool:
        client = pool.client()
        for number in range(1000):
            lent = await pool.acquire()
            idle = asyncio.create_task(client.ping()) if number % 3 else None
            sentinel.switch()
            pool.led_astray()
            assert (await pool.get_master_address())[1] == sentinel.ports[0]
            if idle is not None:
                await idle
            await pool.release(lent)
            if number % 100 == 0:
                assert await place(client) == str(sentinel.ports[0])
        lent = [await pool.acquire(timeout=1) for _ in range(4)]
        assert {conn.port for conn in lent} == {sentinel.ports[0]}
        with pytest.raises(PoolTimeout):
            await pool.acquire(timeout=0)
        for conn in lent:
            await pool.release(conn)
        stats = pool.stats()
        assert (stats.lent, stats.opening, stats.waiting) == (0, 0, 0)
        assert stats.opened == stats.size + sum(stats.closed.values())


# ---- a master that is none any more --------------------------------------------------------------


async def write(client: Redis) -> None:
    await client.set("key", "value")


async def write_in_a_pipeline(client: Redis) -> None:
    await client.pipeline(transaction=False).get("key").set("key", "value").get("key").execute()


async def write_in_a_transaction(client: Redis) -> None:
    await client.pipeline(transaction=True).get("key").set("key", "value").execute()


async def write_under_watch(client: Redis) -> None:
    async with client.pipeline() as pipe:
        await pipe.watch("key")
        pipe.multi()
        await pipe.set("key", "value").execute()


async def write_in_a_script(client: Redis) -> None:
    await client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "key", "value")


WRITES = [
    write,
    write_in_a_pipeline,
    write_in_a_transaction,
    write_under_watch,
    write_in_a_script,
]


async def outcome(client: Redis, attempt: Any) -> tuple[str, str]:
    try:
        await attempt(client)
    except Exception as error:  # noqa: BLE001 - whichever it is
        return type(error).__name__, str(error)
    return "", ""


@pytest.mark.parametrize("attempt", WRITES)
async def test_a_refused_write_is_told_as_by_redis_py_and_retires_the_connection(
    roles, wire, client_of, attempt, monkeypatch
):
    old, new = roles
    sentinel = Told(old, new)
    theirs = sentinel.master_for("mymaster", **STRICT, **wire)
    async with pool_of(sentinel, max_size=3, **STRICT, **wire) as pool:
        client = client_of(pool)
        lent = await pool.acquire()
        for each in (theirs, client):
            await each.ping()
        demote(old, new)
        expected = await outcome(theirs, attempt)
        assert expected[0] in {"ConnectionError", "WatchError", "ReadOnlyError"}
        told, demoted = [], pool.demoted
        monkeypatch.setattr(pool, "demoted", lambda conn: (told.append(conn), demoted(conn)))
        assert await outcome(client, attempt) == expected
        assert told
        sentinel.switch()
        assert await place(client) == str(new.port)
        await attempt(client)
        await pool.release(lent)
        assert not lent.is_connected
        assert pool.stats().idle == pool.stats().size == 1
    await theirs.aclose()


async def test_a_refused_write_ends_the_session_as_with_redis_py(roles, wire):
    old, new = roles
    sentinel = Told(old, new)
    async with pool_of(sentinel, **STRICT, **wire) as pool, pool.connection() as conn:
        demote(old, new)
        await conn.send_command("SET", "key", "value")
        with pytest.raises(RedisConnectionError, match="The previous master is now a slave"):
            await conn.read_response()
        assert not conn.is_connected


async def test_retries_lead_a_refused_write_to_the_new_master(roles, wire, client_of):
    old, new = roles
    sentinel = Told(old, new)
    async with pool_of(sentinel, max_size=3, **wire) as pool:
        client = client_of(pool)
        await client.set("key", "before")
        demote(old, new)
        sentinel.switch()
        numbers = await asyncio.gather(*[client.incr("number") for _ in range(100)])
        assert sorted(numbers) == [*range(1, 101)]  # each was done once
        assert new.run("GET", "number") == "100"
        assert pool.stats().lent == 0


async def test_a_transaction_that_is_discarded_retires_the_connection_too(roles, wire):
    old, new = roles
    sentinel = Told(old, new)
    async with pool_of(sentinel, **STRICT, **wire) as pool:
        conn, lent = await pool.acquire(), await pool.acquire()
        for command in (["MULTI"], ["SET", "key", "value"]):
            await conn.send_command(*command)
            await conn.read_response()
        demote(old, new)
        await conn.send_command("EXEC")
        with pytest.raises(ExecAbortError, match="READONLY"):
            await conn.read_response()
        assert pool.master_address is None
        for each in (conn, lent):
            await pool.release(each)
        assert pool.stats().closed == {"drained": 2}


async def test_a_pool_of_replicas_takes_a_refused_write_for_what_it_is(roles, wire, client_of):
    master, replica = roles
    demote(replica, master)
    sentinel = Told(master, replica)
    client = sentinel.replica_for("mymaster", connection_pool_class=SentinelPool, **STRICT, **wire)
    pool = client.connection_pool
    with pytest.raises(ReadOnlyError):
        await client_of(pool).set("key", "value")
    assert pool.stats().closed == {}
    await client.aclose()


async def test_other_errors_are_nobodys_business(server, wire, client_of):
    sentinel = Told(server)
    async with pool_of(sentinel, **STRICT, **wire) as pool:
        client = client_of(pool)
        await client.set("key", "word")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await client.incr("key")
        assert pool.stats().closed == {}
        assert sentinel.asked["mymaster"] == 1


async def test_who_should_be_a_master_and_is_none_is_not_used(roles, wire):
    old, new = roles
    demote(old, new)
    sentinel = Told(old, new)
    async with pool_of(sentinel, **wire) as pool:
        command = asyncio.create_task(pool.client().set("key", "value"))
        await eventually(lambda: pool.stats().open_failed > 1, "it was tried")
        assert pool.stats().opened == 0
        sentinel.switch()
        await command
        assert new.run("GET", "key") == "value"


async def test_what_a_server_is_instead_is_told(roles):
    old, new = roles
    demote(old, new)
    async with pool_of(Told(old, new), **STRICT) as pool:
        words = f"{HOST}:{old.port} is no master, as Sentinel has said, but a slave"
        with pytest.raises(RedisConnectionError, match=words):
            await pool.client().ping()


async def test_who_may_not_ask_for_the_role_goes_on_without(server, wire):
    server.run("ACL", "SETUSER", "humble", "on", ">word", "~*", "&*", "+@all", "-role")
    try:
        options = {"username": "humble", "password": "word"}
        async with pool_of(Told(server), **options, **STRICT, **wire) as pool:
            assert await pool.client().ping()
            assert pool.stats().open_failed == 0
    finally:
        server.run("ACL", "DELUSER", "humble")


async def test_a_subscriber_moves_to_the_new_master(roles, wire):
    old, new = roles
    sentinel = Told(old, new)
    async with pool_of(sentinel, **wire) as pool:
        async with pool.client().pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("news")
            await eventually(lambda: old.run("PUBSUB", "NUMSUB", "news")[1], "it is subscribed")
            demote(old, new)
            sentinel.switch()
            old.run("CLIENT", "KILL", "TYPE", "pubsub")
            listening = asyncio.create_task(anext(pubsub.listen()))
            await eventually(lambda: new.run("PUBSUB", "NUMSUB", "news")[1], "it is there")
            new.run("PUBLISH", "news", "good")
            assert (await listening)["data"] == b"good"
        assert pool.stats().lent == 0


# ---- replicas ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def replicas_of(sentinel: Sentinel, **options: Any):
    client = sentinel.replica_for("mymaster", connection_pool_class=SentinelPool, **options)
    try:
        async with asyncio.timeout(30):
            yield client.connection_pool
    finally:
        await client.aclose()


async def ports_of(pool: SentinelPool, number: int) -> list[int]:
    """Give the ports to which so many connections lead."""
    conns = [await pool.acquire() for _ in range(number)]
    for conn in conns:
        await pool.release(conn)
    return [conn.port for conn in conns]


async def test_replicas_take_turns(server, other):
    sentinel = Told(server, server, other)
    async with replicas_of(sentinel) as pool:
        ports = await ports_of(pool, 6)
        assert Counter(ports) == {server.port: 3, other.port: 3}
        assert ports[0] != ports[1]
        assert sentinel.asked == {"replicas of mymaster": 1}


async def test_a_replica_that_refuses_is_passed_over(server, other):
    sentinel = Told(server)
    sentinel.ports[1:] = [free_port(), other.port]
    async with replicas_of(sentinel, **STRICT) as pool:
        assert set(await ports_of(pool, 5)) == {other.port}
        assert pool.stats().open_failed == 0


async def test_a_replica_that_hangs_is_passed_over(server, other):
    hanging = Server()
    try:
        with hanging.frozen():
            sentinel = Told(server, hanging, other)
            async with replicas_of(sentinel, socket_timeout=0.05, **STRICT) as pool:
                assert set(await ports_of(pool, 4)) == {other.port}
                assert pool.stats().open_failed == 0
    finally:
        hanging.destroy()


async def test_without_replicas_the_master_serves_unless_it_shall_not(server):
    sentinel = Told(server)
    async with replicas_of(sentinel, **STRICT) as pool:
        assert await ports_of(pool, 2) == [server.port] * 2
    async with replicas_of(sentinel, fall_back_to_master=False, **STRICT) as pool:
        with pytest.raises(SlaveNotFoundError, match="No slave found for 'mymaster'"):
            await pool.client().ping()
        with pytest.raises(SlaveNotFoundError):
            [address async for address in pool.rotate_replicas()]


# ---- listening -----------------------------------------------------------------------------------


async def test_all_pools_of_a_service_listen_together_until_the_last_is_closed(server):
    sentinel = Told(server, speakers=(server,))
    async with pool_of(sentinel) as pool:
        async with pool_of(sentinel) as same:
            await asyncio.gather(pool.client().ping(), same.client().ping())
            await sentinel.is_heard()
        assert sentinel.listeners() == 1
        assert [task.get_name() for task in asyncio.all_tasks()].count("aiopool-sentinel") == 1
    await eventually(lambda: sentinel.listeners() == 0, "nobody listens any more")


async def test_a_pool_that_was_closed_and_is_used_again_listens_again(server):
    sentinel = Told(server, speakers=(server,))
    async with pool_of(sentinel) as pool:
        for _ in range(2):
            await pool.client().ping()
            await sentinel.is_heard()
            await pool.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}
            await eventually(lambda: sentinel.listeners() == 0, "nobody listens any more")


async def test_a_holder_that_is_late_does_not_make_a_closed_pool_listen(server):
    sentinel = Told(server, speakers=(server,))
    async with pool_of(sentinel) as pool:
        lent = await pool.acquire()
        await sentinel.is_heard()
        await pool.aclose()
        with pytest.raises(RedisConnectionError, match="The pool has closed this connection"):
            await lent.connect()
        await pool.release(lent)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_when_a_sentinel_is_lost_the_next_is_listened_to_and_asked_what_was_missed(
    server, other, monkeypatch
):
    monkeypatch.setattr(_ear, "FIRST_PAUSE", 0.01)
    sentinel = Told(server, other, speakers=(server, other))
    first, second = sentinel.sentinels
    async with pool_of(sentinel) as pool:
        await pool.client().ping()
        await sentinel.is_heard(0)
        sentinel.switch()
        server.run("CLIENT", "KILL", "TYPE", "pubsub")
        await sentinel.is_heard(1)
        await eventually(lambda: pool.master_address == (HOST, other.port), "it has caught up")
        assert pool.stats().closed == {"drained": 1}
        assert sentinel.sentinels == [second, first]
        sentinel.switch()
        sentinel.say(speaker=1)
        await eventually(lambda: pool.master_address is None, "it is heard")


def pings(server: Server) -> int:
    return server.run("INFO", "commandstats").get("cmdstat_ping", {"calls": 0})["calls"]


async def test_a_sentinel_that_says_nothing_at_all_is_given_up(server, monkeypatch):
    monkeypatch.setattr(_ear, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(_ear, "SILENCE", 0.05)
    silent = Server()
    try:
        sentinel = Told(server, speakers=(silent, server))
        async with pool_of(sentinel) as pool:
            await pool.client().ping()
            await sentinel.is_heard(0)
            silent.run("CONFIG", "RESETSTAT")
            await eventually(lambda: pings(silent) > 2, "it is asked for signs of life")
            assert sentinel.listeners(1) == 0
            with silent.frozen():
                await sentinel.is_heard(1)
    finally:
        silent.destroy()


async def test_who_may_not_listen_does_without(server, other, caplog):
    server.run("ACL", "SETUSER", "humble", "on", ">word", "~*", "resetchannels", "+@all")
    try:
        sentinel = Told(
            other, speakers=(server,), sentinel_kwargs={"username": "humble", "password": "word"}
        )
        with caplog.at_level(logging.DEBUG):
            async with pool_of(sentinel) as pool:
                await pool.client().ping()
                await eventually(lambda: len(asyncio.all_tasks()) == 1, "nobody listens")
                await pool.client().ping()
                pool.drain()
                await pool.client().ping()
                assert len(asyncio.all_tasks()) == 1
        assert not [record for record in caplog.records if record.levelno > logging.INFO]
    finally:
        server.run("ACL", "DELUSER", "humble")


async def test_a_sentinel_object_without_real_clients_does_too(server):
    sentinel = Told(server)
    sentinel.sentinels = [object()]
    client = sentinel.master_for("mymaster", connection_pool_class=SentinelPool)
    assert await client.ping()
    await eventually(lambda: len(asyncio.all_tasks()) == 1, "nobody listens")
    await client.aclose()


async def test_a_dropped_pool_is_collected_and_nobody_listens_for_it(server):
    sentinel = Told(server, speakers=(server,))
    pool = sentinel.master_for("mymaster", connection_pool_class=SentinelPool).connection_pool
    await pool.client().ping()
    await sentinel.is_heard()
    gone = weakref.ref(pool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # redis-py's, of an open connection
        del pool
        gc.collect()
    assert gone() is None
    await eventually(lambda: len(asyncio.all_tasks()) == 1, "nobody listens")
    await eventually(lambda: not server.clients(), "all connections are closed")


def test_a_pool_lives_on_several_loops(server):
    sentinel = Told(server, speakers=(server,))
    client = sentinel.master_for("mymaster", connection_pool_class=SentinelPool)

    async def use() -> None:
        assert await client.set("key", "value")
        await sentinel.is_heard()

    for _ in range(2):
        asyncio.run(use())
    asyncio.run(client.aclose())


# ---- several clients of one pool -----------------------------------------------------------------


async def test_clients_that_share_a_pool_do_not_close_it(server):
    sentinel = Told(server, decode_responses=True)
    pool = SentinelPool("mymaster", sentinel, max_size=3, decode_responses=True)
    clients = [
        sentinel.master_for("mymaster", connection_pool_class=pool.shared, **options)
        for options in ({}, {"max_size": 3}, {"decode_responses": True})
    ]
    gone = weakref.ref(pool)
    await asyncio.gather(*[client.ping() for client in clients for _ in range(20)])
    assert pool.stats().size <= 3
    await clients.pop().aclose()
    assert pool.stats().size
    assert await clients[0].ping()
    clients[0].set_retry(Retry(NoBackoff(), 7))
    assert pool.connection_kwargs["retry"].get_retries() == 7
    async with clients[1].connection_pool as same:
        assert isinstance(same, SentinelPool)
    clients[1].connection_pool.drain()
    assert pool.stats().size == 0
    del pool, same
    gc.collect()
    assert await clients[0].echo("word") == "word"  # it is kept by those who use it
    await gone().aclose()


async def test_that_a_client_is_gone_does_not_make_its_pool_gone(monkeypatch):
    sentinel = Told()
    pool = SentinelPool("mymaster", sentinel)
    told = []
    monkeypatch.setattr(pool._policy.recorder, "pool_is_gone", lambda: told.append("gone"))
    client = sentinel.master_for("mymaster", connection_pool_class=pool.shared)
    await client.aclose()
    del client
    gc.collect()
    assert told == []


async def test_a_pool_is_shared_as_what_it_is_only(server):
    sentinel, another = Told(server), Told(server)
    pool = SentinelPool("mymaster", sentinel, password="s3cret", max_size=3)  # noqa: S106 - not one that matters
    for arguments in [("other", sentinel), ("mymaster", another)]:
        with pytest.raises(ValueError, match="can't be shared as"):
            pool.shared(*arguments, is_master=True)
    with pytest.raises(ValueError, match="can't be shared as 'mymaster' \\(replica\\)"):
        sentinel.replica_for("mymaster", connection_pool_class=pool.shared)
    for option in ("password", "max_size", "socket_timeout"):
        with pytest.raises(ValueError, match=f"another '{option}'") as refused:
            sentinel.master_for("mymaster", connection_pool_class=pool.shared, **{option: "s3"})
        assert "s3" not in str(refused.value)
    sentinel.master_for("mymaster", connection_pool_class=pool.shared, password="s3cret")  # noqa: S106 - likewise


# ---- what it is ----------------------------------------------------------------------------------


def test_it_tells_its_service_and_no_secret():
    pool = SentinelPool("mymaster", Told(), username="al1ce", password="s3cret")  # noqa: S106 - likewise
    assert repr(pool).startswith("<SentinelPool 'mymaster (master)' (size=0/10")
    assert "'mymaster (replica)'" in repr(SentinelPool("mymaster", Told(), is_master=False))
    assert not [secret for secret in ("al1ce", "s3cret") if secret in repr(pool)]
    assert SentinelPool("mymaster", Told(), name="mine").name == "mine"


def test_its_connections_are_redis_pys():
    made = SentinelPool("mymaster", Told()).make_connection()
    assert isinstance(made, SentinelManagedConnection)
    assert isinstance(made, Lean)
    tls = SentinelPool("mymaster", Told(), ssl=True).make_connection()
    assert isinstance(tls, SentinelManagedSSLConnection)
    assert not SentinelPool("mymaster", Told()).maint_notifications_enabled()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_sise": 3}, "SentinelPool and its connections have no option 'max_sise'; did you"),
        ({"ssl_ca_certs": "a"}, "have no option 'ssl_ca_certs'; for TLS use ssl=True"),
        ({"url": "redis://localhost"}, "takes no url"),
        ({"is_master": 1}, "is_master must be a bool, not 1"),
        ({"fall_back_to_master": None}, "fall_back_to_master must be a bool, not None"),
        ({"check_connection": "yes"}, "check_connection must be a bool"),
        ({"connection_class": Connection}, "must be derived from .*SentinelManagedConnection"),
        ({"timeout": "5"}, "timeout must be a number of seconds"),
        ({"service_name": b"mymaster"}, "service_name must be a str, not b'mymaster'"),
        (
            {"sentinel_manager": redis.sentinel.Sentinel([])},
            r"must be a redis\.asyncio\.sentinel\.Sentinel, not a redis\.sentinel\.Sentinel$",
        ),
    ],
)
def test_what_can_be_no_option_is_refused(options, words):
    with pytest.raises(TypeError, match=words):
        SentinelPool(**{"service_name": "mymaster", "sentinel_manager": Told(), **options})
    with pytest.raises(TypeError, match="takes no url"):
        SentinelPool.from_url("redis://localhost")


async def test_a_connection_class_of_the_users_own_is_told_too(roles):
    class Own(SentinelManagedConnection):
        async def read_response(self, *args: Any, **keywords: Any) -> Any:
            return await super().read_response(*args, **keywords)

    old, new = roles
    sentinel = Told(old, new)
    async with pool_of(sentinel, connection_class=Own) as pool:
        async with pool.connection() as conn:
            assert isinstance(conn, Own)
            assert not isinstance(conn, Lean)
            demote(old, new)
            sentinel.switch()
            assert await pool.client().set("key", "value")
        assert new.run("GET", "key") == "value"
        assert not conn.is_connected or conn.port == new.port


async def test_tls_works_as_with_redis_py(tls: TlsFront):
    class Front(Told):
        async def discover_master(self, service_name: str) -> tuple[str, int]:  # noqa: ARG002
            return HOST, tls.port

    options = {"ssl": True, "ssl_ca_data": tls.authority_pem}
    async with pool_of(Front(), **options, **STRICT) as pool:
        assert await pool.client().ping()
    await eventually(lambda: tls.open == 0, "all are closed")


async def test_a_command_costs_what_it_costs_with_a_plain_pool(server):
    async with pool_of(Told(server), protocol=3, **HIREDIS) as pool:
        client = Redis(connection_pool=pool)
        await client.get("key")
        with calls_of("aiopool") as calls:
            await client.get("key")
    async with RedisPool(server.url, protocol=3, **HIREDIS) as plain:
        client = Redis(connection_pool=plain)
        await client.get("key")
        with calls_of("aiopool") as plain_calls:
            await client.get("key")
    assert calls == plain_calls


async def test_resizing_warming_and_closing_are_those_of_any_pool(server):
    async with pool_of(Told(server), min_size=1) as pool:
        await pool.open()
        assert pool.stats().size == 1
        assert await pool.warm(3) == 3
        pool.resize(max_size=2)
        assert pool.stats().size == 2
        async with pool.connection():
            assert len(pool.holders()) == 1
        pool.reset()
        assert pool.stats().closed == {"resized": 1, "drained": 2}
        assert await pool.pipelined().ping()


class Deafening:
    """A connection on which the writing of a command may lose a cancellation, and nothing is ever read."""

    def __init__(self) -> None:
        self.writing = asyncio.Event()
        self.aborted = False

    async def connect(self) -> None:
        pass

    async def send_command(self, *_command: str, check_health: bool) -> None:
        assert not check_health
        self.writing.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def read_response(self, **_: Any) -> Any:
        await asyncio.Event().wait()

    def abort(self) -> None:
        self.aborted = True


class Anybody:
    sentinels = (object(),)


async def test_listening_ends_even_if_its_cancellation_was_lost_in_a_write(
    monkeypatch: pytest.MonkeyPatch,
):
    connection, listener = Deafening(), Anybody()
    monkeypatch.setattr(_ear, "_connection", lambda _client: connection)
    task = asyncio.create_task(_ear.listen(weakref.ref(listener)))  # type: ignore[type-var]
    await connection.writing.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert connection.aborted


class Walked:
    """A Sentinel object whose Sentinels are asked in turn as redis-py does it, some of which hang."""

    def __init__(self, *clients: str, dead: str = "") -> None:
        self.sentinels = list(clients)
        self.dead = dead

    async def discover_master(self, _service: str) -> tuple[str, int]:
        for number, client in enumerate(self.sentinels):
            await asyncio.sleep(0)
            if client == self.dead:
                await asyncio.Event().wait()
            if number or client not in self.dead:
                self.sentinels[0], self.sentinels[number] = client, self.sentinels[0]
                return HOST, 6379
        raise AssertionError

    discover_slaves = discover_master


async def test_services_that_ask_a_hanging_sentinel_together_find_another(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(_question, "PATIENCE", 0.02)
    sentinel = Walked("dead", "b", "c", dead="dead")
    services = [discovery_of(sentinel, f"service {number}") for number in range(3)]
    first = await asyncio.gather(*(each.master() for each in services), return_exceptions=True)
    assert all(isinstance(error, RedisConnectionError) for error in first)
    assert await asyncio.gather(*(each.master() for each in services)) == [(HOST, 6379)] * 3


async def test_a_sentinel_is_not_lost_if_another_is_put_first_while_they_are_asked():
    sentinel = Walked("a", "b", "c")
    known = discovery_of(sentinel, "mymaster")

    async def answer(_service: str) -> tuple[str, int]:
        index = 1  # of the one that answers, when it was asked
        await asyncio.sleep(0)
        known.lost("a")
        there = sentinel.sentinels
        there[0], there[index] = "b", there[0]  # as redis-py does
        return HOST, 6379

    await known._walk(answer)
    assert sorted(sentinel.sentinels) == ["a", "b", "c"]


async def test_a_closing_that_is_cancelled_ends_the_listening(server):
    sentinel = Told(server, speakers=(server,))
    async with pool_of(sentinel) as pool:
        lent = await pool.acquire()
        await sentinel.is_heard()
        closing = asyncio.create_task(pool.aclose(timeout=None))
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        await eventually(lambda: sentinel.listeners() == 0, "nobody listens any more")
        await pool.release(lent)


async def test_a_message_that_can_not_be_read_does_not_end_the_listening(server, other):
    sentinel = Told(server, other, speakers=(server,))
    async with pool_of(sentinel) as pool:
        await pool.client().ping()
        await sentinel.is_heard()
        server.run("PUBLISH", "+switch-master", "mymaster here 1 there none")
        sentinel.switch()
        sentinel.say()
        await eventually(lambda: pool.master_address is None, "the next is heard")


def test_event_loops_in_several_threads_may_ask_the_same_sentinel():
    sentinel = Walked("a")
    interval = sys.getswitchinterval()

    async def ask() -> None:
        kept = [discovery_of(sentinel, f"service {number}") for number in range(300)]
        assert len(set(kept)) == 300

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            for asking in [threads.submit(asyncio.run, ask()) for _ in range(4)]:
                asking.result()
    finally:
        sys.setswitchinterval(interval)
