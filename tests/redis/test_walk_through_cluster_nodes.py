"""The nodes of a cluster as redis-py's: how they are found, told and used by hand."""

# ruff: noqa: PLW0108 - calls that stand in a list look alike

import asyncio
from typing import Any

import pytest
import redis.exceptions
from cluster_walk import KINDS, Make, Walk, agree, names, outcome, outcomes
from fleets import HOST
from metrics import Telemetry
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from servers import eventually
from walk import ask

walk = Walk()


@pytest.mark.parametrize("step", walk.steps)
async def test_nodes_are_what_they_are_in_redis_pys_client_of_a_cluster(step, cluster_fleet):
    await agree(step, cluster_fleet)


@walk.step
async def found(make: Make):
    cluster = await make()
    first = make.fleet.nodes[0]
    told = [
        names(cluster.get_nodes()),
        names(cluster.get_primaries()),
        names(cluster.get_replicas()),
        cluster.get_random_node() in cluster.get_nodes(),
        cluster.get_random_primary_node() in cluster.get_primaries(),
        names([cluster.get_node(HOST, first.port), cluster.get_node("localhost", first.port)]),
        names([cluster.get_node(node_name=f"{HOST}:{first.port}"), cluster.get_default_node()]),
        names([cluster.get_node_from_key(key) for key in ("a", "b", "c", "d")]),
        names([cluster.get_node_from_key(key, replica=True) for key in ("a", "b", "c", "d")]),
        names(await cluster.get_nodes_from_slot("GET", "key")),
        names(cluster.nodes_manager.get_node_from_slot(slot) for slot in (0, 6000, 16383)),
        [cluster.keyslot(key) for key in ("a", b"b", "{a}c", 5)],
    ]
    other = cluster.get_primaries()[1]
    cluster.set_default_node(other)
    told += names([cluster.get_default_node()])
    cluster.replace_default_node(cluster.get_replicas()[0])
    told += names([cluster.get_default_node()])
    cluster.replace_default_node()
    told.append(cluster.get_default_node() in cluster.get_primaries())
    told.append(await cluster.ping())
    return told, await outcomes(
        lambda: cluster.set_default_node(None),
        lambda: cluster.set_default_node(ClusterNode(HOST, 1)),
        lambda: cluster.get_node(),
        lambda: cluster.get_node(HOST, 1),
        lambda: cluster.get_node(node_name="nonsense"),
        lambda: cluster.get_node(host=HOST),
        lambda: cluster.nodes_manager.get_node_from_slot(16384),
        lambda: cluster.get_nodes_from_slot("GET"),
        lambda: cluster.get_special_nodes(),
        lambda: cluster.get_node_from_key(None),
    )


@walk.step
async def equal(make: Make):
    one, other = await make(), await make()
    node = one.get_default_node()
    plain = ClusterNode(node.host, node.port)
    same = other.get_node(node_name=node.name)
    return [
        [node == plain, plain == node, node == same, node is same, node != one.get_nodes()[1]],
        [hash(node) == hash(plain), len({node, plain, same}), node == node.name],
        [repr(node), str(node), node.name, node.host, node.port, node.server_type],
        [isinstance(node, ClusterNode), node in one.get_nodes(), node in other.get_nodes()],
    ]


@walk.step
async def used_by_hand(make: Make):
    cluster = await make(decode_responses=True, max_connections=2)
    node = cluster.get_node_from_key("key")
    told = await outcomes(
        lambda: node.execute_command("SET", "key", "text"),
        lambda: node.execute_command("GET", "key"),
        lambda: node.execute_command("LPUSH", "key", 1),
        lambda: node.execute_command("NONSENSE"),
        lambda: node.execute_command("HGETALL", "none"),
        lambda: node.execute_command("GET", "key", keys=["key"]),
        lambda: node.execute_command("ECHO", "word", NEVER_DECODE=True),
        lambda: node.execute_command("LPUSH", "key", 1, EMPTY_RESPONSE="empty"),
    )
    conn = node.acquire_connection()
    told += [await ask(conn, "ECHO", "one")]
    await conn.send_command("HSET", "{key}hash", "a", 1)
    told.append(await node.parse_response(conn, "HSET"))
    await conn.send_command("HGETALL", "{key}hash")
    told.append(await node.parse_response(conn, "HGETALL"))
    await conn.send_command("LPUSH", "key", 1)
    told.append(await outcome(lambda: node.parse_response(conn, "LPUSH")))
    other = node.acquire_connection()
    told.append(await ask(other, "ECHO", "two"))
    with pytest.raises(redis.exceptions.MaxConnectionsError):
        node.acquire_connection()
    with pytest.raises(redis.exceptions.MaxConnectionsError):
        cluster.get_node_from_key("key").acquire_connection()
    node.release(conn)
    node.release(other)
    again = node.acquire_connection()
    told.append(again in (conn, other))
    node.release(again)
    told += [node.get_encoder().encode("é"), node.get_encoder().decode(b"x")]
    told.append([node.connection_kwargs[key] for key in ("host", "port", "decode_responses")])
    return told


