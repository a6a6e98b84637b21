"""RedisCluster as redis-py's: all the ways to make one."""

import contextlib
import socket
import warnings
from typing import Any

import pytest
from cluster_walk import KINDS, Make, Walk, agree, names, outcome, outcomes
from fleets import HOST, ClusterFleet, slot_of
from redis._parsers.commands import CommandPolicies
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.cluster import LoadBalancingStrategy
from redis.commands.policies import AsyncStaticPolicyResolver
from redis.credentials import UsernamePasswordCredentialProvider
from redis.driver_info import DriverInfo
from redis.event import (
    AfterAsyncClusterInstantiationEvent,
    AsyncAfterSlotsCacheRefreshEvent,
    AsyncEventListenerInterface,
    EventDispatcher,
    EventListenerInterface,
)
from redis.maint_notifications import MaintNotificationsConfig
from servers import HIREDIS, PYTHON, TlsFront, free_port
from walk import user

walk = Walk()


@pytest.mark.asyncio(loop_factories=["asyncio"])  # the loop has no part in it
@pytest.mark.parametrize("step", walk.steps)
async def test_clients_of_clusters_are_made_as_redis_pys(step, cluster_fleet):
    await agree(step, cluster_fleet)


async def tried(cluster: RedisCluster) -> list[Any]:
    """Tell what a client makes of a few commands and of the cluster."""
    return [
        await cluster.set("key", "Grüße"),
        await cluster.get("key"),
        await cluster.hset("{key}hash", mapping={"a": 1.5}),
        await cluster.hgetall("{key}hash"),
        await cluster.zadd("zset", {"a": 1.5}),
        await cluster.zrange("zset", 0, -1, withscores=True),
        await cluster.mget_nonatomic("key", "none"),
        await outcome(lambda: cluster.incr("key")),
        await cluster.pipeline().get("key").zscore("zset", "a").execute(),
        await cluster.ping(target_nodes="all"),
        names(cluster.get_nodes()),
        repr(cluster.get_default_node()),
        list(cluster.nodes_manager.startup_nodes),
    ]


# ---- how it is made ------------------------------------------------------------------------------


@walk.with_each(
    {
        "bytes": ({},),
        "decoded": ({"decode_responses": True},),
        "latin": ({"encoding": "latin-1", "decode_responses": True},),
        "RESP2": ({"protocol": 2},),
        "RESP3": ({"protocol": 3},),
        "RESP3 decoded": ({"protocol": 3, "decode_responses": True},),
        "today's replies": ({"legacy_responses": False},),
        "no full coverage": ({"require_full_coverage": False},),
        "fixed startup nodes": ({"dynamic_startup_nodes": False},),
        "few connections": ({"max_connections": 2},),
        "no maintenance": (
            {"maint_notifications_config": MaintNotificationsConfig(enabled=False)},
        ),
        "perhaps maintenance": (
            {"protocol": 3, "maint_notifications_config": MaintNotificationsConfig(enabled="auto")},
        ),
        "socket": (
            {
                "socket_timeout": 3,
                "socket_connect_timeout": 3,
                "socket_read_size": 100,
                "socket_keepalive": True,
                "socket_keepalive_options": {socket.TCP_KEEPCNT: 2},
                "health_check_interval": 1000,
            },
        ),
        "by name": ({"host": "localhost"},),
    }
)
async def made_with(make: Make, keywords: dict[str, Any]):
    if "host" in keywords:
        keywords = {"port": str(make.fleet.nodes[1].port), **keywords}
    return await tried(make(**keywords))


@walk.with_each({"hiredis": (HIREDIS,), "in Python": (PYTHON,)})
async def connection_keywords_may_be_changed_before_the_first_use(make: Make, parser: Any):
    cluster = make(protocol=3)
    cluster.get_connection_kwargs().update(parser)
    for node in cluster.startup_nodes:
        node.connection_kwargs.update(parser)
    told = await tried(cluster)
    conn = cluster.get_default_node().acquire_connection()
    told.append(type(conn._parser).__name__)
    cluster.get_default_node().release(conn)
    return told


@walk.step
async def by_nodes(make: Make):
    nodes = make.fleet.nodes
    told = []
    for keywords in (
        {"startup_nodes": [ClusterNode(HOST, nodes[4].port)]},
        {"startup_nodes": [ClusterNode(HOST, node.port) for node in nodes]},
        {
            "startup_nodes": [ClusterNode("localhost", nodes[0].port)],
            "dynamic_startup_nodes": False,
        },
        {"startup_nodes": [ClusterNode(HOST, nodes[0].port)], "host": HOST, "port": nodes[1].port},
        {"startup_nodes": [ClusterNode(HOST, free_port()), ClusterNode(HOST, nodes[0].port)]},
    ):
        cluster = make(**keywords)
        if len(cluster.startup_nodes) == 2:
            told.append(len(cluster.startup_nodes))
        else:
            told.append(names(cluster.startup_nodes))
        told += await tried(cluster)
    return told


