"""Commands of a cluster as redis-py's: of one key, of many, of none, to chosen nodes, scripts and locks."""

# ruff: noqa: PLW0108 - calls that stand in a list look alike

import asyncio
from typing import Any

import pytest
from cluster_walk import KINDS, Make, Walk, agree, outcomes
from fleets import ClusterFleet, slot_of
from redis.asyncio import RedisCluster
from servers import eventually
from test_pipelined_commands import ON_KEYS_OF_THEIR_OWN, differences, play

walk, once = Walk(), Walk()
HOW = {
    "RESP2": ({"protocol": 2},),
    "RESP3": ({"protocol": 3},),
    "decoded": ({"decode_responses": True},),
}


@pytest.mark.asyncio(loop_factories=["asyncio"])  # the loop has no part in it
@pytest.mark.parametrize("step", once.steps)
async def test_replies_and_errors_are_those_of_redis_pys_client_of_a_cluster(step, cluster_fleet):
    await agree(step, cluster_fleet)


@pytest.mark.parametrize("step", walk.steps)
async def test_commands_do_what_they_do_with_redis_pys_client_of_a_cluster(step, cluster_fleet):
    await agree(step, cluster_fleet)


# ---- every command -------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_factories=["asyncio"])  # the loop has no part in it
@pytest.mark.parametrize("keys", ["{%d}:", "%d:"], ids=["of one slot", "of several slots"])
async def test_every_command_is_answered_as_with_redis_pys_client(cluster_fleet, keys):
    told = [await play_all(kind, cluster_fleet, keys) for kind in KINDS]
    for others in told[1:]:
        assert differences(others, told[0]) == []


async def play_all(kind: type[RedisCluster], fleet: ClusterFleet, keys: str) -> list[str]:
    fleet.flush()
    cluster = Make(kind, fleet)(max_connections=50)
    async with asyncio.timeout(30), cluster:
        told = await asyncio.gather(
            *(
                play(cluster, group, keys % number)
                for number, group in enumerate(ON_KEYS_OF_THEIR_OWN)
                if group.__name__ != "pipelines"  # a file of its own
            )
        )
    return [line for lines in told for line in lines]


# ---- several keys --------------------------------------------------------------------------------


@once.with_each(HOW)
async def of_several_keys(make: Make, keywords: dict[str, Any]):
    cluster = make(**keywords)
    keys = [f"key{number}" for number in range(20)]
    same = {"{a}1": 1, "{a}2": 2}
    return await outcomes(
        lambda: cluster.mset_nonatomic({key: key for key in keys}),
        lambda: cluster.mget_nonatomic(keys, "none"),
        lambda: cluster.mget_nonatomic([]),
        lambda: cluster.mset(same),
        lambda: cluster.mget(list(same)),
        lambda: cluster.mget(keys),
        lambda: cluster.mset(dict.fromkeys(keys, 1)),
        lambda: cluster.exists(*keys, "none"),
        lambda: cluster.touch(*keys, "none"),
        lambda: cluster.delete(*keys[:10], "none"),
        lambda: cluster.unlink(*keys[5:15]),
        lambda: cluster.delete(),
        lambda: cluster.dbsize(),
        lambda: cluster.dbsize(target_nodes="primaries"),
        lambda: cluster.rename("{a}1", "{a}3"),
        lambda: cluster.rename("{a}3", "b"),
        lambda: cluster.sinterstore("{s}1", "{s}2", "{s}3"),
        lambda: cluster.sunion("a", "b"),
        lambda: cluster.copy("a", "b"),
        lambda: cluster.lmpop(2, "a", "b", direction="LEFT"),
        lambda: cluster.zunionstore("{z}", ["{z}1", "{z}2"]),
        lambda: cluster.bitop("AND", "{b}1", "{b}2", "{b}3"),
        lambda: cluster.pfmerge("{p}1", "{p}2"),
        lambda: cluster.sort("{l}", by="nosort", alpha=True),
        lambda: cluster.sort("{l}", store="{l}2"),
        lambda: cluster.sort("l", store="m"),
        lambda: cluster.xread({"s": 0, "t": 0}, count=1),
        lambda: cluster.msetnx({"a": 1, "b": 1}),
        lambda: cluster.get(b"\xff"),
        lambda: cluster.get(1),
        lambda: cluster.get(None),
        lambda: cluster.get(object),
        lambda: cluster.set("key", None),
        lambda: cluster.get(""),
        lambda: cluster.get("{}a"),
        lambda: cluster.get(key="a", more=1),
    )


