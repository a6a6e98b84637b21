"""`SentinelPool` on real Sentinels: what a load of tasks sees of a failover, and what is left after it."""

import asyncio
import contextlib
import gc
import itertools
import time
import warnings
from bisect import bisect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from fleets import SentinelFleet
from redis.asyncio import Redis
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SlaveNotFoundError,
)
from redis.exceptions import ReadOnlyError, RedisError
from scripts import LOOPS
from servers import eventually
from walk import never

from aiopool import SentinelPool

TASKS = 60  # for each kind of client


# ---- a load in a failover ------------------------------------------------------------------------


@dataclass
class Load:
    """Tasks that write tokens of their own into logs, and what they have seen."""

    acknowledged: dict[str, list[str]] = field(default_factory=dict)  # by log
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    successes: list[float] = field(default_factory=list)  # when
    ending: bool = False

    async def work(self, client: Redis, who: str) -> None:
        for number in itertools.count():
            if self.ending:
                return
            token = f"{who}:{number}"
            try:
                echoed = await client.echo(token)
                if echoed != token:
                    self.wrong.append(f"{token} was answered {echoed}")
                await client.rpush(who, token)
            except RedisError as error:
                self.errors[type(error).__name__] += 1
            else:
                self.acknowledged.setdefault(who, []).append(token)
                self.successes.append(time.monotonic())
            await asyncio.sleep(0.001)

    def served_after(self, since: float) -> int:
        return len(self.successes) - bisect(self.successes, since)

    async def gone(self, client: Redis) -> int:
        """Count the writes that were acknowledged and are not there."""
        there = {who: set(await client.lrange(who, 0, -1)) for who in self.acknowledged}
        return sum(
            token not in there[who] for who, tokens in self.acknowledged.items() for token in tokens
        )


@contextlib.asynccontextmanager
async def load_on(pool: SentinelPool) -> AsyncIterator[Load]:
    """Let a hundred and more tasks work on a pool in all three ways."""
    load = Load()
    clients = {
        "own": pool.client(),
        "plain": Redis(connection_pool=pool),
        "shared": pool.pipelined(),
    }
    async with asyncio.TaskGroup() as group:
        for kind, client in clients.items():
            for number in range(TASKS):
                group.create_task(load.work(client, f"{kind}-{number}"))
        try:
            await eventually(lambda: len(load.acknowledged) == 3 * TASKS, "all have begun")
            yield load
            since = time.monotonic()

            await eventually(lambda: load.served_after(since) > 3 * TASKS, "all go on", within=20)
        finally:
            load.ending = True


def in_order(fleet: SentinelFleet) -> Iterator[None]:
    """The operator says so."""
    fleet.failover()
    yield


def killed(fleet: SentinelFleet) -> Iterator[None]:
    fleet.master().kill()
    yield


def hanging(fleet: SentinelFleet) -> Iterator[None]:
    with fleet.master().frozen():
        yield


Trouble = Callable[[SentinelFleet], Iterator[None]]


