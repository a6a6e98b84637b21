"""Pipelines and transactions of a cluster as redis-py's."""

# ruff: noqa: PLW0108 - calls that stand in a list look alike

import asyncio
from typing import Any

import pytest
from cluster_walk import Make, Walk, agree, outcome, outcomes
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import PIPELINE_BLOCKED_COMMANDS
from redis.exceptions import WatchError

walk, once = Walk(), Walk()
HOW = {
    "RESP2": ({"protocol": 2},),
    "RESP3": ({"protocol": 3},),
    "decoded": ({"decode_responses": True},),
}


@pytest.mark.asyncio(loop_factories=["asyncio"])  # the loop has no part in it
@pytest.mark.parametrize("step", once.steps)
async def test_what_is_refused_is_refused_as_by_redis_pys_client_of_a_cluster(step, cluster_fleet):
    await agree(step, cluster_fleet)


@pytest.mark.parametrize("step", walk.steps)
async def test_pipelines_do_what_they_do_in_redis_pys_client_of_a_cluster(step, cluster_fleet):
    await agree(step, cluster_fleet)


# ---- commands that are sent together -------------------------------------------------------------


@walk.with_each(HOW)
async def together(make: Make, keywords: dict[str, Any]):
    cluster = make(**keywords)
    told: list[Any] = []
    async with cluster.pipeline() as pipe:
        assert pipe.set("a", 1) is pipe
        pipe.incr("a").hset("hash", "f", 1).hgetall("hash").get("none").zadd("z", {"m": 1.5})
        pipe.zrange("z", 0, -1, withscores=True).exists("a").exists("none").delete("none")
        told += [len(pipe), bool(pipe), await pipe.execute(), len(pipe), await pipe.execute()]
        pipe.set("b", "abc").incr("b").get("b")
        told.append(await pipe.execute(raise_on_error=False))
        pipe.set("b", "abc").incr("b").lpush("b", 1)
        told += [await outcome(pipe.execute), len(pipe), await pipe.execute()]
        pipe.get("a")
        await pipe.reset()
        told += [len(pipe), await pipe.execute()]
        pipe.get("a")
        told.append(await pipe.execute(allow_redirections=False))
        pipe.mset_nonatomic({"a": 2, "b": 3, "{a}1": 4}).get("b").delete("a", "b", "{a}1")
        told.append(await pipe.execute())
        pipe.get("a")
    told.append(len(pipe))
    pipe = await cluster.pipeline()
    for number in range(300):
        pipe.set(f"key{number}", number)
    told.append(await pipe.execute())
    told.append(await cluster.pipeline(transaction=False).get("key7").execute())
    return told


