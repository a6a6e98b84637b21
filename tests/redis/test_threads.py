"""A pool belongs to one event loop at a time: other threads may look at it, no more."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.auth.token import SimpleToken
from redis.backoff import NoBackoff
from servers import STRICT, eventually

from aiopool import RedisCluster, RedisPool, Stats, WrongLoop
from aiopool.redis._cluster._node import Node


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@asynccontextmanager
async def load(pool: RedisPool, name: str = "") -> AsyncIterator[None]:
    """Be busy meanwhile, without an error and without a wrong reply."""
    client = pool.client()
    ended = False

    async def work(number: int) -> None:
        words = [f"{name}.{number}.{n}" for n in range(10)]
        while not ended:
            assert await client.echo(words[0]) == words[0].encode()
            async with client.pipeline(transaction=False) as pipe:
                for word in words:
                    pipe.echo(word)
                assert await pipe.execute() == [word.encode() for word in words]
            assert pool.stats().size <= pool.stats().max_size

    async with asyncio.TaskGroup() as group:
        for number in range(2 * pool.stats().max_size):
            group.create_task(work(number))
        try:
            yield
        finally:
            ended = True


# ---- a second thread is refused ------------------------------------------------------------------


class World(NamedTuple):
    """A pool in use, and what its users have of it."""

    pool: RedisPool
    lent: AbstractConnection
    owner: Redis  # a client that closes the pool with itself

    @property
    def client(self) -> Redis:
        return self.pool.client()


async def connection(world: World) -> None:
    async with world.pool.connection():
        pass


async def async_with_pool(world: World) -> None:
    async with world.pool:
        pass


async def transaction(world: World) -> None:
    async with world.client.pipeline() as pipe:
        await pipe.set("key", "value").execute()


async def watch(world: World) -> None:
    async with world.client.pipeline() as pipe:
        await pipe.watch("key")


async def subscribe(world: World) -> None:
    async with world.client.pubsub() as pubsub:
        await pubsub.subscribe("news")


async def lock(world: World) -> None:
    async with world.client.lock("lock"):
        pass


async def monitor(world: World) -> None:
    async with world.client.monitor():
        pass


TOKEN = SimpleToken("value", -1, 0, {"oid": "user"})

SYNCHRONOUS_CALLS: dict[str, Callable[[World], None]] = {
    "drain()": lambda world: world.pool.drain(),
    "reset()": lambda world: world.pool.reset(),
    "resize()": lambda world: world.pool.resize(max_size=2),
    "max_connections": lambda world: setattr(world.pool, "max_connections", 2),
    "set_retry()": lambda world: world.pool.set_retry(Retry(NoBackoff(), 1)),
}
CALLS: dict[str, Callable[[World], Any]] = {
    "acquire()": lambda world: world.pool.acquire(),
    "get_connection()": lambda world: world.pool.get_connection(),
    "connection()": connection,
    "release()": lambda world: world.pool.release(world.lent),
    "open()": lambda world: world.pool.open(),
    "async with pool": async_with_pool,
    "warm()": lambda world: world.pool.warm(1),
    "aclose()": lambda world: world.pool.aclose(),
    "aclose() without grace": lambda world: world.pool.aclose(timeout=0),
    "disconnect()": lambda world: world.pool.disconnect(),
    "disconnect() of the idle": lambda world: world.pool.disconnect(inuse_connections=False),
    "re_auth_callback()": lambda world: world.pool.re_auth_callback(TOKEN),
    "get_available_connection()": lambda world: world.pool.get_available_connection(),
    "update_active_connections_for_reconnect()": lambda world: (
        world.pool.update_active_connections_for_reconnect()
    ),
    "a command": lambda world: world.client.ping(),
    "a blocking command": lambda world: world.client.blpop("list"),
    "a transaction": transaction,
    "WATCH": watch,
    "a subscription": subscribe,
    "a lock": lock,
    "monitor()": monitor,
    "aclose() of the client that owns the pool": lambda world: world.owner.aclose(),
    **SYNCHRONOUS_CALLS,
}


@asynccontextmanager
async def undisturbed(server) -> AsyncIterator[World]:
    """A pool in use, which no call from elsewhere may change."""
    pool = RedisPool(server.url, max_size=4, **STRICT)
    client = pool.client()
    await pool.warm(4)
    retry = client.get_retry()
    before = {peer["id"] for peer in server.clients()}
    try:
        async with pool.connection() as lent, load(pool):
            yield World(pool, lent, Redis.from_pool(pool))
            assert pool.stats().closed == {}
            assert (pool.stats().max_size, pool.stats().size) == (4, 4)
            assert {peer["id"] for peer in server.clients()} == before
            assert client.get_retry() is retry
            await lent.send_command("ECHO", "mine")
            assert await lent.read_response() == b"mine"
    finally:
        await pool.aclose()
    # It was not opened by hand, so it opens again.
    assert await client.ping()
    await pool.aclose()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_second_event_loop_in_another_thread_is_refused_and_the_first_goes_on(server, call):
    def elsewhere(world: World) -> None:
        async def attempt() -> None:
            coroutine = call(world)
            if inspect.isawaitable(coroutine):
                await coroutine

        asyncio.run(attempt())

    async with undisturbed(server) as world:
        with pytest.raises(WrongLoop):
            await asyncio.to_thread(elsewhere, world)


@pytest.mark.parametrize("call", SYNCHRONOUS_CALLS.values(), ids=SYNCHRONOUS_CALLS)
async def test_a_thread_without_an_event_loop_is_refused_and_the_first_goes_on(server, call):
    async with undisturbed(server) as world:
        with pytest.raises(WrongLoop):
            await asyncio.to_thread(call, world)


# ---- what other threads may do -------------------------------------------------------------------


async def test_a_client_that_owns_nothing_may_be_closed_anywhere(server):
    async with undisturbed(server) as world:
        await asyncio.to_thread(lambda: asyncio.run(world.client.aclose()))


@pytest.mark.usefixtures("quick_switches")
async def test_another_thread_may_read_the_numbers_all_the_time(server):
    def look(pool: RedisPool) -> None:
        for _ in range(2000):
            stats = pool.stats()
            assert 0 <= stats.lent <= stats.max_size == 4
            assert "127.0.0.1" in repr(pool)
            assert len(pool.holders()) <= 4
            assert len(pool.get_connection_count()) == 2

    async with undisturbed(server) as world:
        await asyncio.to_thread(look, world.pool)


async def test_the_nodes_of_a_cluster_may_change_while_their_numbers_are_read(
    cluster_fleet, monkeypatch
):
    async with RedisCluster.from_url(cluster_fleet.url) as client:
        nodes, stats = client.nodes_manager.nodes_cache, Node.stats
        names = {*nodes}

        def meanwhile(node: Node) -> Stats:
            nodes[f"one more than {len(nodes)}"] = node  # as the loop's thread may
            return stats(node)

        monkeypatch.setattr(Node, "stats", meanwhile)
        assert client.node_stats().keys() == names
        for name in nodes.keys() - names:
            del nodes[name]


@pytest.mark.usefixtures("quick_switches")
async def test_two_pools_in_two_threads_work_side_by_side(server):
    kind = type(asyncio.get_running_loop())
    first, second = (RedisPool(server.url, max_size=3, **STRICT) for _ in range(2))

    async def work(pool: RedisPool, name: str) -> None:
        async with pool, load(pool, name):
            for goal in range(200, 1001, 200):
                await eventually(lambda goal=goal: pool.stats().acquired >= goal, "it works")
                pool.drain()

    def elsewhere() -> None:
        with asyncio.Runner(loop_factory=kind) as runner:
            runner.run(work(second, "second"))

    await asyncio.gather(work(first, "first"), asyncio.to_thread(elsewhere))
    for pool in (first, second):
        assert pool.stats().acquired >= 1000
        assert pool.stats().closed["drained"] >= 5
        assert pool.stats().size == 0
