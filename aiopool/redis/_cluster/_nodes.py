"""The nodes of a cluster and which of them has which slot, as far as is known."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from weakref import ref

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.cluster import PRIMARY, get_node_name
from redis.exceptions import AskError, MovedError

from aiopool._events import Listener
from aiopool._stats import Stats, total
from aiopool.redis._pool import RedisPool

from ._about import about_a_command
from ._node import Node
from ._settings import Settings


class Nodes(NodesManager):
    """As redis-py's, but a topology that is read anew leaves the connections alone."""

    epoch: int = getattr(NodesManager, "_epoch")  # noqa: B009 - under a public name: how often it was read

    def __init__(
        self, made: NodesManager, settings: Settings, refuse_if_closed: Callable[[], None]
    ) -> None:
        """Take over what redis-py has made; commands begun before a closing are to be refused."""
        like: Any = made  # of which not all is public
        self._settings = settings
        self.refuse_if_closed = refuse_if_closed
        # By name, since an address has one pool, whoever knows of it: also those that the cluster has
        # lost, as long as they have connections.
        self._known: dict[str, Node] = {}
        self._forgotten: list[Stats] = []
        super().__init__(
            [],
            like.require_full_coverage,
            like.connection_kwargs,
            like._dynamic_startup_nodes,  # noqa: SLF001 - as above
            like.address_remap,
            like._event_dispatcher,  # noqa: SLF001 - likewise
        )
        self.set_nodes(self.startup_nodes, like.startup_nodes)

    def _node(self, host: str, port: int, server_type: str | None) -> Node:
        """Give the node at this address."""
        if host == "localhost":
            host = socket.gethostbyname(host)  # as redis-py does, which names nodes so
        name = get_node_name(host, port)
        if (known := self._known.get(name)) is None:
            known = Node(
                host,
                port,
                server_type,
                settings=self._settings,
                owner=self,
                **self.connection_kwargs,
            )
            self._known[known.name] = known
        return known

    def settle(self) -> None:
        """Make locks for another event loop."""
        self._initialize_lock = asyncio.Lock()
        setattr(self._event_dispatcher, "_async_lock", None)  # noqa: B010 - it makes one when needed

    # ---- changes -----------------------------------------------------------------------------

    def set_nodes(
        self,
        old: dict[str, ClusterNode],
        new: dict[str, ClusterNode],
        remove_old: bool = False,
    ) -> None:
        """As redis-py's, which would have all connections to all nodes made anew.

        None of that is needed: what a node says on a connection does not depend on when that was made.
        """
        if remove_old:
            for name in old.keys() - new.keys():
                node = old.pop(name)
                if isinstance(node, Node) and node.name not in new:
                    node.leave()
        for name, node in new.items():
            ours = self._node(node.host, int(node.port), node.server_type)
            if name in old:
                ours.play(node.server_type)
            else:
                ours.join(node.server_type)
                old[name] = ours

    def remember(self, node: Node) -> Node:
        """Know of a node that was used; gives the one that is known at its address."""
        return self._known.setdefault(node.name, node)

    async def learn(self, error: AskError) -> None:
        """Take in what such an error tells.

        redis-py takes for granted that a node that it is to ask is known. And every so often, when a slot
        has moved, it closes all and asks the same node again: with `reinitialize_steps=1` for ever.
        """
        if isinstance(error, MovedError):
            await self.move_slot(error)
        else:
            self._add(error)

    def _add(self, error: AskError | MovedError) -> None:
        """Add the node that such an error tells of, under the name by which redis-py looks for it."""
        told: Any = error  # typed in parts
        node = self._node(*self.remap_host_port(told.host, told.port), PRIMARY)
        self.nodes_cache.setdefault(get_node_name(told.host, told.port), node)

    async def move_slot(self, e: AskError | MovedError) -> None:
        """As redis-py's, which would make a node of its own if there is none."""
        self._add(e)
        await super().move_slot(e)

    async def initialize(
        self,
        additional_startup_nodes_info: list[tuple[str, int]] | None = None,
        last_failed_node_name: str | None = None,
    ) -> None:
        """As redis-py's, which would make nodes of its own of the additional ones.

        If none is known to have failed, that is asked last which has least to lend, for it may be about to.
        """
        for host, port in additional_startup_nodes_info or ():
            node = self._node(host, port, None)
            self.startup_nodes.setdefault(node.name, node)
        await super().initialize(last_failed_node_name=last_failed_node_name or self._busiest())
        self._forget()

    def _busiest(self) -> str | None:
        wanted: dict[str, int] = {}
        for node in self.known():
            stats = node.stats()
            wanted[node.name] = stats.lent + stats.waiting - stats.max_size
        return max(wanted, key=wanted.__getitem__, default=None)

    def _forget(self) -> None:
        """Forget nodes that the cluster has lost, once they have no connections."""
        for name, node in list(self._known.items()):
            if name in self.nodes_cache or name in self.startup_nodes:
                continue
            node.leave()  # once more: somebody who has found it before may have used it since
            stats = node.stats()
            if not (stats.size or stats.waiting):
                self._forgotten = [
                    total([*self._forgotten, replace(stats, max_size=0, min_size=0)])
                ]
                del self._known[name]
                node.forget()

    # ---- all of them -------------------------------------------------------------------------

    def known(self) -> list[Node]:
        """List all nodes that may have connections."""
        return [*self._known.values()]

    def pools(self) -> list[RedisPool]:
        """List the pools of all nodes that were ever needed."""
        return [pool for node in self.known() if (pool := node.pool_in_use) is not None]

    def on(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told what happens in all pools, present and future; the result ends that."""
        listeners = self._settings.listeners
        if not any(known is listener for known in listeners):  # as in a pool: two may be equal
            listeners.append(listener)
        for pool in self.pools():
            pool.on(listener)
        nodes = ref(self)  # who keeps what ends it keeps no client by that

        def off() -> None:
            listeners[:] = [known for known in listeners if known is not listener]
            for pool in () if (known := nodes()) is None else known.pools():
                pool.on(listener)()

        return off

    def stats(self) -> Stats:
        """Sum up what all pools tell, also those of nodes that the cluster has lost."""
        return total([*self._forgotten, *(node.stats() for node in self.known())])

    async def aclose(self, attr: str = "nodes_cache") -> None:
        """As redis-py's, unless it is about a command."""
        if not about_a_command():
            await super().aclose(attr)

    async def close(self, timeout: float | None) -> None:
        """Close all pools, after some grace; they open again when they are used."""
        # redis-py's sign that the topology is to be read anew.
        self.default_node: ClusterNode = cast("ClusterNode", None)
        ended = await asyncio.gather(
            *(node.close(timeout) for node in self.known()), return_exceptions=True
        )
        for result in ended:
            if isinstance(result, BaseException):
                raise result
