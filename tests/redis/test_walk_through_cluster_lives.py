"""RedisCluster as redis-py's: how it is entered, closed, used again and dropped."""

import asyncio
import contextlib
import gc
import inspect
import warnings
from typing import Any

import pytest
from cluster_walk import Make, Walk, agree, names, outcome
from fleets import HOST
from redis.asyncio import RedisCluster

walk = Walk()


@pytest.mark.parametrize("step", walk.steps)
async def test_clients_of_clusters_are_used_and_closed_as_redis_pys(step, cluster_fleet):
    await agree(step, cluster_fleet)


@walk.step
async def entered_awaited_and_closed(make: Make):
    cluster = make()
    told: list[Any] = [cluster.get_nodes(), cluster.get_default_node(), bool(cluster)]
    await cluster.aclose()
    assert await cluster is cluster
    assert await cluster.initialize() is cluster
    told += [cluster.get_default_node() is None, await cluster.set("key", 1)]
    for _ in range(2):
        await cluster.aclose()
    told += [cluster.get_default_node(), sum(map(len, make.fleet.clients().values()))]
    told += [await cluster.get("key"), names(cluster.get_nodes())]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await cluster.close()
    told += [(warning.category, str(warning.message)) for warning in caught]
    async with cluster as one, cluster as other:
        assert one is other is cluster
        told.append(await one.get("key"))
        async with cluster:
            pass
        told.append(cluster.get_default_node() is None)
    told.append(cluster.get_default_node())
    with contextlib.suppress(ZeroDivisionError):
        async with make() as cluster:
            told.append(await cluster.get("key"))
            raise ZeroDivisionError
    told.append(cluster.get_default_node())
    return told


@walk.step
async def used_by_many_at_once(make: Make):
    cluster = await make()  # see what is wrong in redis-py without this
    numbers = range(30)
    told = [await asyncio.gather(*(cluster.set(f"key{n}", n) for n in numbers))]
    told.append(await asyncio.gather(*(cluster.get(f"key{n}") for n in numbers)))

    async def work(number: int) -> Any:
        async with cluster:
            await asyncio.sleep(0)
            return await cluster.get(f"key{number}")

    told.append(await asyncio.gather(*map(work, numbers)))
    return told, cluster.get_default_node()


@walk.step
async def used_after_it_was_closed_in_every_way(make: Make):
    cluster = await make()
    told: list[Any] = []
    uses = [
        lambda: cluster.set("key", 1),
        lambda: cluster.get("key"),
        lambda: cluster.ping(target_nodes="all"),
        lambda: cluster.ping(target_nodes=cluster.get_primaries()),
        lambda: cluster.mset_nonatomic({"a": 1, "b": 2}),
        lambda: cluster.delete("a", "b"),
        lambda: cluster.pipeline().get("key").execute(),
        lambda: cluster.eval("return 1", 1, "key"),
        lambda: cluster.execute_command("OBJECT ENCODING", "key"),
    ]
    for use in uses:
        await cluster.aclose()
        told.append(await outcome(use))
    return told


@walk.step
async def dropped(make: Make):
    reports = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    told: list[Any] = []
    for use, close in ((False, False), (True, True), (True, False)):
        cluster = make.kind(HOST, make.fleet.nodes[0].port)
        if use:
            await cluster.ping()
        if close:
            await cluster.aclose()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del cluster
            gc.collect()
            await asyncio.sleep(0)
        said = {" ".join(str(w.message).split()[:3]) for w in caught}
        told.append([[w.category for w in caught][:1], "Unclosed RedisCluster client" in said])
    loop.set_exception_handler(None)
    return told, "Unclosed RedisCluster client" in reports


@walk.step
async def told_of_itself(make: Make):
    cluster = make(decode_responses=True)
    kwargs = cluster.get_connection_kwargs()
    told = [
        sorted(kwargs.keys() - {"max_connections"}),  # which are the pool's business
        [kwargs[name] for name in ("protocol", "socket_timeout", "decode_responses")],
        [cluster.get_encoder().encode("é"), cluster.get_encoder().decode(b"x")],
        [cluster.keyslot(key) for key in ("a", b"a", 1, "{a}b")],
        cluster.reinitialize_steps,
        cluster.read_from_replicas,
        [isinstance(cluster, RedisCluster), hasattr(cluster, "connection_pool")],
        await outcome(lambda: cluster.get_node_from_key("a")),
        await outcome(cluster.get_node),
    ]
    # Each public method takes what theirs does.
    for name, method in inspect.getmembers(RedisCluster, inspect.isfunction):
        if not name.startswith("_"):
            _, *taken = inspect.signature(method).parameters.values()
            named = [
                each.name
                for each in taken
                if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}
            ]
            inspect.signature(getattr(make.kind, name)).bind(cluster, **dict.fromkeys(named))
    return told
