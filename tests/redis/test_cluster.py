"""A cluster's client whose nodes have pools: what it does beyond redis-py's, on a healthy cluster."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from fleets import ClusterFleet, slot_of
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    DataError,
    MaxConnectionsError,
    MovedError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
    WatchError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import Server, eventually, free_port

from aiopool import Listener, PoolClosed, PoolTimeout, RedisCluster, TooManyWaiters
from aiopool.redis._cluster._pipeline import PAUSE

ONCE: dict[str, Any] = {"retry": Retry(NoBackoff(), 0)}
WAYS: dict[str, dict[str, Any]] = {"alone": {}, "sharing": {"lanes": 1}}

Client = Callable[..., RedisCluster]


@pytest.fixture
async def client(cluster_fleet: ClusterFleet) -> AsyncIterator[Client]:
    """Makes clients of the shared cluster, and closes them."""
    made: list[RedisCluster] = []

    def make(**options: Any) -> RedisCluster:
        host, port = cluster_fleet.startup[0]
        made.append(RedisCluster(host, port, **options))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return WAYS[request.param]


def key_of(fleet: ClusterFleet, server: Server, name: str = "key") -> str:
    """Find a key that this server has."""
    keys = (f"{name}:{number}" for number in range(1000))
    return next(key for key in keys if fleet.master_of(slot_of(key)) is server)


@asynccontextmanager
async def all_lent(cluster: RedisCluster, key: str) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Have all connections to a key's node lent to commands that block until the end."""
    node: Any = cluster.get_node_from_key(key)
    before = node.pool.stats().lent
    most = node.pool.stats().max_size - before

    async def block() -> None:
        await cluster.blpop([f"{{{key}}}list"], 0)

    blocking = [asyncio.create_task(block()) for _ in range(most)]
    await eventually(lambda: node.pool.stats().lent == before + most, "all are lent")
    yield blocking
    for task in blocking:
        task.cancel()
    await asyncio.gather(*blocking, return_exceptions=True)


# ---- waiting -------------------------------------------------------------------------------------


async def test_more_tasks_than_connections_wait_instead_of_failing(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    cluster = client(max_size=2, **way)

    async def task(number: int) -> bool:
        await cluster.set(f"key:{number}", f"value:{number}")
        return await cluster.get(f"key:{number}") == f"value:{number}".encode()

    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, *(len(found) for found in cluster_fleet.clients().values()))
            await asyncio.sleep(0.02)  # it is not quick

    watching = asyncio.create_task(watch())
    assert all(await asyncio.gather(*(task(number) for number in range(500))))
    watching.cancel()
    assert 1 <= most <= 2


