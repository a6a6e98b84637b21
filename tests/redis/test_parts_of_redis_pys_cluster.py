"""What of redis-py's client of a cluster is replaced or relied upon, told by digests: see `test_lean.py`."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import redis.himport
from digests import changed, digest
from redis._parsers import AsyncCommandsParser
from redis._parsers.commands import AbstractCommandsParser
from redis.asyncio import RedisCluster, cluster
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import (
    AbstractStrategy,
    ClusterNode,
    ClusterPipeline,
    ClusterPubSub,
    NodesManager,
    PipelineCommand,
    PipelineStrategy,
    TransactionStrategy,
)
from redis.asyncio.keyspace_notifications import AsyncClusterKeyspaceNotifications
from redis.asyncio.maint_notifications import AsyncOSSMaintNotificationsHandler
from redis.cluster import AbstractRedisCluster, LoadBalancer, get_node_name
from redis.commands.cluster import AsyncClusterMultiKeyCommands
from redis.commands.policies import AsyncStaticPolicyResolver
from redis.crc import key_slot

from aiopool.redis._cluster._client import RedisCluster as OurCluster
from aiopool.redis._cluster._node import Node
from aiopool.redis._cluster._nodes import Nodes
from aiopool.redis._cluster._pipeline import ClusterPipeline as OurPipeline
from aiopool.redis._cluster._pipeline import Together, Transaction
from aiopool.redis._cluster._pubsub import ClusterPubSub as OurPubSub
from aiopool.redis._cluster._pubsub import KeyspaceNotifications
from aiopool.redis._cluster._queued import Queued
from aiopool.redis._cluster._routes import Commands

Adapter = cluster._ClusterNodePoolAdapter

# By the file of ours in aiopool/redis/_cluster that depends on it.
DIGESTS: dict[str, dict[Any, str]] = {
    "_client.py": {
        RedisCluster.__init__: "5b460fb9",
        RedisCluster.initialize: "069e0264",
        RedisCluster.aclose: "d7c580e5",
        RedisCluster.__aexit__: "a6af3485",
        RedisCluster.__del__: "3e8c0acf",
        RedisCluster.from_url.__func__: "adac4e57",
        RedisCluster.execute_command: "397d4a38",
        RedisCluster._execute_command: "560c7612",
        RedisCluster._determine_nodes: "254c43a7",
        RedisCluster._determine_slot: "ef0d5a70",
        RedisCluster.get_nodes_from_slot: "90daff3c",
        RedisCluster.keyslot: "7fc3114c",
        RedisCluster.on_connect: "9c866e99",
        RedisCluster.pipeline: "778e5a9f",
        RedisCluster.pubsub: "ea1df0b9",
        RedisCluster.keyspace_notifications: "e87a1e0b",
        RedisCluster.transaction: "2f8e6819",
        AbstractRedisCluster.replace_default_node: "fb043968",
        AsyncClusterMultiKeyCommands._execute_pipeline_by_slot: "ffbb20b4",
        AsyncStaticPolicyResolver.resolve: "0b93483e",
        cluster.AsyncMaintNotificationsAbstractRedisCluster.__init__: "83ad654f",
        cluster.AsyncMaintNotificationsAbstractRedisCluster._update_connection_kwargs_for_maint_notifications: "751555e2",
    },
    "_node.py": {
        ClusterNode.__init__: "d883eb20",
        ClusterNode.__del__: "1172ea79",
        ClusterNode.acquire_connection: "ccf711ba",
        ClusterNode.disconnect: "019bede4",
        ClusterNode.disconnect_free_connections: "5080b592",
        ClusterNode.disconnect_if_needed: "37dfefe4",
        ClusterNode.execute_command: "3443ced3",
        ClusterNode.execute_pipeline: "4de378fd",
        ClusterNode.get_encoder: "a7b188ce",
        ClusterNode.parse_response: "5ebad10d",
        ClusterNode.re_auth_callback: "5d72cd1b",
        ClusterNode.release: "fcd783bf",
        ClusterNode.update_active_connections_for_reconnect: "54cfe5fd",
        ClusterNode._himport_execute_set: "2ff4cfa3",
        ClusterNode._himport_prepare_pipeline: "854dcf71",
        AsyncOSSMaintNotificationsHandler: "309a9860",
        redis.himport.parse_himport_set_args: "9686219d",
    },
    "_nodes.py": {
        NodesManager.__init__: "305b2426",
        NodesManager.aclose: "915bc5f1",
        NodesManager.get_node: "778edce4",
        NodesManager.get_node_from_slot: "d70b27cb",
        NodesManager.initialize: "970fdbfc",
        NodesManager.move_node_to_end_of_cached_nodes: "390c34e8",
        NodesManager.move_slot: "bb11df35",
        NodesManager.remap_host_port: "6928f6c6",
        NodesManager.set_nodes: "085a9631",
        LoadBalancer.get_server_index: "609791ad",
        get_node_name: "d8b17fbd",
    },
    "_pipeline.py and _queued.py": {
        ClusterPipeline.__init__: "48f23c03",
        ClusterPipeline.__aexit__: "867e8d85",
        ClusterPipeline.initialize: "83dd27d7",
        ClusterPipeline.execute: "4ac39b0f",
        ClusterPipeline.execute_command: "eec76587",
        ClusterPipeline.reset: "e40fb18c",
        PipelineCommand.__init__: "1b607bcb",
        AbstractStrategy.__init__: "879d4945",
        AbstractStrategy.execute_command: "8a785f65",
        AbstractStrategy.initialize: "efc49510",
        PipelineStrategy._execute: "16204912",
        PipelineStrategy.execute: "737fcfaa",
        PipelineStrategy.mset_nonatomic: "9dc05a28",
        PipelineStrategy.reset: "9194ba5c",
        TransactionStrategy.__init__: "49511d8b",
        TransactionStrategy._execute_command: "74955df2",
        TransactionStrategy._execute_transaction: "b1a240c1",
        TransactionStrategy._execute_transaction_with_retries: "ca19ac76",
        TransactionStrategy._get_client_and_connection_for_transaction: "a7b69cf0",
        TransactionStrategy._get_connection_and_send_command: "5c500baf",
        TransactionStrategy._immediate_execute_command: "7047027f",
        TransactionStrategy._reinitialize_on_error: "9283ecb5",
        TransactionStrategy._send_command_parse_response: "8570c76b",
        TransactionStrategy.discard: "5fdc07a5",
        TransactionStrategy.execute: "941f9e23",
        TransactionStrategy.execute_command: "c66a1ace",
        TransactionStrategy.multi: "da749fd7",
        TransactionStrategy.reset: "75ae4d2f",
        TransactionStrategy.unwatch: "9426240c",
        TransactionStrategy.watch: "eda70f55",
    },
    "_pubsub.py": {
        Adapter: "7476ef6a",
        ClusterPubSub.__init__: "20008009",
        ClusterPubSub._get_node_pubsub: "aa672a21",
        ClusterPubSub.aclose: "8681e9be",
        ClusterPubSub.execute_command: "c525af4b",
        ClusterPubSub.set_pubsub_node: "da95af60",
        PubSub.__init__: "f54763a8",
        PubSub.aclose: "7bd040d4",
        PubSub.connect: "972c41c5",
        AsyncClusterKeyspaceNotifications._ensure_node_pubsub: "26445149",
    },
    "_routes.py": {
        AbstractCommandsParser._get_pubsub_keys: "e1ac0f9e",
        AsyncCommandsParser.get_keys: "cd8b3164",
        AsyncCommandsParser.initialize: "eee5a0a0",
        key_slot: "402cb9c6",
    },
}
PARTS = [
    pytest.param(function, ours, id=function.__qualname__)
    for ours, functions in DIGESTS.items()
    for function in functions
]


@pytest.mark.parametrize(("function", "ours"), PARTS)
def test_redis_pys_cluster_does_as_it_did(function: Callable[..., Any], ours: str):
    known = DIGESTS[ours][function]
    assert digest(function) == known, changed(function, f"aiopool/redis/_cluster/{ours}")


@pytest.mark.parametrize(
    "ours",
    [
        OurCluster,
        Node,
        Nodes,
        OurPipeline,
        Together,
        Transaction,
        OurPubSub,
        KeyspaceNotifications,
        Queued,
        Commands,
    ],
)
def test_what_replaces_a_method_of_redis_pys_is_known_by_the_digest_of_that(ours: type):
    known = {function for functions in DIGESTS.values() for function in functions}
    replaced = {
        name: theirs
        for name in vars(ours)
        if inspect.isfunction(theirs := inspect.getattr_static(ours.__base__, name, None))
        and theirs.__module__.startswith("redis.")
    }
    assert {name for name, theirs in replaced.items() if theirs not in known} == set()