async def goes_through(fleet: SentinelFleet, trouble: Trouble) -> None:
    """Have a load go through a failover: nothing may be wrong or left, and no slot lost.

    Redis replicates asynchronously, so some of what the old master has acknowledged may be gone. That is
    most if an operator asks for the failover: from the moment in which a replica is made the master until
    Sentinel tells of it, a second or two, the old one takes writes that nobody replicates. They are
    counted, and so is the time.
    """
    old = fleet.master()
    changing = contextlib.contextmanager(trouble)(fleet)
    async with Sentinel(fleet.addresses, decode_responses=True) as sentinel:
        client = sentinel.master_for(
            fleet.service,
            connection_pool_class=SentinelPool,
            max_size=20,
            socket_timeout=0.5,
            socket_connect_timeout=0.5,
        )
        pool = client.connection_pool
        async with load_on(pool) as load:
            begun = time.monotonic()
            change = asyncio.create_task(asyncio.to_thread(changing.__enter__))  # for it waits
            await eventually(
                lambda: pool.master_address not in {None, (old.host, old.port)},
                "the pool knows the new master",
                within=20,
            )
            found = time.monotonic()
            await eventually(lambda: load.served_after(found), "somebody is served")
            served = load.successes[bisect(load.successes, found)]
            await change
        new = fleet.server_at(pool.master_address[1])
        assert new is not old
        assert load.wrong == []
        stats = pool.stats()
        assert (stats.lent, stats.waiting) == (0, 0)
        # Whoever they were begun for has gone, but they go on.
        await eventually(lambda: pool.stats().opening == 0, "no opening is left")
        conns = [await pool.acquire(timeout=5) for _ in range(20)]
        assert {conn.port for conn in conns} == {new.port}
        for conn in conns:
            await pool.release(conn)
        print(  # noqa: T201 - to be seen with -s
            f"{trouble.__name__}: the new master was known after {found - begun:.2f} s and had served"
            f" somebody {served - found:.3f} s later; errors {dict(load.errors)};"
            f" {await load.gone(client)} of {len(load.successes)} acknowledged writes are gone"
        )
        await client.aclose()
        await asyncio.to_thread(changing.__exit__, None, None, None)


# Each has servers of its own, for Sentinels wait for seconds between two failovers.


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("trouble", [in_order, hanging, killed])
async def test_a_load_goes_through_a_failover(fresh_sentinel_fleet, trouble):
    await goes_through(fresh_sentinel_fleet, trouble)


@pytest.mark.asyncio(loop_factories=[name for name in LOOPS if name != "asyncio"])
async def test_a_load_goes_through_a_failover_on_other_loops(fresh_sentinel_fleet):
    await goes_through(fresh_sentinel_fleet, killed)


# ---- a walk through Sentinel and its clients -----------------------------------------------------

Feature = Callable[[Sentinel, Redis, Redis], Awaitable[object]]
FEATURES: list[Feature] = []


def feature(function: Feature) -> Feature:
    FEATURES.append(function)
    return function


@feature
async def discoveries(sentinel: Sentinel, master: Redis, replica: Redis) -> object:
    (own,) = {await each.connection_pool.get_master_address() for each in (master, replica)}
    seen = [address async for address in limited(replica.connection_pool.rotate_slaves(), 3)]
    also = [address async for address in limited(replica.connection_pool.rotate_replicas(), 3)]
    return (
        own,
        await sentinel.discover_master("mymaster"),
        sorted(await sentinel.discover_slaves("mymaster")),
        sorted(await sentinel.discover_replicas("mymaster")),
        (sorted(seen[:2]), seen[2], sorted(also[:2]), also[2]),
    )


async def limited(addresses: AsyncIterator[Any], number: int) -> AsyncIterator[Any]:
    for _ in range(number):
        yield await anext(addresses)
    with pytest.raises(SlaveNotFoundError):
        await anext(addresses)


@feature
async def commands_of_sentinel(sentinel: Sentinel, _master: Redis, _replica: Redis) -> object:
    masters = await sentinel.sentinels[0].sentinel_masters()
    return (
        await sentinel.sentinel_get_master_addr_by_name("mymaster", return_responses=True),
        len(await sentinel.sentinel_sentinels("mymaster", return_responses=True)),
        await sentinel.sentinel_slaves("mymaster"),
        await sentinel.sentinel_ckquorum("mymaster"),
        [*masters],
    )


@feature
async def who_is_who(_sentinel: Sentinel, master: Redis, replica: Redis) -> object:
    return (await master.role())[0], (await replica.role())[0]


@feature
async def commands_and_pipelines(_sentinel: Sentinel, master: Redis, replica: Redis) -> object:
    told = [await master.set("key", "value"), await master.wait(2, 2000), await replica.get("key")]
    told += await master.pipeline(transaction=False).get("key").incr("n").execute()
    told += await master.pipeline().get("key").incr("n").execute()

    async def double(pipe: Any) -> None:
        number = int(await pipe.get("n"))
        pipe.multi()
        pipe.set("n", number * 2)

    told += await master.transaction(double, "n")
    return [*told, await master.eval("return redis.call('GET', KEYS[1])", 1, "n")]