@once.with_each(HOW)
async def of_no_key(make: Make, keywords: dict[str, Any]):
    cluster = make(**keywords)
    await cluster.mset_nonatomic({f"key{number}": 1 for number in range(50)})
    scanned = sorted([key async for key in cluster.scan_iter(match="key*", count=10)])
    return scanned, await outcomes(
        lambda: sorted_keys(cluster),
        lambda: sorted_keys(cluster, target_nodes="primaries"),
        lambda: of_kind(cluster.randomkey()),
        lambda: cluster.ping(),
        lambda: cluster.ping("word"),
        lambda: cluster.echo("word"),
        lambda: cluster.dbsize(),
        lambda: cluster.config_get("databases"),
        lambda: cluster.config_set("hz", 20),
        lambda: cluster.config_set("hz", 10, target_nodes="all"),
        lambda: cluster.config_resetstat(target_nodes="all"),
        lambda: cluster.config_get("nonsense*"),
        lambda: of_kind(cluster.info("server")),
        lambda: of_kind(cluster.info()),
        lambda: of_kind(cluster.info("replication", target_nodes="all")),
        lambda: of_kind(cluster.time()),
        lambda: of_kind(cluster.lastsave()),
        lambda: of_kind(cluster.client_id()),
        lambda: of_kind(cluster.client_info()),
        lambda: of_kind(cluster.client_list(_type="master", target_nodes="all")),
        lambda: cluster.client_getname(),
        lambda: cluster.client_unblock(1_000_000_000, target_nodes="all"),
        lambda: cluster.client_pause(1, target_nodes="all"),
        lambda: cluster.client_unpause(target_nodes="all"),
        lambda: cluster.client_kill_filter(laddr="127.0.0.1:1"),
        lambda: cluster.client_no_evict("ON"),
        lambda: cluster.client_getredir(),
        lambda: cluster.command_count(),
        lambda: of_kind(cluster.command()),
        lambda: cluster.command_getkeys("MSET", "a", 1, "b", 2),
        lambda: of_kind(cluster.command_info()),
        lambda: cluster.acl_whoami(),
        lambda: cluster.acl_cat("scripting"),
        lambda: cluster.slowlog_reset(),
        lambda: cluster.slowlog_len(),
        lambda: of_kind(cluster.memory_stats()),
        lambda: cluster.memory_purge(),
        lambda: of_kind(cluster.memory_usage("key1")),
        lambda: of_kind(cluster.memory_doctor()),
        lambda: cluster.latency_latest(),
        lambda: cluster.module_list(),
        lambda: cluster.wait(1, 1000),
        lambda: of_kind(cluster.wait(1, 1000, target_nodes="primaries")),
        lambda: cluster.object("encoding", "key1"),
        lambda: cluster.object("freq", "key1"),
        lambda: cluster.readonly(),
        lambda: cluster.readwrite(),
        lambda: cluster.swapdb(0, 1),
        lambda: cluster.replicaof("NO", "ONE"),
        lambda: cluster.slaveof(),
        lambda: cluster.select(1),
        lambda: cluster.move("a", 1),
        lambda: cluster.flushdb(),
        lambda: cluster.flushall(asynchronous=True, target_nodes="primaries"),
        lambda: cluster.flushall(),
        lambda: cluster.dbsize(),
        lambda: cluster.execute_command("PING"),
        lambda: cluster.execute_command("ping"),
        lambda: cluster.execute_command("CLIENT GETNAME"),
        lambda: cluster.execute_command("CLIENT", "GETNAME"),
        lambda: cluster.execute_command("NONSENSE"),
        lambda: cluster.execute_command("NONSENSE", "key"),
        lambda: cluster.execute_command("NONSENSE", "key", target_nodes="default-node"),
        lambda: cluster.execute_command("GET"),
        lambda: cluster.execute_command("get", "a"),
        lambda: cluster.execute_command("GET", "a", "b"),
        lambda: cluster.execute_command("GET a"),
        lambda: cluster.execute_command(b"GET", "a"),
        lambda: cluster.execute_command(""),
        lambda: cluster.execute_command(1),
        lambda: cluster.execute_command(),
        lambda: cluster.himport_set("key", "fields", [1]),
        lambda: cluster.himport_discard("fields"),
        lambda: cluster.himport_discard_all(),
        lambda: cluster.execute_command("HIMPORT SET", "key", "fields", 1),
        lambda: cluster.hotkeys_get(),
        lambda: cluster.client_tracking_on(),
        lambda: cluster.ft().info(),
        lambda: cluster.json().get("key"),
        lambda: cluster.client_setname("name"),
    )


async def sorted_keys(cluster: RedisCluster, **options: Any) -> list[Any]:
    return sorted(await cluster.keys("key*", **options))


