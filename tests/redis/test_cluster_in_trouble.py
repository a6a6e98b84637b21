"""A real cluster in trouble while a hundred and more tasks use it, plainly and with lanes.

What the load asks and expects is told in `cluster_load`, and `python cluster_load.py` tells how long
troubles take: nothing here depends on it.

What a master had acknowledged and not passed on to its replica yet is gone when it is killed or hangs, as
Redis replicates after it has answered; so it is only counted. With `CLUSTER FAILOVER` the master lets no
client write from when it begins until its replica has all, so nothing may be gone.
"""

import asyncio
import gc
import os
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

import pytest
from cluster_load import (
    FIRST,
    SECOND,
    SIZE,
    TAGS,
    THIRD,
    TROUBLES,
    Client,
    Load,
    Report,
    Scene,
    Trouble,
    lendable,
    make_client,
    suffer,
)
from fleets import HOST, ClusterFleet, slot_of
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import LoadBalancingStrategy
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, ResponseError
from scripts import UVLOOP_S
from servers import Server, eventually
from surroundings import LOOPS, ONE_LOOP, no_clients_of

from aiopool import PoolClosed, PoolTimeout, WrongLoop
from aiopool.redis._cluster import _pipeline

KINDS = ("aiopool", "aiopool-lanes")
TASKS = 75  # of each kind

