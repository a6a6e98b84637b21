"""Pub/sub on the nodes of a cluster, which waits in their lines as commands do."""

from typing import Any

import redis.asyncio.cluster
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.cluster import ClusterPubSub as _ClusterPubSub
from redis.asyncio.keyspace_notifications import AsyncClusterKeyspaceNotifications

from ._node import Node

_Adapter: Any = getattr(redis.asyncio.cluster, "_ClusterNodePoolAdapter")  # noqa: B009 - it has no public name


def _own(pool: Any) -> Any:
    """Give the node's pool itself in the place of redis-py's adapter, which would not wait."""
    if isinstance(pool, _Adapter):
        node: object = getattr(pool, "_node")  # noqa: B009 - likewise
        return node.pool if isinstance(node, Node) else pool  # it may be one of redis-py's own
    return pool


class ClusterPubSub(_ClusterPubSub):
    """As redis-py's."""

    @property
    def connection_pool(self) -> Any:
        """The pool of the node where it is subscribed."""
        return self._pool

    @connection_pool.setter
    def connection_pool(self, pool: Any) -> None:
        self._pool = _own(pool)

    def _get_node_pubsub(self, node: ClusterNode) -> PubSub:
        pubsub = super()._get_node_pubsub(node)
        pubsub.connection_pool = _own(pubsub.connection_pool)
        return pubsub


class KeyspaceNotifications(AsyncClusterKeyspaceNotifications):
    """As redis-py's."""

    async def _ensure_node_pubsub(self, node: ClusterNode) -> PubSub:
        pubsub = await super()._ensure_node_pubsub(node)
        pubsub.connection_pool = _own(pubsub.connection_pool)
        return pubsub
