"""Messages of a cluster as redis-py's: subscriptions on any node, shards' channels, keyspace events."""

# ruff: noqa: PLW0108 - calls that stand in a list look alike

import asyncio
import contextlib
from typing import Any

import pytest
from cluster_walk import Make, Walk, agree, names, outcome, outcomes
from fleets import HOST
from redis.asyncio.cluster import ClusterNode
from servers import eventually, version
from test_walk_through_messages import heard

walk = Walk()
HOW = {
    "RESP2": ({"protocol": 2},),
    "RESP3": ({"protocol": 3},),
    "decoded": ({"decode_responses": True},),
}


@pytest.mark.parametrize("step", walk.steps)
async def test_messages_come_as_with_redis_pys_client_of_a_cluster(step, cluster_fleet):
    await agree(step, cluster_fleet)


@walk.with_each(HOW)
async def of_channels(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    told: list[Any] = []
    async with cluster.pubsub() as pubsub:
        told += [pubsub.subscribed, pubsub.get_pubsub_node(), pubsub.get_redis_connection()]
        await pubsub.subscribe("news", "more")
        await pubsub.psubscribe("n*")
        told += [await heard(pubsub, 3), names([pubsub.get_pubsub_node()])]
        told += [await cluster.publish("news", "hello"), await heard(pubsub, 2)]
        told += await outcomes(
            lambda: cluster.pubsub_channels(target_nodes="all"),
            lambda: cluster.pubsub_numsub("news", "none", target_nodes="all"),
            lambda: cluster.pubsub_numpat(target_nodes="all"),
            lambda: cluster.pubsub_channels(),
        )
        await pubsub.ping("are you there")
        told += [await heard(pubsub, 1), await pubsub.get_message(timeout=0.001)]
        await pubsub.unsubscribe("news")
        await pubsub.punsubscribe()
        told += [await heard(pubsub, 2), pubsub.subscribed]
        await pubsub.aclose()
        told += [pubsub.subscribed, pubsub.get_redis_connection()]
        await pubsub.subscribe("again")
        told.append(await heard(pubsub, 1))
    return told, await cluster.set("key", 1)


@walk.step
async def of_a_chosen_node(make: Make):
    cluster = await make()
    told = []
    for node in (cluster.get_primaries()[1], cluster.get_replicas()[0]):
        for chosen in ({"node": node}, {"host": node.host, "port": node.port}):
            async with cluster.pubsub(**chosen, ignore_subscribe_messages=True) as pubsub:
                told += names([pubsub.get_pubsub_node()])
                await pubsub.subscribe("news")
                await eventually(lambda n=node: subscribers(make, n), "it is there")
                told.append(await cluster.publish("news", "hello"))
                told.append(await heard(pubsub, 1))
    pubsub = cluster.pubsub()
    return told, await outcomes(
        lambda: pubsub.set_pubsub_node(cluster, host=HOST),
        lambda: pubsub.set_pubsub_node(cluster, port=1),
        lambda: pubsub.set_pubsub_node(cluster, host=HOST, port=1),
        lambda: pubsub.set_pubsub_node(cluster, ClusterNode(HOST, 1)),
        pubsub.get_message,
        pubsub.get_sharded_message,
        pubsub.unsubscribe,
        pubsub.sunsubscribe,
    )


def subscribers(make: Make, node: Any) -> int:
    return make.fleet.server_at(node.port).run("PUBSUB", "NUMSUB", "news")[1]


@walk.with_each(HOW)
async def to_handlers(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    told: list[Any] = []

    async def patiently(message: Any) -> None:
        await asyncio.sleep(0)
        told.append(("patiently", message))

    async with cluster.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(news=told.append)
        await pubsub.psubscribe(**{"new*": patiently})
        await cluster.publish("news", "hello")
        async with asyncio.timeout(10):
            while len(told) < 2:
                assert await pubsub.get_message(timeout=5) is None
        running = asyncio.create_task(pubsub.run(poll_timeout=0.01))
        await cluster.publish("news", "run")
        await eventually(lambda: len(told) == 4, "both heard of it")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await pubsub.subscribe("numbers")
        for number in range(20):
            await cluster.publish("numbers", number)
        async with asyncio.timeout(10):
            async for message in pubsub.listen():
                told.append(message["data"])
                if len(told) == 24:
                    break
    return told


@walk.with_each(HOW)
async def of_shards(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    told: list[Any] = []
    channels = [f"channel{number}" for number in range(6)]
    async with cluster.pubsub() as pubsub:
        if version() < (7,):
            told.append(await outcome(lambda: pubsub.ssubscribe("channel")))
            return told, await outcome(lambda: sharded(pubsub, 1))
        handled: list[Any] = []
        await pubsub.ssubscribe(*channels)
        await pubsub.ssubscribe(handled=handled.append)
        told += [await sharded(pubsub, 7), pubsub.subscribed, len(pubsub.node_pubsub_mapping)]
        told += [await cluster.spublish(channel, f"to {channel}") for channel in channels]
        told.append(await sharded(pubsub, 6))
        await cluster.spublish("handled", "hello")
        async with asyncio.timeout(10):
            while not handled:
                await pubsub.get_sharded_message(timeout=0.01)
        told += handled
        node = cluster.get_node_from_key("channel0")
        await cluster.spublish("channel0", "to the chosen")
        told.append(await pubsub.get_sharded_message(timeout=5, target_node=node))
        told.append(await cluster.pubsub_shardchannels(target_nodes=node))
        told.append(await cluster.pubsub_shardnumsub("channel0", target_nodes=node))
        await pubsub.sunsubscribe(*channels[:3])
        told.append(await sharded(pubsub, 3))
        await pubsub.sunsubscribe()
        told.append(await sharded(pubsub, 4))
        told += [pubsub.subscribed, len(pubsub.node_pubsub_mapping)]
        told.append(await pubsub.get_sharded_message(timeout=0.001))
        await pubsub.ssubscribe("again")
        told.append(await sharded(pubsub, 1))
    return told, await cluster.set("key", 1)


async def sharded(pubsub: Any, number: int) -> list[Any]:
    """Wait for so many messages of shards, which come in any order."""
    messages: list[Any] = []
    async with asyncio.timeout(10):
        while len(messages) < number:
            if (message := await pubsub.get_sharded_message(timeout=0.005)) is not None:
                messages.append(message)
    return sorted(messages, key=str)


@walk.with_each(HOW)
async def of_keys(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    masters = make.fleet.nodes[:3]
    for master in masters:
        master.run("CONFIG", "SET", "notify-keyspace-events", "KEA")
    told: list[Any] = []
    handled: list[Any] = []
    try:
        async with cluster.keyspace_notifications(key_prefix="user:") as events:
            await events.subscribe_keyspace("user:*")
            await events.subscribe_keyevent("del", handler=handled.append)
            told.append(events.subscribed)
            for key in ("user:1", "user:2", "user:3", "user:4"):
                await cluster.set(key, "x")
                event = None
                async with asyncio.timeout(10):
                    while event is None:
                        event = await events.get_message(timeout=0.01)
                told.append((event.key, event.event_type, event.database))
            await cluster.delete("user:1")
            async with asyncio.timeout(10):
                while not handled:
                    await events.get_message(timeout=0.01)
            told += [(event.key, event.event_type) for event in handled]
            await events.refresh_subscriptions()
            told.append([*events._subscribed_patterns, *events._subscribed_channels])
            await events.unsubscribe(*events._subscribed_patterns, *events._subscribed_channels)
            told.append(events.subscribed)
        told += [events.subscribed, await events.get_message()]
    finally:
        for master in masters:
            master.run("CONFIG", "SET", "notify-keyspace-events", "")
    return told, await cluster.get("user:2")