@walk.step
async def by_url(make: Make):
    url = make.fleet.url
    with user_of(make.fleet, "somebody", "s3cret"):
        told = [
            await tried(make.from_url(one, **keywords))
            for one, keywords in (
                (url, {}),
                (f"{url}?decode_responses=true&protocol=3", {}),
                (f"{url}/0", {"decode_responses": True, "max_connections": 4}),
                (url.replace("//", "//somebody:s3cret@"), {}),
            )
        ]
        wrong = make.from_url(url.replace("//", "//somebody:wrong@"), retry=Retry(NoBackoff(), 0))
        return told, await outcome(wrong.initialize)


@contextlib.contextmanager
def user_of(fleet: ClusterFleet, name: str, password: str):
    with contextlib.ExitStack() as stack:
        for node in fleet.nodes:
            stack.enter_context(user(node, name, password))
        yield


@walk.step
async def with_credentials(make: Make):
    told = []
    with user_of(make.fleet, "somebody", "s3cret"):
        provider = UsernamePasswordCredentialProvider("somebody", "s3cret")
        for keywords in (
            {"username": "somebody", "password": "s3cret"},
            {"credential_provider": provider},
            {"username": "somebody", "password": "wrong"},
            {"username": "somebody", "password": "wrong", "credential_provider": provider},
        ):
            cluster = make(retry=Retry(NoBackoff(), 0), **keywords)
            told += await outcomes(
                lambda cluster=cluster: cluster.acl_whoami(target_nodes="all"),
                lambda cluster=cluster: cluster.set("key", 1),
                lambda cluster=cluster: cluster.acl_whoami(target_nodes=cluster.get_primaries()),
            )
    return told


@walk.step
async def with_a_name(make: Make):
    cluster = make(client_name="walker", driver_info=DriverInfo().add_upstream_driver("d", "1.2"))
    told = [await cluster.client_getname(target_nodes="all")]
    infos = await cluster.client_info(target_nodes="primaries")
    told += [{name: infos[name].get("lib-name") for name in infos}]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cluster = make(lib_name="mine", lib_version="3")
    told.append([(warning.category, str(warning.message)) for warning in caught])
    told.append((await cluster.client_info()).get("lib-name"))
    return told


def calls_of_get(fleet: ClusterFleet) -> list[int]:
    """How often each node was asked for a key."""
    stats = [node.run("INFO", "commandstats") for node in fleet.nodes]
    return [told.get("cmdstat_get", {"calls": 0})["calls"] for told in stats]


@walk.with_each(
    {strategy.name: (strategy,) for strategy in LoadBalancingStrategy} | {"old": (None,)}
)
async def reading_from_replicas(make: Make, strategy: LoadBalancingStrategy | None):
    how = {"load_balancing_strategy": strategy} if strategy else {"read_from_replicas": True}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cluster = make(**how)
    told: list[Any] = [(warning.category, str(warning.message)) for warning in caught]
    for key in "abc":
        await cluster.set(key, key)
        make.fleet.master_of(key).run("WAIT", 1, 5000)
    before = calls_of_get(make.fleet)
    told += [await cluster.get(key) for key in "abc" for _ in range(20)]
    told += [await cluster.mget_nonatomic("abc"), await cluster.pipeline().get("a").execute()]
    calls = [now - then for now, then in zip(calls_of_get(make.fleet), before, strict=True)]
    if strategy in {LoadBalancingStrategy.RANDOM, LoadBalancingStrategy.RANDOM_REPLICA}:
        calls = [sum(calls), sum(calls[:3]) > 1, sum(calls[3:]) > 1]
    assert calls[-1] > 0
    return told, calls


@walk.with_each({str(steps): (steps,) for steps in (0, 2, 5)})
async def a_slot_that_is_elsewhere_is_found(make: Make, steps: int):
    cluster = await make(reinitialize_steps=steps)
    told = []
    wrong = cluster.get_node(HOST, make.fleet.nodes[1].port)
    assert cluster.get_node_from_key("a") != wrong
    for _ in range(3):
        cluster.nodes_manager.slots_cache[slot_of("a")] = [wrong]
        told += [await cluster.set("a", 1), repr(cluster.get_node_from_key("a"))]
    return told, cluster.reinitialize_steps