async def of_kind(attempt: Any) -> Any:
    """Tell only what does not differ from time to time."""
    told = await attempt
    if isinstance(told, dict):
        return {name: type(value).__name__ for name, value in sorted(told.items(), key=str)}
    return type(told).__name__, bool(told)


# ---- chosen nodes --------------------------------------------------------------------------------


@once.step
async def to_chosen_nodes(make: Make):
    cluster = await make(decode_responses=True)
    nodes, primaries = cluster.get_nodes(), cluster.get_primaries()
    key = next(f"key{n}" for n in range(99) if cluster.get_node_from_key(f"key{n}") == primaries[0])
    told = []
    for target in (
        *("primaries", "replicas", "all", "default-node", "nonsense", "", None, 1, (), []),
        nodes[0],
        nodes[-1],
        primaries,
        primaries[:1],
        {"one": primaries[1]},
        {node.name: node for node in nodes},
        cluster.get_replicas(),
        "a string",
    ):
        told += await outcomes(
            lambda target=target: cluster.ping(target_nodes=target),
            lambda target=target: cluster.execute_command("ECHO", "word", target_nodes=target),
            lambda target=target: (
                cluster.set(key, 1, target_nodes=target)
                if target in (None, "", primaries[:1])
                else None
            ),
            lambda target=target: cluster.dbsize(target_nodes=target),
        )
    told.append(await cluster.ping(target_nodes="random"))
    told.append(len(await cluster.execute_command("CLUSTER INFO", target_nodes="all")))
    return told


@once.step
async def of_the_cluster(make: Make):
    cluster = await make(decode_responses=True)
    first = make.fleet.nodes[0]
    node = cluster.get_node(first.host, first.port)
    ids = await cluster.execute_command("CLUSTER MYID", target_nodes=node)
    return await outcomes(
        lambda: cluster.cluster_myid(node),
        lambda: cluster.cluster_keyslot("key"),
        lambda: cluster.cluster_countkeysinslot(slot_of("key")),
        lambda: cluster.set("key", 1),
        lambda: cluster.cluster_get_keys_in_slot(slot_of("key"), 5),
        lambda: of_kind(cluster.cluster_info()),
        lambda: cluster.cluster_slots(),
        lambda: of_kind(cluster.cluster_nodes()),
        lambda: of_kind(cluster.cluster_shards()),
        lambda: of_kind(cluster.cluster_links(node)),
        lambda: of_kind(cluster.cluster_replicas(ids)),
        lambda: cluster.cluster_myshardid(),
        lambda: cluster.cluster_count_failure_report(ids),
        lambda: cluster.cluster_save_config(target_nodes="all"),
        lambda: cluster.cluster_meet("nonsense", 1),
        lambda: cluster.cluster_addslots(node, 1),
        lambda: cluster.cluster_addslotsrange(node, 1, 2),
        lambda: cluster.cluster_failover(node),
        lambda: cluster.cluster_failover(node, "nonsense"),
        lambda: cluster.cluster_replicate([node], "nonsense"),
        lambda: cluster.cluster_set_config_epoch(1),
        lambda: cluster.cluster_setslot(node, "nonsense", 1, "MIGRATING"),
        lambda: cluster.cluster_setslot(node, "nonsense", 1, "STABLE"),
        lambda: cluster.cluster_setslot_stable(slot_of("key")),
        lambda: cluster.cluster_delslotsrange("a", "b"),
    )


# ---- scripts -------------------------------------------------------------------------------------


@once.with_each(HOW)
async def of_scripts(make: Make, keywords: dict[str, Any]):
    cluster = make(**keywords)
    body = "return {KEYS[1] or '', ARGV[1] or ''}"
    script = cluster.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    library = "#!lua name=walk\nredis.register_function('take', function(k, a) return {k, a} end)"
    other = make(**keywords)
    pipe = cluster.pipeline()
    return script.sha, await outcomes(
        lambda: cluster.eval(body, 1, "key", "word"),
        lambda: cluster.eval(body, 0),
        lambda: cluster.eval(body, 2, "a", "b"),
        lambda: cluster.eval(body, 2, "{a}1", "{a}2"),
        lambda: cluster.execute_command("EVAL", body),
        lambda: cluster.execute_command("EVAL", body, "x"),
        lambda: cluster.eval_ro(body, 1, "key", "word"),
        lambda: script(keys=["sum"], args=[3]),
        lambda: script(keys=["sum"], args=[4], client=other),
        lambda: script(keys=[], args=[4]),
        lambda: script(keys=["sum"], args=[1], client=pipe),
        lambda: pipe.execute(),
        lambda: cluster.evalsha(script.sha, 1, "sum", 5),
        lambda: cluster.evalsha("0" * 40, 1, "sum"),
        lambda: cluster.script_exists(script.sha, "0" * 40),
        lambda: cluster.script_load(body),
        lambda: cluster.script_flush(),
        lambda: cluster.script_exists(script.sha),
        lambda: cluster.script_kill(),
        lambda: cluster.function_load(library, replace=True),
        lambda: cluster.fcall("take", 1, "key", "word"),
        lambda: cluster.fcall("take", 0),
        lambda: cluster.fcall("take", 2, "a", "b"),
        lambda: cluster.fcall_ro("take", 1, "key"),
        lambda: cluster.function_list(),
        lambda: cluster.function_delete("walk"),
        lambda: cluster.function_delete("walk"),
    )