@walk.step
async def pipelined_by_hand(make: Make):
    cluster = await make()
    node = cluster.get_node_from_key("key")
    commands = [("SET", "key", 1), ("INCR", "key"), ("GET", "key")]
    async with cluster.pipeline() as pipe:
        for command in commands:
            pipe.execute_command(*command)
        queue = pipe._execution_strategy._command_queue
        told: list[Any] = [await node.execute_pipeline(queue), [one.result for one in queue]]
        told.append(repr(queue[0]))
    async with cluster.pipeline() as pipe:
        pipe.set("key", 1).lpush("key", 1)
        queue = pipe._execution_strategy._command_queue
        told.append(await node.execute_pipeline(queue))
        told.append([str(one.result) for one in queue])
    return told


@walk.step
async def disconnected(make: Make):
    cluster = await make()
    node = cluster.get_node_from_key("key")
    server = make.fleet.server_at(node.port)
    told: list[Any] = []
    for use in (
        node.disconnect,
        node.update_active_connections_for_reconnect,
        node.disconnect_free_connections,
    ):
        told.append(await cluster.set("key", 1))
        told.append(await outcome(use))
        if use == node.disconnect:
            await eventually(lambda: not make.fleet.clients()[node.port], "none is left")
        told.append(await cluster.get("key"))
    conn = node.acquire_connection()
    told.append(await ask(conn, "ECHO", "word"))
    await conn.disconnect()
    node.release(conn)
    told.append(await cluster.get("key"))
    server.run("CLIENT", "KILL", "TYPE", "normal")
    told.append(await cluster.get("key"))
    return told


# ---- redis-py's telemetry, and whoever stands round its methods ----------------------------------


async def used(cluster: RedisCluster) -> list[Any]:
    """Use a client in each way that is counted."""
    told = [
        await cluster.set("key", "text"),
        await cluster.get("key"),
        await cluster.get("key"),
        await outcome(lambda: cluster.lpush("key", 1)),
        await cluster.eval("return 1", 1, "key"),
        await cluster.exists("a", "b"),
        await cluster.ping(target_nodes="primaries"),
        await cluster.pipeline().get("key").incr("number").execute(),
    ]
    async with cluster.pipeline(transaction=True) as pipe:
        await pipe.watch("key")
        told.append(await pipe.get("key"))
        pipe.multi()
        pipe.set("key", 1)
        told.append(await pipe.execute())
    return told


async def test_each_command_is_recorded_once_in_redis_pys_telemetry(cluster_fleet):
    async def step(make: Make) -> Any:
        cluster = await make()
        telemetry = Telemetry()
        try:
            told = await used(cluster)
            return told, sorted(telemetry.operations().items())
        finally:
            telemetry.end()

    await agree(step, cluster_fleet)


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.__name__)
async def test_commands_are_counted_once_each(cluster_fleet, kind):
    cluster = await kind(HOST, cluster_fleet.nodes[0].port)
    telemetry = Telemetry()
    try:
        await asyncio.gather(*(cluster.set(str(number), 1) for number in range(20)))
        await cluster.get("1")
        assert telemetry.operations() == {"SET": 20, "GET": 1}
    finally:
        telemetry.end()
    await cluster.aclose()


async def test_who_stands_round_redis_pys_execute_command_sees_each_command_once(
    cluster_fleet, monkeypatch
):
    execute, seen = RedisCluster.execute_command, []

    async def traced(self: RedisCluster, *args: Any, **options: Any) -> Any:
        seen.append(args)
        return await execute(self, *args, **options)

    async def step(make: Make) -> Any:
        cluster = await make()
        await cluster.set("before", 1)
        with monkeypatch.context() as patch:
            patch.setattr(RedisCluster, "execute_command", traced)
            told = await used(cluster)
            told.append(await (await make()).get("key"))
        await cluster.set("after", 1)
        found = [*seen]
        seen.clear()
        return told, found

    await agree(step, cluster_fleet)