@feature
async def errors_of_replicas(_sentinel: Sentinel, _master: Redis, replica: Redis) -> object:
    with pytest.raises(ReadOnlyError) as refused:
        await replica.set("key", "value")
    with pytest.raises(ReadOnlyError) as in_a_pipeline:
        await replica.pipeline(transaction=False).get("key").set("key", "value").execute()
    return str(refused.value), str(in_a_pipeline.value)


@feature
async def services_that_do_not_exist(sentinel: Sentinel, _master: Redis, replica: Redis) -> object:
    kind = type(replica.connection_pool)
    nobody = sentinel.master_for("nobody", connection_pool_class=kind, retry=never())
    nowhere = sentinel.slave_for("nobody", connection_pool_class=kind, retry=never())
    with pytest.raises(MasterNotFoundError) as no_master:
        await nobody.ping()
    with pytest.raises(SlaveNotFoundError) as no_replica:
        await nowhere.ping()
    for client in (nobody, nowhere):
        await client.aclose()
    return str(no_master.value), str(no_replica.value)


@feature
async def blocking_commands(_sentinel: Sentinel, master: Redis, _replica: Redis) -> object:
    waiting = asyncio.create_task(master.blpop(["list"], 5))
    await asyncio.sleep(0)
    await master.rpush("list", "word")
    return await waiting, await master.blpop(["list"], 0.01)


@feature
async def subscriptions(_sentinel: Sentinel, master: Redis, replica: Redis) -> object:
    async with replica.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("news")
        listening = asyncio.create_task(anext(pubsub.listen()))
        while not listening.done():  # until replicas have it, too
            await master.publish("news", "good")
            await asyncio.wait([listening], timeout=0.01)
        return await listening


@feature
async def monitors(_sentinel: Sentinel, master: Redis, _replica: Redis) -> object:
    async with master.monitor() as monitor:
        await master.echo("word")
        while (command := await monitor.next_command())["command"] != "ECHO word":
            pass
        return command["db"]


@feature
async def one_connection_for_a_client(
    _sentinel: Sentinel, master: Redis, _replica: Redis
) -> object:
    async with master.client() as one:
        return await one.client_id() == await one.client_id(), await one.set("key", "value")


@feature
async def other_clients_and_options(sentinel: Sentinel, master: Redis, _replica: Redis) -> object:
    class Own(Redis):
        pass

    kind = type(master.connection_pool)
    options = {"connection_pool_class": kind, "redis_class": Own, "db": 1, "check_connection": True}
    async with sentinel.master_for("mymaster", decode_responses=True, **options) as client:
        return type(client).__name__, await client.set("key", "value"), await client.get("key")


@pytest.mark.parametrize("step", FEATURES)
async def test_sentinels_clients_do_what_they_do_with_redis_pys_pools(step, sentinel_fleet):
    told = []
    for kind in (SentinelConnectionPool, SentinelPool):
        sentinel_fleet.flush()
        async with Sentinel(sentinel_fleet.addresses) as sentinel:
            clients = [
                make(sentinel_fleet.service, connection_pool_class=kind)
                for make in (sentinel.master_for, sentinel.replica_for)
            ]
            told.append(await step(sentinel, *clients))
            for client in clients:
                await client.aclose()
    assert told[0] == told[1]


def test_sentinels_are_asked_on_one_loop_after_the_other(request):
    fleet: SentinelFleet = request.getfixturevalue("_sentinels")
    sentinel = Sentinel(fleet.addresses)
    client = sentinel.master_for(fleet.service, connection_pool_class=SentinelPool)

    async def use(*, last: bool) -> None:
        assert await client.set("key", "value")
        if last:
            await client.aclose()
            await sentinel.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # redis-py's, of the first loop's connections
        for last in (False, True):
            asyncio.run(use(last=last))
            gc.collect()