# ---- waiting -------------------------------------------------------------------------------------


@walk.with_each(HOW)
async def that_block(make: Make, keywords: dict[str, Any]):
    cluster = make(**keywords)
    told = []
    for command, *prompt in (
        (lambda: cluster.blpop(["list"], timeout=10), "RPUSH", "list", "item"),
        (lambda: cluster.blmove("{list}", "{list}2", 10), "RPUSH", "{list}", "item"),
        (lambda: cluster.bzpopmin("zset", 10), "ZADD", "zset", 1, "a"),
        (lambda: cluster.xread({"stream": "$"}, block=10_000), "XADD", "stream", "1-1", "a", 1),
    ):
        waiting = asyncio.create_task(command())
        master = make.fleet.master_of(prompt[1])
        await eventually(lambda m=master: "b" in "".join(c["flags"] for c in m.clients()), "so")
        told.append(await cluster.set("meanwhile", 1))
        master.run(*prompt)
        told.append(await waiting)
    return told, await outcomes(
        lambda: cluster.blpop(["list"], timeout=0.01),
        lambda: cluster.blpop(["list", "other"], timeout=0.01),
        lambda: cluster.xread({"stream": "$"}, block=1),
    )


@walk.step
async def of_many_tasks(make: Make):
    cluster = await make(max_connections=100)
    told = []
    for replies in await asyncio.gather(
        *(
            outcomes(
                lambda key=key: cluster.set(key, key),
                lambda key=key: cluster.get(key),
                lambda key=key: cluster.lpush(key, 1),
                lambda key=key: cluster.pipeline().append(key, "x").strlen(key).execute(),
                lambda key=key: cluster.unlink(key, key + "none"),
            )
            for key in map(str, range(50))
        )
    ):
        told += replies
    return told


@walk.step
async def of_locks(make: Make):
    cluster = await make()
    lock, other = cluster.lock("lock", timeout=10), cluster.lock("lock", timeout=10, sleep=0.001)
    inside = []

    async def enter(number: int) -> int:
        async with cluster.lock("entered", sleep=0.001, timeout=10):
            inside.append(1)
            assert len(inside) == 1
            await cluster.ping()
            inside.pop()
        return number

    async def late() -> None:
        async with cluster.lock("late", timeout=10):
            await cluster.delete("late")

    return await outcomes(
        lambda: lock.acquire(),
        lambda: other.acquire(blocking=False),
        lambda: other.acquire(blocking_timeout=0.005),
        lambda: lock.locked(),
        lambda: lock.owned(),
        lambda: other.owned(),
        lambda: lock.extend(10),
        lambda: lock.extend(10, replace_ttl=True),
        lambda: lock.reacquire(),
        lambda: other.release(),
        lambda: lock.release(),
        lambda: lock.release(),
        lambda: other.acquire(token="mine"),  # noqa: S106 - not one that matters
        lambda: cluster.get("lock"),
        lambda: cluster.delete("lock"),
        lambda: other.extend(1),
        lambda: other.release(),
        lambda: asyncio.gather(*map(enter, range(4))),
        late,
    )


@walk.step
async def with_callbacks_of_the_users_own(make: Make):
    cluster = await make(decode_responses=True)
    cluster.set_response_callback("ECHO", lambda reply, **options: (reply, options))
    told = await outcomes(
        lambda: cluster.echo("word"),
        lambda: cluster.execute_command("ECHO", "word", option=1),
        lambda: cluster.set("key", 1),
        lambda: cluster.set_response_callback("GET", lambda reply, **_: f"mine: {reply}"),
        lambda: cluster.get("key"),
        lambda: cluster.pipeline().get("key").execute(),
        lambda: cluster.dump("key"),
        lambda: cluster.execute_command("GET", "key", NEVER_DECODE=True),
    )
    told.append(cluster.response_callbacks is cluster.get_nodes()[0].response_callbacks)
    return told