IN_TURN = {"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN}  # replicas and masters

# What those see whose client is closed; the last if it was about to read the topology.
CLOSED = {"PoolClosed", "ConnectionError", "RedisClusterException"}

# What users may see, by redis-py's ways, when a server is lost for longer than they try again.
LOSSES = {"ConnectionError", "TimeoutError", "ClusterDownError", "RedisClusterException"}


ONCE = pytest.mark.asyncio(loop_factories=["asyncio"])  # is long enough


@pytest.fixture(scope="module")
def _troubled() -> Iterator[ClusterFleet]:
    fleet = ClusterFleet()
    yield fleet
    fleet.destroy()


@pytest.fixture
async def fleet(_troubled: ClusterFleet) -> AsyncIterator[ClusterFleet]:
    """A cluster for these tests, whose nodes may be killed and frozen. Roles are what they have become."""
    _troubled.flush()
    # A replica is listed once the others have heard that it has received something.
    await eventually(lambda: all_listed(_troubled), "all tell clients of all")
    yield _troubled
    await no_clients_of(_troubled)
    await asyncio.to_thread(_troubled.wait_until_ok)


def all_listed(fleet: ClusterFleet) -> bool:
    ports = {node.port for node in fleet.nodes}
    return all(
        {port for _, _, *nodes in node.run("CLUSTER", "SLOTS") for _, port, *_ in nodes} == ports
        for node in fleet.nodes
    )


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


async def endured(
    trouble: str | Trouble, fleet: ClusterFleet, *, errors: set[str], **keywords: Any
) -> list[Report]:
    """Go through a trouble, with what is promised for every one, with both kinds of clients at once."""
    async with AsyncExitStack() as stack:
        loads = []
        for seed, kind in enumerate(KINDS):
            client = await stack.enter_async_context(make_client(kind, fleet, **keywords))
            loads.append(Load(client, TASKS, seed=seed))
        happen = TROUBLES[trouble] if isinstance(trouble, str) else trouble
        reports = await suffer(happen, fleet, loads)
    for report in reports:
        assert report.wrong == []
        assert report.stuck == 0
        assert report.swallowed == []
        assert report.lost_slots == 0
        assert report.cancelled
        assert set(report.errors) <= errors, report.examples
        assert report.first_success is not None
    return reports


def nothing_is_gone(reports: list[Report]) -> None:
    assert all(report.acknowledged for report in reports)
    assert [report.gone for report in reports] == [0, 0]


def key_at(fleet: ClusterFleet, server: Server) -> str:
    slots = fleet._own_views()[server].slots
    return next(tag for tag in TAGS if slot_of(tag) in slots)


def keys_elsewhere(fleet: ClusterFleet, server: Server) -> list[str]:
    slots = fleet._own_views()[server].slots
    return [tag for tag in TAGS if slot_of(tag) not in slots]


def redirections(fleet: ClusterFleet) -> Counter[str]:
    """Count by kind how many the masters have sent elsewhere since they were started."""
    found: Counter[str] = Counter()
    for node in fleet.nodes:
        for name, counted in node.run("INFO", "errorstats").items():
            found[name.removeprefix("errorstat_")] += counted["count"]
    return found


def connects(fleet: ClusterFleet) -> dict[int, int]:
    """Count the connections that each server has ever taken."""
    return {
        node.port: node.run("INFO", "stats")["total_connections_received"] for node in fleet.nodes
    }


def ids(fleet: ClusterFleet) -> set[tuple[int, str]]:
    return {(port, each["id"]) for port, clients in fleet.clients().items() for each in clients}


# ---- nodes that are lost, and change their roles -------------------------------------------------


@ONE_LOOP
async def test_a_killed_master_costs_what_fails_meanwhile_and_no_more(fleet):
    await endured("kill-master", fleet, errors=LOSSES)


@ONE_LOOP
async def test_a_master_that_hangs_costs_what_fails_meanwhile_and_no_more(fleet):
    await endured("hang", fleet, errors=LOSSES)


@ONE_LOOP
async def test_an_orderly_failover_costs_no_error_and_no_write(fleet):
    nothing_is_gone(await endured("failover", fleet, errors=set()))


@ONCE
async def test_a_replica_that_dies_costs_readers_no_error(fleet):
    reports = await endured("kill-replica", fleet, errors=set(), **IN_TURN)
    nothing_is_gone(reports)


@ONCE
async def test_all_nodes_may_be_started_anew(fleet):
    await endured("restart-all", fleet, errors=LOSSES)


# ---- slots on their way --------------------------------------------------------------------------


@ONCE
async def test_slots_that_move_under_load_cost_no_error_and_no_write(fleet):
    before = redirections(fleet)
    nothing_is_gone(await endured("migrate", fleet, errors=set()))
    assert (redirections(fleet) - before).keys() >= {"ASK", "MOVED", "TRYAGAIN"}


@ONCE
async def test_slots_may_move_to_a_node_that_the_topology_does_not_list_yet(fleet):
    before = redirections(fleet)
    reports = await endured("migrate-to-newcomer", fleet, errors=set(), min_size=1)
    nothing_is_gone(reports)
    assert (redirections(fleet) - before).keys() >= {"ASK", "MOVED", "TRYAGAIN"}


async def test_hundreds_who_are_sent_elsewhere_close_no_connection_and_get_their_own(fleet, kind):
    async with make_client(kind, fleet, max_size=4, socket_timeout=30.0) as client:
        await asyncio.gather(*(lendable(node) for node in client.get_nodes()))
        blocked = key_at(fleet, fleet.master_of(FIRST))
        popping = asyncio.create_task(client.blpop(f"{blocked}list", 0))
        await eventually(lambda: client.stats().lent == 1, "it is under way")
        before = connects(fleet)
        nodes = client.nodes_manager
        primaries = client.get_primaries()

        async def ask(number: int) -> None:
            key = f"{TAGS[number % len(TAGS)]}{number}"
            if number % 50 == 0:  # what is known of all slots is wrong from now on
                nodes.slots_cache = {
                    slot: [primaries[primaries.index(now[0]) - 1]]
                    for slot, now in nodes.slots_cache.items()
                }
            assert await client.set(key, number)
            assert await client.get(key) == b"%d" % number

        sent_elsewhere = redirections(fleet)
        for first in range(0, 800, 200):
            await asyncio.gather(*map(ask, range(first, first + 200)))
        assert (redirections(fleet) - sent_elsewhere)["MOVED"] > 500
        assert await client.rpush(f"{blocked}list", "it")
        assert (await popping)[1] == b"it"
        assert connects(fleet) == before


# ---- connections that are lost -------------------------------------------------------------------


@ONCE
async def test_connections_that_servers_close_cost_no_error(fleet):
    nothing_is_gone(await endured("kill-clients", fleet, errors=set()))


@ONCE
async def test_a_full_node_costs_no_more_than_its_own_error(fleet):
    # Which is none of redis-py's classes for lost connections, other than that of a single server.
    reports = await endured("maxclients", fleet, errors={"ResponseError", "PoolTimeout"})
    nothing_is_gone(reports)
    for report in reports:
        if "ResponseError" in report.examples:
            assert "max number of clients" in str(report.examples["ResponseError"])


# ---- what is done to the client ------------------------------------------------------------------


@ONCE
async def test_a_topology_read_anew_under_load_costs_no_connection(fleet):
    async with AsyncExitStack() as stack:
        loads = []
        for seed, kind in enumerate(KINDS):
            client = await stack.enter_async_context(make_client(kind, fleet))
            loads.append(Load(client, TASKS, seed=seed, cancelled=0))  # which would cost some
            assert [await lendable(node) for node in client.get_nodes()] == [SIZE] * 6
        before, clients = connects(fleet), ids(fleet)
        for report in await suffer(TROUBLES["refresh"], fleet, loads):
            assert report.right == report.requests
            assert report.lost_slots == 0
        assert connects(fleet) == before
        assert ids(fleet) == clients


@ONE_LOOP
async def test_closing_costs_those_under_way_their_connections_and_later_ones_nothing(fleet):
    nothing_is_gone(await endured("close", fleet, errors=CLOSED))


async def test_closing_ends_pipelines_and_transactions_that_would_have_been_tried_again(
    fleet, kind, monkeypatch
):
    monkeypatch.setattr(_pipeline, "PAUSE", 0)
    retry = Retry(NoBackoff(), 50)
    tries: list[object] = []
    async with make_client(kind, fleet, max_size=1, socket_timeout=30.0, retry=retry) as client:
        initialize = client.initialize

        async def noted(*args: Any, **kwargs: Any) -> object:
            tries.append(args)
            return await initialize(*args, **kwargs)

        slow = fleet.master_of(SECOND)
        here = key_at(fleet, slow)
        with no_writes(slow):
            ending = [
                asyncio.create_task(client.pipeline(transaction).set(here, 1).execute())
                for transaction in (True, True, False, False)
            ]
            await eventually(lambda: client.stats().waiting == 3, "one is under way, three wait")
            monkeypatch.setattr(client, "initialize", noted)
            await client.aclose()
            for error in await asyncio.gather(*ending, return_exceptions=True):
                assert isinstance(error, PoolClosed)
        assert len(tries) <= len(ending)


@ONCE
async def test_size_changes_refreshes_and_closing_may_meet(fleet):
    async def all_at_once(scene: Scene) -> None:
        clients = [load.client for load in scene.loads]
        for turn in range(8):
            for client in clients:
                client.resize(max_size=2 + turn % 3, min_size=turn % 2)
                client.drain()
            refreshes = [
                asyncio.create_task(client.nodes_manager.initialize())
                for client in clients
                for _ in range(3)
            ]
            await asyncio.sleep(0)
            if turn % 3 == 2:
                await asyncio.gather(*(client.aclose() for client in clients))
            await asyncio.gather(*refreshes, return_exceptions=True)
            await asyncio.sleep(0.02)
        for client in clients:
            client.resize(max_size=SIZE, min_size=0)

    nothing_is_gone(await endured(all_at_once, fleet, errors=CLOSED))


async def test_a_node_that_leaves_keeps_no_connections_and_what_it_counted(fleet, kind):
    replica = fleet.replica_of(fleet.master_of(SECOND))
    async with make_client(kind, fleet, min_size=2) as client:
        await asyncio.gather(*(lendable(node) for node in client.get_nodes()))
        opened = client.stats().opened
        node = client.get_node(HOST, replica.port)
        replica.run("CLUSTER", "RESET", "SOFT")
        replica.run("CLUSTER", "MEET", HOST, fleet.master_of(FIRST).port)
        await asyncio.to_thread(fleet.wait_until_ok)
        await client.nodes_manager.initialize()
        assert f"{HOST}:{replica.port}" not in client.node_stats()
        await eventually(lambda: not replica.clients(), "it has no connections any more")
        await client.nodes_manager.initialize()
        assert len(client.nodes_manager.known()) == 5
        assert client.stats().opened == opened
        assert client.stats().max_size == 5 * SIZE
        # Who has found it before may use it nevertheless, as long as they like.
        for _ in range(2):
            assert await client.ping(target_nodes=node)
            assert client.stats().max_size == 6 * SIZE
            await client.nodes_manager.initialize()
            await eventually(lambda: not replica.clients(), "it has no connections any more")
            await client.nodes_manager.initialize()
            assert client.stats().max_size == 5 * SIZE
        assert await client.ping(target_nodes=node)
        await client.aclose()
        assert not replica.clients()
        # It may come back as the master of a slot, of which MOVED is the first that is heard.
        await client.nodes_manager.initialize()
        source = fleet.master_of(FIRST)
        tag = key_at(fleet, source)
        moving = slot_of(tag)
        await asyncio.to_thread(fleet.migrate, [moving], replica)
        assert await client.set(tag, "moved")
        assert client.node_stats()[f"{HOST}:{replica.port}"].size == len(replica.clients()) > 0
        with suppress(ResponseError):  # who has lost its last slot is no master any more
            await asyncio.to_thread(fleet.migrate, [moving], source)
        assert await client.get(tag) == b"moved"
        replica.run("CLUSTER", "REPLICATE", fleet._id(fleet.master_of(SECOND)))
        await asyncio.to_thread(fleet.wait_until_ok)
        await client.nodes_manager.initialize()
        assert f"{HOST}:{replica.port}" in client.node_stats()


# ---- one node is slow ----------------------------------------------------------------------------


@contextmanager
def no_writes(server: Server) -> Iterator[None]:
    """Have this one answer no command that writes meanwhile."""
    server.run("CLIENT", "PAUSE", 60_000, "WRITE")
    try:
        yield
    finally:
        server.run("CLIENT", "UNPAUSE")


async def test_who_waits_for_a_slow_node_holds_up_nobody_else(fleet, kind):
    slow = fleet.master_of(SECOND)
    here, elsewhere = key_at(fleet, slow), keys_elsewhere(fleet, slow)
    async with make_client(kind, fleet, max_size=2, timeout=30.0, socket_timeout=30.0) as client:
        with no_writes(slow):
            held_up = [
                asyncio.create_task(client.set(f"{here}{number}", number)) for number in range(200)
            ]
            for number in range(400):
                key = f"{elsewhere[number % len(elsewhere)]}{number}"
                assert await client.set(key, number)
                assert await client.get(key) == b"%d" % number
            pipe = client.pipeline()
            for key in elsewhere:
                pipe.incr(f"{key}counter")
            assert await pipe.execute() == [1] * len(elsewhere)
            assert not any(task.done() for task in held_up)
        assert await asyncio.gather(*held_up) == [True] * 200


async def test_who_waits_at_a_master_that_is_replaced_goes_on_at_the_next(fleet):
    master = fleet.master_of(THIRD)
    replica, key = fleet.replica_of(master), key_at(fleet, master)
    async with make_client(
        KINDS[0], fleet, max_size=1, timeout=60.0, socket_timeout=60.0
    ) as client:
        with no_writes(master):
            first, *others = [asyncio.create_task(client.incr(key)) for _ in range(10)]
            await eventually(lambda: client.stats().waiting == 9, "one is under way, nine wait")
            replica.run("CLUSTER", "FAILOVER", "FORCE")
            await eventually(lambda: fleet.master_of(THIRD) is replica, "it was replaced")
            await asyncio.to_thread(fleet.wait_until_ok)
            await client.nodes_manager.initialize()
            assert sorted(await asyncio.gather(*others)) == [*range(1, 10)]
            assert not first.done()
        assert await first == 10


async def test_who_waits_for_the_topology_of_a_node_that_hangs_holds_up_nobody_else(fleet, kind):
    slow = fleet.master_of(THIRD)
    here, elsewhere = key_at(fleet, slow), keys_elsewhere(fleet, slow)
    async with make_client(kind, fleet, max_size=2, timeout=30.0, socket_timeout=30.0) as client:
        nodes = client.nodes_manager
        with slow.frozen():
            nodes.startup_nodes = {f"{HOST}:{slow.port}": nodes.get_node(HOST, slow.port)}
            client._initialize = True
            asking = asyncio.create_task(client.initialize())
            held_up = [asyncio.create_task(client.get(here)) for _ in range(50)]
            for number in range(100):
                key = elsewhere[number % len(elsewhere)]
                assert await client.set(key, number)
                assert await client.get(key) == b"%d" % number
            assert not asking.done()
            assert not any(task.done() for task in held_up)
        assert await asyncio.gather(*held_up) == [None] * 50
        await asking


# ---- no connection is free -----------------------------------------------------------------------


async def test_when_all_connections_are_lent_everybody_waits_and_gets_their_own(fleet, kind):
    async with make_client(kind, fleet, max_size=2, timeout=60.0, max_in_flight=20) as client:

        async def ask(number: int) -> None:
            key, token = f"{TAGS[number % len(TAGS)]}{number}", b"token of %d" % number
            assert await client.set(key, token)
            script = "return {KEYS[1], redis.call('GET', KEYS[1])}"
            assert await client.eval(script, 1, key) == [key.encode(), token]
            pipe = client.pipeline(transaction=number % 2 == 0)
            assert await pipe.get(key).strlen(key).execute() == [token, len(token)]

        await asyncio.gather(*map(ask, range(500)))
        for clients in fleet.clients().values():
            assert len(clients) <= 2
        stats = client.stats()
        assert (stats.lent, stats.waiting, stats.timed_out) == (0, 0, 0)


async def test_a_node_sees_commands_in_the_order_in_which_they_were_asked(fleet, kind):
    async with make_client(kind, fleet, max_size=1, timeout=60.0, max_in_flight=7) as client:
        keys = [f"{key_at(fleet, master)}list" for master in fleet.masters()]
        replies = await asyncio.gather(
            *(client.rpush(key, number) for number in range(500) for key in keys)
        )
        assert replies == [number + 1 for number in range(500) for _ in keys]
        for key in keys:
            assert await client.lrange(key, 0, -1) == [b"%d" % number for number in range(500)]


async def test_who_waits_in_vain_gets_a_pool_timeout_and_nothing_else_happens(fleet, kind):
    full = fleet.master_of(FIRST)
    here, elsewhere = key_at(fleet, full), keys_elsewhere(fleet, full)
    async with make_client(kind, fleet, max_size=2, timeout=0.05, socket_timeout=30.0) as client:
        for node in client.get_nodes():
            assert await lendable(node) == 2
        # One more elsewhere: it shall be on the same connection at the end.
        keys = [f"{here}a", f"{here}b", f"{elsewhere[0]}c"]
        popping = [asyncio.create_task(client.blpop(key, 0)) for key in keys]
        await eventually(lambda: client.stats().lent == 3, "all are under way")
        before, taken = ids(fleet), connects(fleet)
        nodes = client.nodes_manager
        known = nodes._epoch, [*nodes.startup_nodes], [*nodes.nodes_cache], nodes.default_node

        both = client.pipeline().set(f"{here}key", 1).set(f"{elsewhere[0]}key", 1)
        watching = client.pipeline(transaction=True)
        tries = [
            client.get(here),
            client.eval("return 1", 1, here),
            client.mget(f"{here}1", f"{here}2"),
            client.pipeline().set(f"{here}key", 1).execute(),
            both.execute(),
            client.pipeline(transaction=True).set(f"{here}key", 1).execute(),
            watching.watch(here),
            client.execute_command("DBSIZE", target_nodes=client.get_nodes()),
        ]
        for error in await asyncio.gather(*tries, return_exceptions=True):
            assert isinstance(error, PoolTimeout)
            assert isinstance(error, MaxConnectionsError)
        assert not client._initialize
        assert known == (
            nodes._epoch,
            [*nodes.startup_nodes],
            [*nodes.nodes_cache],
            nodes.default_node,
        )
        assert ids(fleet) == before
        assert not any(task.done() for task in popping)
        for key in keys:
            fleet.master_of(slot_of(key)).run("RPUSH", key, "it")
        assert [reply[1] for reply in await asyncio.gather(*popping)] == [b"it"] * 3
        assert await client.set(here, "again")
        assert ids(fleet) == before
        assert connects(fleet) == taken


# ---- messages ------------------------------------------------------------------------------------


@ONCE
async def test_subscriptions_survive_a_failover_as_redis_pys_do(fleet):
    master = fleet.master_of(FIRST)
    tag = key_at(fleet, master)
    async with AsyncExitStack() as stack:
        clients: list[Any] = [
            await stack.enter_async_context(make_client(kind, fleet))
            for kind in (*KINDS, "redis-py")
        ]
        subscribers = []
        for client in clients:
            news = client.pubsub(ignore_subscribe_messages=True)
            await news.subscribe(f"{tag}news")
            shards = client.pubsub(ignore_subscribe_messages=True)
            await shards.ssubscribe(f"{tag}shards")
            subscribers.append((news, shards))
        await asyncio.to_thread(fleet.failover, fleet.replica_of(master))
        for client in clients:
            await client.set(tag, "who is master now?")
        heard: list[set[bytes]] = [set() for _ in clients]

        async def listen(number: int) -> None:
            news, shards = subscribers[number]
            for get in (news.get_message, shards.get_sharded_message):
                with suppress(RuntimeError):  # redis-py's, between two nodes: it is not connected
                    message = await get(timeout=0.01)
                    if message is not None and message["type"] in {"message", "smessage"}:
                        heard[number].add(message["data"])

        async with asyncio.timeout(10):
            while not all(each == {b"news", b"shards"} for each in heard):
                fleet.master_of(FIRST).run("PUBLISH", f"{tag}news", "news")
                fleet.master_of(FIRST).run("SPUBLISH", f"{tag}shards", "shards")
                await asyncio.gather(*map(listen, range(len(clients))))
        for both in subscribers:
            for each in both:
                await each.aclose()
        for client in clients[:2]:
            assert client.stats().lent == 0


# ---- loops, processes and clients that end -------------------------------------------------------


def elsewhere(client: Client, key: str) -> object:
    """Use a client in a thread of its own, with an event loop of its own."""
    found: list[object] = []

    async def ask() -> object:
        return await client.get(key)

    def run() -> None:
        try:
            found.append(asyncio.run(ask()))
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found.pop()


async def test_another_event_loop_is_refused_and_harms_nobody(fleet, kind):
    async with make_client(kind, fleet, socket_timeout=30.0) as client:
        await client.set(TAGS[0], "mine")
        popping = asyncio.create_task(client.blpop(f"{TAGS[0]}list", 0))
        await eventually(lambda: client.stats().lent == 1, "it is under way")
        before = ids(fleet)
        assert isinstance(await asyncio.to_thread(elsewhere, client, TAGS[0]), WrongLoop)
        assert await client.get(TAGS[0]) == b"mine"
        await client.rpush(f"{TAGS[0]}list", "it")
        assert (await popping)[1] == b"it"
        assert ids(fleet) >= before


async def _all_at_once(client: Any, value: int) -> None:
    client._initialize = True  # so that they meet at its locks
    await asyncio.gather(
        *(client.execute_command("SET", tag, value, target_nodes=None) for tag in TAGS)
    )


@pytest.mark.filterwarnings(UVLOOP_S)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.usefixtures("_troubled")  # started before sockets are counted
def test_one_client_serves_run_after_run(request, kind, loop):
    client = make_client(kind, request.getfixturevalue("_troubled"))
    for number in range(3):
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(_all_at_once(client, number))
            assert runner.run(client.get(TAGS[0])) == b"%d" % number
            if number == 2:
                runner.run(client.aclose())


async def test_a_child_process_makes_connections_of_its_own(fleet, kind):
    async with make_client(kind, fleet, socket_timeout=30.0) as client:
        await client.set(TAGS[0], "mine")
        popping = asyncio.create_task(client.blpop(f"{TAGS[0]}list", 0))
        await eventually(lambda: client.stats().lent == 1, "it is under way")
        before = ids(fleet)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the parent has open, and has threads
            if not (child := os.fork()):
                os._exit(elsewhere(client, TAGS[0]) != b"mine")
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        assert ids(fleet) == before
        await client.rpush(f"{TAGS[0]}list", "it")
        assert (await popping)[1] == b"it"


async def test_a_client_that_is_dropped_lets_what_is_under_way_end_and_is_collected(fleet, kind):
    client = await make_client(kind, fleet, socket_timeout=30.0)
    gone = weakref.ref(client)
    popping = asyncio.create_task(client.blpop(f"{TAGS[0]}list", 0))
    await eventually(lambda: gone().stats().lent, "it is under way")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del client
        gc.collect()
        fleet.master_of(slot_of(TAGS[0])).run("RPUSH", f"{TAGS[0]}list", "it")
        assert (await popping)[1] == b"it"
        del popping
        gc.collect()
    assert gone() is None
    assert any("Unclosed RedisCluster client" in str(warning.message) for warning in warned)


# ---- errors --------------------------------------------------------------------------------------


async def test_an_error_of_opening_is_told_as_redis_py_tells_it(fleet, kind):
    client = make_client(kind, fleet, socket_timeout=30.0)
    node = next(iter(client.nodes_manager.startup_nodes.values()))

    class Reset(node.connection_class):
        async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002
            raise RedisConnectionError("while writing") from ConnectionResetError()

    node.connection_class = Reset
    with pytest.raises(RedisConnectionError, match="while writing"):
        await node.ask(("GET", "key"), {})
    await client.aclose()


@pytest.mark.parametrize("failure", [RedisConnectionError, PoolClosed])
async def test_a_cancelled_pipeline_is_cancelled_though_its_connection_fails(
    fleet, kind, monkeypatch, failure
):
    async def fail(_commands: object) -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:  # which before Python 3.12 wait_for() does, too
            raise failure from None
        return True

    async with make_client(kind, fleet) as client:
        for node in client.get_nodes():
            monkeypatch.setattr(node, "execute_pipeline", fail)
        executing = asyncio.create_task(client.pipeline().set(TAGS[0], 1).execute())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        executing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await executing
