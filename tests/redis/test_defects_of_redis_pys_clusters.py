"""What redis-py's own client of a cluster gets wrong and ours gets right: one test each, run on both.

They are expected to fail on redis-py's. If redis-py mends one, that is an error here, so that the
guide can be mended too.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.exceptions
from cluster_walk import OURS, Make
from fleets import ClusterFleet, slot_of
from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from servers import Server, eventually


def all_kinds(raises: Any = AssertionError) -> Any:
    """Run the test with redis-py's client, with which it fails in this way, and with each of ours."""
    failing = pytest.mark.xfail(strict=True, raises=raises, reason="a defect of redis-py's")
    theirs = pytest.param(RedisCluster, marks=failing, id="redis-py")
    ours = [pytest.param(kind, id=kind.__name__) for kind in OURS]
    return pytest.mark.parametrize("kind", [theirs, *ours])


@contextlib.asynccontextmanager
async def cluster_of(
    kind: type[RedisCluster], fleet: ClusterFleet, **keywords: Any
) -> AsyncIterator[RedisCluster]:
    make = Make(kind, fleet)
    try:
        yield make(**keywords)
    finally:
        await make.close()


def refusals(fleet: ClusterFleet) -> int:
    """How often a command came to a node that has not its slot."""
    return sum(
        node.run("INFO", "errorstats").get("errorstat_MOVED", {"count": 0})["count"]
        for node in fleet.nodes
    )


@all_kinds()
async def test_the_first_commands_go_to_the_nodes_that_have_their_keys(kind, cluster_fleet):
    before = refusals(cluster_fleet)
    async with cluster_of(kind, cluster_fleet) as cluster:
        for number in range(20):  # each time it does not know the cluster
            await cluster.set(str(number), 1)
            await cluster.aclose()
    assert refusals(cluster_fleet) == before


@all_kinds(redis.exceptions.ClusterError)
async def test_a_moved_slot_is_found_if_the_topology_is_to_be_read_each_time(kind, cluster_fleet):
    async with cluster_of(kind, cluster_fleet, reinitialize_steps=1) as cluster:
        await cluster.initialize()
        wrong = next(n for n in cluster.get_primaries() if n != cluster.get_node_from_key("a"))
        cluster.nodes_manager.slots_cache[slot_of("a")] = [wrong]
        assert await cluster.set("a", 1)


@all_kinds(TypeError)
async def test_a_transaction_gives_what_callbacks_make_of_replies(kind, cluster_fleet):
    async with cluster_of(kind, cluster_fleet, protocol=2) as cluster:
        await cluster.hset("hash", "a", "1")
        async with cluster.pipeline(transaction=True) as pipe:
            assert await pipe.hgetall("hash").execute() == [{b"a": b"1"}]


@all_kinds(RuntimeError)
async def test_a_transaction_has_commands_whose_keys_only_the_server_knows(kind, cluster_fleet):
    async with cluster_of(kind, cluster_fleet) as cluster:
        await cluster.xadd("stream", {"a": 1}, id="1-1")
        async with cluster.pipeline(transaction=True) as pipe:
            ((stream,),) = await pipe.xread({"stream": 0}).execute()
        assert stream[0] == b"stream"


@all_kinds()
async def test_commands_wait_for_a_connection(kind, cluster_fleet):
    async with cluster_of(kind, cluster_fleet, max_connections=2) as cluster:
        await cluster.initialize()
        told = await asyncio.gather(
            *(cluster.set(str(number), 1) for number in range(50)), return_exceptions=True
        )
        assert told == [True] * 50


@all_kinds()
async def test_what_is_under_way_is_not_cut_when_another_pipeline_finds_no_connection(
    kind, cluster_fleet
):
    retry = Retry(NoBackoff(), 1)
    async with cluster_of(kind, cluster_fleet, max_connections=2, retry=retry) as cluster:
        await cluster.initialize()
        server = cluster_fleet.master_of("{a}")
        waiting = [asyncio.create_task(cluster.blpop([f"{{a}}{n}"], timeout=10)) for n in (1, 2)]
        await eventually(lambda: len(blocked(server)) == 2, "they wait")
        before = blocked(server)
        pipe = asyncio.create_task(cluster.pipeline().get("{a}").execute())
        await asyncio.wait([pipe], timeout=0.1)
        after = blocked(server)
        server.run("RPUSH", "{a}1", "item")
        server.run("RPUSH", "{a}2", "item")
        await asyncio.gather(*waiting, pipe, return_exceptions=True)
        assert after == before


def blocked(server: Server) -> list[str]:
    return sorted(client["id"] for client in server.clients() if "b" in client["flags"])


@all_kinds()
async def test_connections_outlive_that_the_topology_is_read_anew(kind, cluster_fleet):
    async with cluster_of(kind, cluster_fleet) as cluster:
        primaries = (await cluster.initialize()).get_primaries()
        before = [await cluster.client_id(target_nodes=node) for node in primaries]
        await cluster.nodes_manager.initialize()
        assert [await cluster.client_id(target_nodes=node) for node in primaries] == before


@all_kinds()
async def test_a_client_that_is_to_begin_anew_can_be_closed(kind, cluster_fleet):
    async with cluster_of(kind, cluster_fleet) as cluster:
        await cluster.ping(target_nodes="primaries")
        cluster._initialize = True  # as after an error of a connection
        await cluster.aclose()
        await asyncio.sleep(0)
        assert not [c for node in cluster.get_nodes() for c in node._connections if c.is_connected]