async def test_who_waits_for_a_node_in_vain_gets_the_pools_error(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client(max_size=2, timeout=1.0)
    epoch = cluster.nodes_manager._epoch
    key, *others = [key_of(cluster_fleet, server) for server in cluster_fleet.masters()]
    assert await asyncio.gather(*(cluster.get(other) for other in others)) == [None, None]
    pubsub = cluster.pubsub(node=cluster.get_node_from_key(key))
    async with all_lent(cluster, key) as blocking:
        in_vain = await asyncio.gather(
            cluster.get(key),
            cluster.pipeline().get(key).get(others[0]).execute(),
            cluster.pipeline(transaction=True).get(key).execute(),
            pubsub.subscribe("channel"),
            return_exceptions=True,
        )
        for error in in_vain:
            assert isinstance(error, PoolTimeout)
            assert isinstance(error, MaxConnectionsError)
            assert "no connection within 1 s (size=2/2, idle=0, lent=2" in str(error)
        node: Any = cluster.get_node_from_key(key)
        assert str(in_vain[0]).startswith(f"{node.name}: no connection")
        assert await asyncio.gather(*(cluster.get(other) for other in others)) == [None, None]
        # Nobody has tried again, nothing was read anew, and nothing was closed.
        assert cluster.stats().timed_out == 4
        assert cluster.nodes_manager._epoch == epoch
        assert not any(task.done() for task in blocking)
        assert not cluster.stats().closed
    await pubsub.aclose()


async def test_one_more_than_may_wait_at_a_node_is_turned_away(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client(max_size=1, max_waiting=1)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    async with all_lent(cluster, key):
        waiting = asyncio.create_task(cluster.get(key))
        await eventually(lambda: cluster.stats().waiting == 1, "one waits")
        with pytest.raises(TooManyWaiters):
            await cluster.get(key)
        assert not waiting.done()
        waiting.cancel()


async def test_a_transaction_waits_for_its_connection(client: Client, cluster_fleet: ClusterFleet):
    cluster = await client(max_size=1)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    async with all_lent(cluster, key):
        pipe = cluster.pipeline(transaction=True)
        adding = asyncio.create_task(pipe.incr(key).incr(key).execute())
        await eventually(lambda: cluster.stats().waiting == 1, "it waits")
    assert await adding == [1, 2]


@pytest.mark.parametrize("sharded", [False, True])
async def test_pub_sub_waits_for_its_connection(
    client: Client, cluster_fleet: ClusterFleet, sharded: bool
):
    cluster = await client(max_size=1)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    async with cluster.pubsub(node=cluster.get_node_from_key(key)) as pubsub:
        async with all_lent(cluster, key):
            subscribe = pubsub.ssubscribe if sharded else pubsub.subscribe
            subscribing = asyncio.create_task(subscribe(key))
            await eventually(lambda: cluster.stats().waiting == 1, "it waits")
        await subscribing
        message = await (
            pubsub.get_sharded_message(timeout=5) if sharded else pubsub.get_message(timeout=5)
        )
        assert message is not None
        assert message["channel"] == key.encode()


async def test_keyspace_notifications_wait_for_their_connections(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client(max_size=1)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    async with cluster.keyspace_notifications() as notifications:
        async with all_lent(cluster, key):
            subscribing = asyncio.create_task(notifications.subscribe_keyspace(key))
            await eventually(lambda: cluster.stats().waiting == 1, "it waits")
        await subscribing


# ---- the topology --------------------------------------------------------------------------------


async def test_a_topology_read_anew_reconnects_nothing(client: Client, cluster_fleet: ClusterFleet):
    cluster = await client(max_size=3)
    keys = [key_of(cluster_fleet, server) for server in cluster_fleet.masters()]

    def connected() -> set[tuple[int, str]]:
        return {(p, found["id"]) for p, all_ in cluster_fleet.clients().items() for found in all_}

    await asyncio.gather(*(cluster.get(key) for key in keys for _ in range(20)))
    before = connected()
    for _ in range(10):
        await cluster.nodes_manager.initialize()
        await asyncio.gather(*(cluster.get(key) for key in keys for _ in range(20)))
    assert before <= connected()  # of replicas, too, the topology may have been asked
    assert not cluster.stats().closed


async def test_a_node_has_one_pool_under_whichever_name_it_is_known(
    cluster_fleet: ClusterFleet,
):
    ports = {port for _, port in cluster_fleet.startup}
    cluster = await RedisCluster(
        startup_nodes=[ClusterNode("localhost", port) for port in ports], max_size=1
    )
    try:
        await cluster.ping(target_nodes=RedisCluster.ALL_NODES)
        found = {port: len(clients) for port, clients in cluster_fleet.clients().items()}
        assert found == dict.fromkeys(ports, 1)
        assert cluster.stats().max_size == len(ports)
    finally:
        await cluster.aclose()


async def test_a_command_that_may_go_to_the_new_owner_goes_there_on_one_connection(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    source, target, _ = cluster_fleet.masters()
    key = key_of(cluster_fleet, source, "moving")
    cluster = await client(max_size=4, **way)
    await cluster.set(key, "value")
    target.run("CONFIG", "RESETSTAT")
    cluster_fleet.begin_migration(slot_of(key), target)
    cluster_fleet.move_keys(slot_of(key))
    try:
        # If the permission came on another connection, some of these would be sent to and fro.
        values = await asyncio.gather(*(cluster.get(key) for _ in range(100)))
        assert values == [b"value"] * 100
        assert not cluster.stats().closed, "the connections are kept"
        asked = int(target.run("INFO", "commandstats")["cmdstat_asking"]["calls"])
        assert asked == 100
    finally:
        cluster_fleet.end_migration(slot_of(key))


async def test_a_node_that_only_moved_tells_of_has_a_pool_too(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client()
    nodes: Any = cluster.nodes_manager
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    await cluster.set(key, "value")
    node: Any = cluster.get_node_from_key(key)
    for known in (nodes.nodes_cache, nodes.startup_nodes, nodes._known):
        del known[node.name]
    await nodes.move_slot(MovedError(f"{slot_of(key)} {node.host}:{node.port}"))
    assert type(cluster.get_node_from_key(key)) is type(node)
    assert await cluster.get(key) == b"value"
    await node.close(0.0)


async def test_a_node_that_refuses_connections_is_told_in_redis_pys_words_for_it_to_try_another(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    cluster = await client(**way, **ONCE)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    await cluster.get(key)  # so that lanes have learnt the commands
    node: Any = cluster.get_node_from_key(key)
    node.pool.connection_kwargs["port"] = free_port()
    node.pool.drain()
    with pytest.raises(RedisConnectionError) as caught:
        await cluster.get(key)
    assert type(caught.value) is RedisConnectionError  # redis-py tries no derived one again


async def test_the_next_command_after_a_failover_goes_to_the_new_node_also_without_retries(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    cluster = await client(**way, **ONCE)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    await cluster.set(key, "value")
    node: Any = cluster.get_node_from_key(key)
    node.pool.connection_kwargs["port"] = free_port()  # as if it were dead
    node.pool.drain()
    other: Any = next(each for each in cluster.get_primaries() if each != node)
    with pytest.raises(RedisConnectionError):
        await cluster.get(key)
    node.pool.connection_kwargs["port"] = node.port
    read: Any = cluster.nodes_manager._epoch
    assert await cluster.get(key) == b"value"
    assert cluster.nodes_manager._epoch == read + 1, "it was looked where the key is now"
    await cluster.get(key_of(cluster_fleet, cluster_fleet.server_at(other.port)))
    assert cluster.nodes_manager._epoch == read + 1


async def test_a_node_to_which_every_connect_hangs_is_no_exhausted_one(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    cluster = await client(max_size=2, timeout=0.5, **way, **ONCE)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    await cluster.get(key)
    node: Any = cluster.get_node_from_key(key)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node.pool.connection_kwargs["port"] = silent.getsockname()[1]
        node.pool.drain()
        with pytest.raises(RedisTimeoutError, match="no connection") as caught:
            await cluster.get(key)
        assert type(caught.value) is RedisTimeoutError  # redis-py tries no derived one again
        await cluster.aclose()


async def test_a_client_begins_though_the_node_that_is_asked_for_the_commands_hangs(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client(timeout=0.5, **ONCE)
    first: Any = cluster.get_default_node()
    cluster._initialize, cluster.commands_parser.commands = True, {}  # as if it had not begun
    with socket.create_server(("127.0.0.1", 0)) as silent:
        first.pool.connection_kwargs["port"] = silent.getsockname()[1]
        first.pool.drain()
        other = next(s for s in cluster_fleet.masters() if s.port != first.port)
        assert await cluster.get(key_of(cluster_fleet, other)) is None
        await cluster.aclose()


async def test_commands_that_fail_together_have_the_topology_read_once(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    cluster = await client(max_size=30, **way)
    server = cluster_fleet.masters()[0]
    key = key_of(cluster_fleet, server)
    async with all_lent(cluster, key) as blocking:
        epoch = cluster.nodes_manager.epoch
        server.run("CLIENT", "KILL", "TYPE", "normal")
        node: Any = cluster.get_node_from_key(key)
        await eventually(lambda: node.stats().opened >= 60, "all are sent again")
        assert not any(task.done() for task in blocking)
        assert cluster.nodes_manager.epoch == epoch + 1


async def test_an_error_that_the_server_replies_does_not_wait_for_the_topology(
    client: Client, way: dict[str, Any]
):
    cluster = await client(**way)
    await cluster.set("key", "value")
    epoch = cluster.nodes_manager.epoch
    cluster._initialize = True  # as another command's failure does
    with pytest.raises(ResponseError, match="WRONGTYPE") as caught:
        await cluster.lpush("key", 1)
    with pytest.raises(DataError):
        await cluster.set("key", object())
    assert caught.value.connection is cluster.get_node_from_key("key")
    assert cluster.nodes_manager.epoch == epoch


async def test_listeners_that_are_equal_hear_of_nodes_each(client: Client):
    class Count(Listener):
        heard = 0

        def lent(self, *_what: object) -> None:
            self.heard += 1

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Count)

        __hash__ = None  # type: ignore[assignment]

    cluster, one, other = client(), Count(), Count()
    cluster.on(one)
    off = cluster.on(other)
    await cluster.set("key", "value")
    assert one.heard == other.heard > 0
    off()
    heard = other.heard
    await asyncio.gather(*(cluster.set(f"key{n}", "") for n in range(60)))
    assert other.heard == heard < one.heard


async def test_connections_are_not_opened_in_the_context_of_who_needs_them_first(client: Client):
    whose: ContextVar[str] = ContextVar("whose", default="the client's")
    found: set[str] = set()

    class Provider(CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            found.add(whose.get())
            return ("any will do",)

    async def request(name: str) -> None:
        whose.set(name)
        await cluster.set(name, name)

    cluster = client(credential_provider=Provider())
    await asyncio.gather(*(asyncio.create_task(request(f"request {n}")) for n in range(20)))
    assert found == {"the client's"}


# ---- pipelines -----------------------------------------------------------------------------------


async def test_a_pipeline_is_tried_again_when_nothing_of_it_is_under_way_any_more(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client()
    failing, slow, _ = cluster_fleet.masters()
    keys = [key_of(cluster_fleet, server) for server in (failing, slow)]
    node: Any = cluster.get_node_from_key(keys[0])
    node.pool.connection_kwargs["port"] = free_port()
    node.pool.drain()
    slow.run("CLIENT", "PAUSE", 60_000, "WRITE")
    adding = asyncio.create_task(cluster.pipeline().incr(keys[0]).incr(keys[1]).execute())
    try:
        await eventually(lambda: node.stats().open_failed, "one can't be sent")
        await eventually(
            lambda: int(slow.run("INFO", "clients")["blocked_clients"]), "the other has arrived"
        )
        node.pool.connection_kwargs["port"] = failing.port
        await asyncio.sleep(2 * PAUSE)  # in which it would be tried again
    finally:
        slow.run("CLIENT", "UNPAUSE")
    assert await adding == [1, 1]
    assert await cluster.get(keys[1]) == b"1"


# ---- transactions --------------------------------------------------------------------------------


async def test_a_transaction_finds_its_slot_without_a_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    cluster = await client(**ONCE)
    monkeypatch.delattr(threading, "Thread")
    async with cluster.pipeline(transaction=True) as pipe:
        pipe.set("{a}1", 1).set("{a}2", 2).eval("return redis.call('GET', KEYS[1])", 1, "{a}2")
        assert await pipe.execute() == [True, True, b"2"]
        cluster._initialize = True  # as another command's failure does
        pipe.zadd("{a}z", {"member": 1}).zunionstore("{a}u", ["{a}z"])
        assert await pipe.execute() == [1, 1]
        await pipe.watch("{a}1")
        assert await pipe.get("{a}1") == b"1"
        pipe.multi()
        assert await pipe.incr("{a}1").execute() == [2]


async def test_what_was_watched_on_a_connection_that_fails_is_not_taken_for_unchanged(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client()
    server = cluster_fleet.masters()[0]
    key = key_of(cluster_fleet, server)
    async with cluster.pipeline(transaction=True) as pipe:
        await pipe.watch(key)
        await cluster.set(key, "somebody else's")
        server.run("CLIENT", "KILL", "TYPE", "normal")
        pipe.multi()
        with pytest.raises(WatchError, match="has failed on which keys were watched"):
            await pipe.set(key, "mine").execute()
    assert await cluster.get(key) == b"somebody else's"


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_size": 0}, ValueError, "max_size=0 is out of range: it must be at least 1"),
        ({"min_size": 11}, ValueError, "min_size=11 is out of range: it must be from 0 to 10"),
        ({"timeout": -1}, ValueError, "timeout=-1 is out of range"),
        ({"max_idle": "5"}, TypeError, "max_idle must be a number of seconds"),
        (
            {"lanes": 3, "max_size": 2},
            ValueError,
            "lanes=3 is out of range: it must be from 1 to 2",
        ),
        ({"lanes": True}, TypeError, "lanes must be an int, not True"),
        ({"max_in_flight": 0}, ValueError, "max_in_flight=0 is out of range"),
        ({"share_scripts": 1}, TypeError, "share_scripts must be a bool, not 1"),
        ({"max_connections": 3, "max_size": 2}, ValueError, "max_connections=3 contradicts"),
        ({"max_sise": 3}, TypeError, "max_sise"),
        ({"db": 1}, RedisClusterException, "'db' must be 0"),
    ],
)
def test_a_bad_option_is_refused_at_once(options: dict[str, Any], error: Any, words: str):
    with pytest.raises(error, match=words):
        RedisCluster("127.0.0.1", 1, **options)


def test_an_url_that_can_not_be_read_is_not_quoted():
    with pytest.raises(ValueError, match="can't be read") as caught:
        RedisCluster.from_url("redis://user:pass#wort@127.0.0.1:7000")
    assert "wort" not in str(caught.value)


async def test_redis_pys_name_for_the_size_and_an_url_will_do(cluster_fleet: ClusterFleet):
    cluster = RedisCluster.from_url(f"{cluster_fleet.url}?max_connections=3", decode_responses=True)
    async with cluster:
        await cluster.set("key", "value")
        assert await cluster.get("key") == "value"
        assert {stats.max_size for stats in cluster.node_stats().values()} == {3}


# ---- sizes and counts ----------------------------------------------------------------------------


async def test_counts_are_told_for_each_node_and_in_sum(client: Client):
    cluster = await client(max_size=2)
    await asyncio.gather(*(cluster.get(f"key:{n}") for n in range(50)))
    nodes, total = cluster.node_stats(), cluster.stats()
    assert nodes.keys() == {node.name for node in cluster.get_nodes()}
    for field in ("max_size", "size", "idle", "lent", "waiting", "acquired", "opened"):
        assert getattr(total, field) == sum(getattr(stats, field) for stats in nodes.values())
    assert total.acquired > 50
    assert f"({total})" in repr(cluster)


def test_to_look_at_a_client_that_was_never_used_makes_no_pool():
    cluster = RedisCluster("127.0.0.1", 7000, max_size=7)
    assert repr(cluster) == (
        "<RedisCluster of 0 nodes (size=0/7, idle=0, lent=0, opening=0, waiting=0)>"
    )
    assert not cluster.nodes_manager.pools()


async def test_counts_of_a_node_that_has_left_stay_in_the_sum(client: Client):
    cluster = await client(max_size=2)
    await asyncio.gather(*(cluster.get(f"key:{n}") for n in range(50)))
    before, nodes = cluster.stats(), cluster.nodes_manager
    [lost, *_] = nodes.nodes_cache
    there = {name: node for name, node in nodes.nodes_cache.items() if name != lost}
    acquired = cluster.node_stats()[lost].acquired
    nodes.set_nodes(nodes.nodes_cache, there, remove_old=True)
    nodes.set_nodes(nodes.startup_nodes, there, remove_old=True)
    nodes._forget()
    assert lost not in {node.name for node in nodes.known()}
    after = cluster.stats()
    assert acquired
    assert after.acquired == before.acquired
    assert after.max_size == before.max_size - 2
    assert after.closed["drained"] == after.opened - after.size


async def test_a_new_size_is_that_of_nodes_found_later_too(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = client(max_size=2)
    cluster.resize(max_size=4, min_size=3)
    await cluster.initialize()
    [key] = [key_of(cluster_fleet, cluster_fleet.masters()[0])]
    await cluster.get(key)
    node: Any = cluster.get_node_from_key(key)
    await eventually(lambda: node.pool.stats().size == 3, "three are kept open")
    assert {stats.max_size for stats in cluster.node_stats().values()} == {4}
    with pytest.raises(ValueError, match="min_size=3 is out of range"):
        cluster.resize(max_size=2)
    assert {stats.max_size for stats in cluster.node_stats().values()} == {4}
    cluster.resize(min_size=0)
    cluster.drain()
    await eventually(lambda: cluster.stats().size == 0, "all are closed")


async def test_a_size_below_the_number_of_lanes_makes_do_with_fewer(client: Client):
    cluster = client(max_size=3, lanes=3)
    cluster.resize(max_size=1)
    assert await asyncio.gather(*(cluster.get(f"key:{n}") for n in range(50))) == [None] * 50
    assert {stats.size for stats in cluster.node_stats().values()} <= {0, 1}


async def test_holders_tells_who_has_connections_at_which_node(
    client: Client, cluster_fleet: ClusterFleet
):
    cluster = await client(max_size=2, leak_after=60.0)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    async with all_lent(cluster, key) as blocking:
        names = {task.get_name() for task in blocking}
        # A connection may have been handed over to a task that has not run since.
        await eventually(
            lambda: (
                {each.task for each in cluster.holders()} == names
                and all(__file__ in str(each.where) for each in cluster.holders())
            ),
            lambda: f"they are {names}, each acquired here: {cluster.holders()}",
        )


# ---- the end -------------------------------------------------------------------------------------


async def test_who_waits_when_the_client_is_closed_is_sent_away_at_once(
    client: Client, cluster_fleet: ClusterFleet, way: dict[str, Any]
):
    cluster = await client(max_size=1, **way, **ONCE)
    key = key_of(cluster_fleet, cluster_fleet.masters()[0])
    async with all_lent(cluster, key):
        waiting = asyncio.create_task(cluster.get(key))
        await eventually(lambda: cluster.stats().waiting == 1, "it waits")
        await cluster.aclose()
        with pytest.raises(PoolClosed):
            await waiting
        assert cluster.stats().size == 0


async def test_closing_gives_lent_connections_the_time_to_come_back(client: Client):
    cluster = await client()
    blocking = asyncio.create_task(cluster.blpop(["list"], 0.2))
    await eventually(lambda: cluster.stats().lent == 1, "it is lent")
    await cluster.aclose(timeout=None)
    assert await blocking is None


async def test_a_client_whose_topology_is_to_be_read_anew_can_be_closed(client: Client):
    cluster = await client()
    await cluster.get("key")
    cluster._initialize = True  # as a command's failure does
    await cluster.aclose()
    assert cluster.stats().size == 0


async def test_a_client_that_is_used_after_it_was_closed_opens_again(client: Client):
    cluster = await client()
    await cluster.set("key", "value")
    await cluster.aclose()
    assert cluster.stats().size == 0
    assert await cluster.get("key") == b"value"


async def test_closing_does_not_wait_for_a_topology_that_can_not_be_read(client: Client):
    cluster = await client(**ONCE)
    await asyncio.gather(*(cluster.get(f"key:{n}") for n in range(50)))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for node in cluster.nodes_manager.known():
            node.pool.connection_kwargs["port"] = silent.getsockname()[1]
            node.pool.drain()
        cluster._initialize = True
        tasks = [
            asyncio.create_task(cluster.initialize()),
            asyncio.create_task(cluster.execute_command("GET", "key", target_nodes="primaries")),
        ]
        await asyncio.sleep(0)
        await eventually(lambda: cluster.stats().opening, "it is being read")
        async with asyncio.timeout(15):  # the six nodes would take 5 s each
            await cluster.aclose()
        for task in tasks:
            with pytest.raises(PoolClosed):
                await task
    assert cluster.stats().size == 0


async def test_a_command_that_is_sent_again_and_again_does_not_open_a_closed_client(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    cluster = await client()
    await cluster.get("key")
    node: Any = cluster.get_node_from_key("key")
    tries = 0

    async def refused(*_: Any) -> None:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0.02)
        raise TryAgainError

    monkeypatch.setattr(type(node), "ask", refused)
    asking = asyncio.create_task(cluster.get("key"))
    await eventually(lambda: tries > 2, "it is tried again")
    monkeypatch.undo()
    await cluster.aclose()
    with pytest.raises(PoolClosed):
        await asking
    assert cluster.stats().size == 0