@walk.step
async def with_its_own_retries(make: Make):
    told: list[Any] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for keywords in (
            {},
            {"retry": Retry(NoBackoff(), 3)},
            {"cluster_error_retry_attempts": 2},
            {"retry": Retry(NoBackoff(), 3), "retry_on_error": [KeyError]},
        ):
            cluster = make(**keywords)
            retry = cluster.retry
            told += [retry.get_retries(), KeyError in retry._supported_errors]
            told += [type(retry._backoff), await cluster.ping()]
            cluster.set_retry(Retry(NoBackoff(), 7))
            told.append(cluster.retry.get_retries())
    told += [(warning.category, str(warning.message)) for warning in caught]
    return told


@walk.step
async def with_other_addresses(make: Make):
    asked = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return "localhost", address[1]

    return await tried(make(address_remap=remap)), sorted(set(asked))


@pytest.mark.asyncio(loop_factories=["asyncio"])  # TLS takes its time
async def test_clients_of_clusters_reach_them_through_tls(cluster_fleet):
    with contextlib.ExitStack() as stack:
        fronts = {}
        for node in cluster_fleet.nodes[:3]:  # nobody will talk to the replicas
            fronts[node.port] = TlsFront(node.port)
            stack.callback(fronts[node.port].destroy)
        authorities = "".join(front.authority_pem for front in fronts.values())

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            host, port = address
            return host, fronts[port].port if port in fronts else port

        async def step(make: Make):
            cluster = await make(  # redis-py, sent elsewhere, would go there without TLS's front
                port=fronts[cluster_fleet.nodes[0].port].port,
                host=HOST,
                ssl=True,
                ssl_ca_data=authorities,
                address_remap=remap,
            )
            told = [await cluster.set("key", 1), await cluster.get("key")]
            return told, names(cluster.get_nodes())

        await agree(step, cluster_fleet)


@walk.step
async def with_listeners(make: Make):
    heard = []

    class Patient(AsyncEventListenerInterface):
        async def listen(self, event: object) -> None:
            heard.append(type(event).__name__)

    class AtOnce(EventListenerInterface):
        def listen(self, event: object) -> None:
            heard.append(type(event).__name__)

    dispatcher = EventDispatcher(
        {
            AsyncAfterSlotsCacheRefreshEvent: [Patient()],
            AfterAsyncClusterInstantiationEvent: [AtOnce()],
        }
    )
    cluster = make(event_dispatcher=dispatcher)
    told = [await cluster.ping(), [*heard]]
    cluster.nodes_manager.slots_cache[slot_of("a")] = [cluster.get_replicas()[2]]
    told += [await cluster.set("a", 1), [*heard]]
    await cluster.aclose()
    return told, await cluster.ping(), heard


@walk.step
async def with_a_resolver_of_policies(make: Make):
    asked = []

    class Resolver(AsyncStaticPolicyResolver):
        async def resolve(self, command_name: str) -> CommandPolicies | None:
            asked.append(command_name)
            return await super().resolve(command_name)

    cluster = make(policy_resolver=Resolver())
    told = [await cluster.set("key", 1), await cluster.get("key")]
    told += [await cluster.pipeline().get("key").execute(), await cluster.ping()]
    told.append(await outcome(lambda: cluster.execute_command("FT.CURSOR READ", "a", 1)))
    return told, asked


@walk.step
async def made_wrong(make: Make):
    told = await outcomes(
        make.kind,
        lambda: make(db=1),
        lambda: make(path="/tmp/socket"),  # noqa: S108 - is not opened
        lambda: make(nonsense=1),
        lambda: make(host="", port=0),
        lambda: make(port=0),
        lambda: make.from_url(f"{make.fleet.url}/1"),
        lambda: make(protocol=2, maint_notifications_config=MaintNotificationsConfig(enabled=True)),
    )
    nobody = {"host": HOST, "port": make.fleet.nodes[0].port + 10_001}
    told += await outcomes(
        make(protocol=4).initialize,
        make(retry=Retry(NoBackoff(), 1), **nobody).initialize,
        lambda: make(retry=Retry(NoBackoff(), 0), **nobody).get("key"),
        lambda: make(retry=Retry(NoBackoff(), 0), **nobody).__aenter__(),
        lambda: make(retry=Retry(NoBackoff(), 0), **nobody).pipeline().get("a").execute(),
        lambda: make(host="no-such-host.invalid", retry=Retry(NoBackoff(), 0)).initialize(),
        lambda: make.kind.nonsense,
    )
    told[-1] = told[-1][0]  # the words have the class's name
    return told


async def test_a_server_that_is_in_no_cluster_is_refused_as_by_redis_py(server):
    told = []
    for kind in KINDS:
        cluster = kind(HOST, server.port, retry=Retry(NoBackoff(), 0))
        told.append(await outcomes(cluster.initialize, lambda cluster=cluster: cluster.get("key")))
        await cluster.aclose()
    assert all(one == told[0] for one in told)