@once.with_each(HOW)
async def together_but_not_so(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    pipe = cluster.pipeline()
    node, other = cluster.get_primaries()[:2]
    told = await outcomes(
        lambda: cluster.pipeline(shard_hint="hint"),
        lambda: pipe.multi(),
        lambda: pipe.watch("a"),
        lambda: pipe.unwatch(),
        lambda: pipe.discard(),
        lambda: pipe.unlink("a", "b"),
        lambda: pipe.nonsense,
    )
    told += await outcomes(
        *(
            lambda name=name: getattr(pipe, name.replace(" ", "_").lower())()
            for name in PIPELINE_BLOCKED_COMMANDS
            if name not in {"MGET NONATOMIC", "MSET NONATOMIC"}
        )
    )
    for queue in (
        lambda: pipe.execute_command("MSET", "a", 1, "b", 2),
        lambda: pipe.execute_command("NONSENSE"),
        lambda: pipe.execute_command("NONSENSE", "key"),
        lambda: pipe.execute_command("ECHO", "word"),
        lambda: pipe.execute_command("ECHO", "word", target_nodes=node),
        lambda: pipe.execute_command("ECHO", "word", target_nodes=[node, other]),
        lambda: pipe.execute_command("ECHO", "word", target_nodes="primaries"),
        lambda: pipe.execute_command("ECHO", "word", target_nodes="nonsense"),
        lambda: pipe.execute_command("PING", target_nodes="default-node"),
        lambda: pipe.execute_command("PING"),
        lambda: pipe.execute_command("DBSIZE", target_nodes=node),
        lambda: pipe.execute_command("GET"),
        lambda: pipe.execute_command("GET", object),
        lambda: pipe.execute_command("MSET", "{a}1", 1, "{a}2", 2),
        lambda: pipe.eval("return {KEYS[1], ARGV[1]}", 1, "key", "word"),
        lambda: pipe.eval("return 1", 0),
        lambda: pipe.eval("return 1", 2, "a", "b"),
        lambda: pipe.fcall("nonsense", 1, "a"),
        lambda: pipe.xread({"{s}1": 0, "{s}2": 0}),
        lambda: pipe.himport_set("key", "fields", [1]),
        lambda: pipe.bitfield("bits").set("u8", 0, 255).get("u8", 0),
        lambda: pipe.sort("list", store="{list}2"),
        lambda: pipe.object("encoding", "key"),
        lambda: pipe.publish("channel", "word"),
    ):  # fmt: skip
        told.append(await outcome(lambda queue=queue: queue() and None))
        told.append(await outcome(pipe.execute))
    pipe.set("a", 1).execute_command("ECHO", "word", target_nodes=other).get("a")
    told.append(await pipe.execute())
    return told


# ---- transactions --------------------------------------------------------------------------------


@walk.with_each(HOW)
async def in_a_transaction(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    told: list[Any] = []
    async with cluster.pipeline(transaction=True) as pipe:
        pipe.set("{a}1", 1).incr("{a}1").hset("{a}h", "f", 1).hkeys("{a}h").ttl("{a}none")
        told += [len(pipe), bool(pipe), await pipe.execute(), len(pipe), await pipe.execute()]
        pipe.set("{a}2", "abc").incr("{a}2").get("{a}2")
        told.append(await outcome(lambda: pipe.execute(raise_on_error=False)))
        pipe.set("{a}2", "abc").incr("{a}2").get("{a}2")
        told += [await outcome(pipe.execute), len(pipe), await pipe.execute()]
        pipe.get("{a}1")
        await pipe.discard()
        told += [len(pipe), await pipe.execute()]
        pipe.set("a", 1).set("b", 1)
        told += [await outcome(pipe.execute), len(pipe)]
        pipe.get("a")
        told.append(await pipe.execute(allow_redirections=False))
        told.append(await outcome(lambda: pipe.execute_command("MSET", "a", 1, "b", 2) and None))
        told.append(await outcome(pipe.execute))
        told.append(await outcome(lambda: pipe.mset_nonatomic({"a": 1})))
        told.append(await outcome(lambda: pipe.unlink("{a}1", "{a}2")))
        told[-1] = told[-1] is pipe
        told.append(await outcome(pipe.execute))
        pipe.eval("return redis.call('incr', KEYS[1])", 1, "{a}n").execute_command("GET", "{a}n")
        told.append(await pipe.execute())
        pipe.get("a")
    told.append(len(pipe))
    return told


@once.with_each(HOW)
async def that_is_refused(make: Make, keywords: dict[str, Any]):
    cluster = await make(retry=Retry(NoBackoff(), 0), **keywords)
    told = []
    for queue in (
        lambda pipe: pipe.execute_command("GET"),
        lambda pipe: pipe.execute_command("GET", "a", "b"),
        lambda pipe: pipe.set("a", 1).execute_command("SET", "a"),
        lambda pipe: pipe.execute_command("PING"),
        lambda pipe: pipe.execute_command("ECHO", "word"),
        lambda pipe: pipe.execute_command("GET", object),
        lambda pipe: pipe.ping(),
        lambda pipe: pipe.eval("return 1", 0).get("a"),
        lambda pipe: pipe.eval("return 1", 2, "a", "b"),
        lambda pipe: pipe.set("a", 1).lpush("a", 2).get("a"),
    ):
        pipe = cluster.pipeline(transaction=True)
        told.append(await outcome(lambda queue=queue, pipe=pipe: queue(pipe) and None))
        told.append(await outcome(pipe.execute))
        told.append(len(pipe))
    return told[:-3], [type(told[-2]), await cluster.get("a")]


@walk.with_each(HOW)
async def that_watches(make: Make, keywords: dict[str, Any]):
    cluster = await make(**keywords)
    told: list[Any] = []
    for interfere in (True, False):
        async with cluster.pipeline(transaction=True) as pipe:
            told.append(await pipe.watch("key", "{key}other"))
            told.append(await pipe.get("key"))
            if interfere:
                await cluster.set("key", 1)
            pipe.multi()
            pipe.incr("key")
            told.append(await outcome(pipe.execute))
    async with cluster.pipeline(transaction=True) as pipe:
        told += await outcomes(
            lambda: pipe.unwatch(),
            lambda: pipe.watch("key"),
            lambda: pipe.get("key"),
            lambda: pipe.set("key", 5),
            lambda: pipe.get("elsewhere"),
            lambda: pipe.watch("elsewhere"),
            lambda: pipe.lpush("key", 1),
            lambda: pipe.execute_command("GET"),
            lambda: pipe.unwatch(),
            lambda: pipe.watch("key"),
            lambda: pipe.multi(),
            lambda: pipe.multi(),
            lambda: pipe.watch("key"),
            lambda: pipe.execute(),
            lambda: pipe.watch("key"),
            lambda: pipe.discard(),
            lambda: pipe.execute(),
            lambda: len(pipe.set("key", 1)),
            lambda: pipe.multi(),
            lambda: pipe.reset(),
            lambda: pipe.watch("a", "b"),
            lambda: pipe.watch(),
            lambda: pipe.reset(),
        )
        await pipe.watch("key")  # and leaves it so
    return told, await cluster.set("key", 7), await cluster.get("key")


@walk.step
async def of_a_function_until_nobody_interferes(make: Make):
    cluster = await make()
    attempts = []

    async def double(pipe: Any) -> str:
        attempts.append(int(await pipe.get("key") or 1))
        if len(attempts) == 1:
            await cluster.set("key", 10)
        pipe.multi()
        pipe.set("key", 2 * attempts[-1])
        return "value"

    told = [await cluster.transaction(double, "key"), await cluster.get("key")]
    told.append(await cluster.transaction(double, "key", value_from_callable=True))

    async def fail(_: Any) -> None:
        raise WatchError if len(attempts) < 0 else ZeroDivisionError

    told.append(await outcome(lambda: cluster.transaction(fail, "key")))
    told.append(await outcome(lambda: cluster.transaction(double, "a", "b")))
    assert attempts == [1, 10, 20]
    return told


@walk.step
async def of_many_tasks(make: Make):
    cluster = await make()

    async def work(key: str) -> list[Any]:
        told = []
        async with cluster.pipeline(transaction=True) as pipe:
            for _ in range(3):
                await pipe.watch(key)
                told.append(await pipe.get(key))
                pipe.multi()
                pipe.incr(key)
                told.append(await pipe.execute())
        told.append(await cluster.pipeline().get(key).incr(f"{key}other").execute())
        return told

    return await asyncio.gather(*map(work, map(str, range(8))))
