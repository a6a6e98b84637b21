"""`RedisCluster`: redis-py's client of a cluster, of which each node has a pool."""

from asyncio import AbstractEventLoop, Lock, gather, get_running_loop
from collections.abc import Callable
from typing import Any, Self, cast

import redis.asyncio.cluster
from redis.asyncio import RedisCluster as _RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.cluster import SLOT_ID
from redis.commands import READ_COMMANDS
from redis.commands.policies import AsyncStaticPolicyResolver
from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    RedisClusterException,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.observability.providers import get_observability_instance

from aiopool._errors import PoolError
from aiopool._events import Listener, checked
from aiopool._limits import seconds
from aiopool._stats import Holder, Stats
from aiopool.redis._at_once import at_once
from aiopool.redis._errors import PoolClosed
from aiopool.redis._lean import is_redis_pys
from aiopool.redis._options import agreed_size, from_url

from ._about import about_a_command, command_since, for_a_command
from ._node import Node
from ._nodes import Nodes
from ._pipeline import ClusterPipeline
from ._pubsub import ClusterPubSub, KeyspaceNotifications
from ._routes import Commands, Positions, slot_of
from ._settings import Settings

theirs: Any = _RedisCluster  # not typed

# Their method, of a version of which the ways are known, if nobody has put something round it.
USUAL: Any = (
    theirs.execute_command
    if is_redis_pys(theirs.execute_command, redis.asyncio.cluster.__file__)
    else None
)


# Replies after which redis-py goes on elsewhere, or later.
_GO_ON = AskError, ClusterDownError, TryAgainError  # the first is also that of MOVED


class RedisCluster(_RedisCluster):
    """A `redis.asyncio.RedisCluster` whose commands wait in line at each node.

    ::

        async with RedisCluster("localhost", 7000, max_size=20) as cluster:
            await cluster.set("key", "value")
    """

    nodes_manager: Nodes

    def __init__(  # noqa: PLR0913 - keywords, each documented
        self,
        host: str | None = None,
        port: str | int = 6379,
        startup_nodes: list[ClusterNode] | None = None,
        *,
        max_size: int | None = None,
        min_size: int = 0,
        timeout: float | None = 5.0,
        max_waiting: int | None = None,
        max_idle: float | None = 300.0,
        max_lifetime: float | None = 3600.0,
        check_after: float | None = 30.0,
        max_opening: int = 4,
        leak_after: float | None = None,
        reclaim: bool = False,
        shed: bool = False,
        lanes: int | None = None,
        max_in_flight: int = 10_000,
        share_scripts: bool = True,
        max_connections: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a client. Nothing is opened before `initialize()`, `async with` or the first command.

        Args:
            host: That of any node.
            port: Likewise.
            startup_nodes: Nodes to ask for the others, instead or as well.
            max_size: The most connections to each node at any time; 10 by default. What follows is
                for each node as well, and as in `RedisPool`.
            min_size: So many are kept open to each node that is in use.
            timeout: Seconds that a command may wait for a connection to the node it goes to. A
                command that is sent to another node, or once more, may wait again.
            max_waiting: How many may wait at a node; one more is turned away.
            max_idle: Seconds after which an idle connection is closed, down to `min_size`.
            max_lifetime: Seconds after which a connection is closed, less up to 10 % at random.
            check_after: Seconds of idleness after which a connection is checked before it is lent.
            max_opening: How many openings may be under way at once, to each node.
            leak_after: Seconds after which a lent connection is told of; see `RedisPool`.
            reclaim: Whether a connection lent to a task that has ended is closed to make room.
            shed: Whether callers who would have to wait too long for their `timeout` are turned away.
            lanes: If set, commands share up to so many connections to each node, as with
                `RedisPool.pipelined()`. None: each has a connection of its own while it lasts.
            max_in_flight: How many commands may be under way on the lanes of a node.
            share_scripts: Whether scripts and functions share, too.
            max_connections: redis-py's name for `max_size`.
            kwargs: Any other keyword of `redis.asyncio.RedisCluster`.

        Raises:
            ValueError: An option is out of range.
            TypeError: An option has the wrong type or is unknown.
            redis.exceptions.RedisClusterException: No node is given, or an option that clusters don't
                have.

        """
        settings = Settings(
            {
                "max_size": agreed_size(max_size, max_connections),
                "min_size": min_size,
                "timeout": timeout,
                "max_waiting": max_waiting,
                "max_idle": max_idle,
                "max_lifetime": max_lifetime,
                "check_after": check_after,
                "max_opening": max_opening,
                "leak_after": leak_after,
                "reclaim": reclaim,
                "shed": shed,
            },
            lanes,
            max_in_flight,
            share_scripts,
        )
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - typed in parts
            host, port, startup_nodes, max_connections=settings.pool["max_size"], **kwargs
        )
        self.closings: int = 0  # so often it was closed
        self.nodes_manager = Nodes(self.nodes_manager, settings, self.refuse_if_closed)
        self.startup_nodes: list[ClusterNode] = [*self.nodes_manager.startup_nodes.values()]
        self.commands_parser: Commands = Commands()
        self.commands_parser.primaries = self.get_primaries
        self._settings = settings
        self._loop: AbstractEventLoop | None = None  # of the last use
        self._positions: dict[str, Positions] = {}  # of the keys, by the command's name

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Self:
        """Make a client from a URL.

        Args:
            url: With options in its query, which override the keywords.
            kwargs: The keywords of `RedisCluster`.

        """
        kwargs |= from_url(url)
        if kwargs.pop("connection_class", None) is SSLConnection:
            kwargs["ssl"] = True
        return cls(**kwargs)

    # ---- commands ----------------------------------------------------------------------------

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's.

        Raises:
            PoolTimeout: No connection to the node came free in time. (As `TooManyWaiters` it is also
                redis-py's `MaxConnectionsError`, and neither is a reason to read the topology anew.)
            TooManyWaiters: `max_waiting` callers wait at the node already or, with `shed`, too many.
            redis.exceptions.RedisError: As redis-py's.

        """
        since, epoch = self.closings, self.nodes_manager.epoch
        node = self._node_for(args, kwargs)
        if node is not None:
            try:
                return await node.ask(args, kwargs)
            except PoolError:
                raise
            except Exception as error:
                if isinstance(error, (DataError, ResponseError)) and not isinstance(error, _GO_ON):
                    error.connection = node  # type: ignore[union-attr]  # as redis-py does
                    raise
                kwargs["failure"] = [(node, error, epoch)]
        try:
            with for_a_command(since):
                if cast("Any", self.nodes_manager).default_node is None:
                    await self.initialize()  # or redis-py would send the first command to any node
                return await super().execute_command(*args, **kwargs)
        finally:
            kwargs.pop("failure", None)  # or it would refer to itself by way of this frame

    def _node_for(self, args: tuple[Any, ...], options: dict[str, Any]) -> Node | None:
        """Find the node that a command goes to, if that is known, and nothing else is to be minded.

        So nobody waits while the topology is to be read anew, but who needs a node of which that is doubted.
        """
        nodes: Any = self.nodes_manager  # typed in parts
        if (
            nodes.default_node is None
            or theirs.execute_command is not USUAL
            or "target_nodes" in options
            or NEVER_DECODE in options
            or EMPTY_RESPONSE in options
            or get_observability_instance().is_enabled()
        ):
            return None
        name = args[0]
        try:
            positions: Positions | None = self._positions[name]
        except (KeyError, TypeError, ValueError):  # it is not known, or can't be a key
            positions = self._find_positions(name)
        if positions is None:
            return None
        try:
            slot = slot_of(args, positions, self.encoder)
            if slot is None:
                return None
            node: Node  # by annotation, since a cast is one more call
            if (self.read_from_replicas or self.load_balancing_strategy) and name in READ_COMMANDS:
                node = nodes.get_node_from_slot(
                    slot, self.read_from_replicas, self.load_balancing_strategy
                )
            else:
                node = nodes.slots_cache[slot][0]
        except (DataError, IndexError, KeyError, SlotNotCoveredError):  # redis-py finds the words
            return None
        return None if self._initialize and node.doubted else node

    def _find_positions(self, name: object) -> Positions | None:
        if not isinstance(name, str):
            return None
        resolver: object = self._policy_resolver
        found = None
        if (
            name not in self.command_flags
            and name not in self.result_callbacks
            and type(resolver) is AsyncStaticPolicyResolver
            and name.count(".") <= 1
            and at_once(resolver.resolve(name.lower())) is None
        ):
            found = self.commands_parser.key_positions(name)
        if found is not None:  # else it may be a command in one string, perhaps a secret
            self._positions[name] = found
        return found

    def knows_slot_of(self, args: tuple[Any, ...]) -> bool:
        """Whether `find_slot()` asks no server about this command."""
        name = args[0]
        return (
            self.commands_parser.knows(name)
            or name.upper() in {"EVAL", "EVALSHA"}
            or self.command_flags.get(name) == SLOT_ID
        )

    async def find_slot(self, *args: Any) -> int:
        """Find the slot of a command's keys, in redis-py's way."""
        return await self._determine_slot(*args)

    async def _execute_command(
        self,
        target_node: ClusterNode,
        *args: Any,
        failure: list[tuple[Node, Exception, int]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As redis-py's, but the first try may have failed already."""
        if failure:
            node, error, epoch = failure.pop()
            try:
                if epoch == self.nodes_manager.epoch:
                    target_node, kwargs["failure"] = node, [error]
                elif not isinstance(error, _GO_ON):
                    raise error  # nothing else is to be done: the topology was read since
            finally:
                del error  # or, when raised again, it would refer to itself by way of this frame
        with for_a_command(self.closings):  # in a task of its own, if it goes to several nodes
            return await super()._execute_command(target_node, *args, **kwargs)

    def pipeline(
        self, transaction: Any | None = None, shard_hint: Any | None = None
    ) -> ClusterPipeline:
        """As redis-py's."""
        if shard_hint:
            super().pipeline(transaction, shard_hint)  # which raises
        return ClusterPipeline(self, transaction)  # type: ignore[abstract]  # by its annotations only

    def pubsub(
        self,
        node: ClusterNode | None = None,
        host: str | None = None,
        port: int | None = None,
        **kwargs: Any,
    ) -> ClusterPubSub:
        """As redis-py's. It holds a connection to each node where it is subscribed."""
        return ClusterPubSub(self, node=node, host=host, port=port, **kwargs)

    def keyspace_notifications(
        self, key_prefix: str | bytes | None = None, ignore_subscribe_messages: bool = True
    ) -> KeyspaceNotifications:
        """As redis-py's. They hold a connection to each primary."""
        return KeyspaceNotifications(
            self, key_prefix=key_prefix, ignore_subscribe_messages=ignore_subscribe_messages
        )

    # ---- lifecycle ---------------------------------------------------------------------------

    async def aclose(self, timeout: float | None = 0.0) -> None:
        """Close all connections: callers in line get `PoolClosed` at once, lent connections some grace.

        As with redis-py's, a client that is used afterwards opens connections again.

        Args:
            timeout: For how many seconds lent connections may still come back. None waits for ever, 0 not
                at all.

        Raises:
            WrongLoop: The pools are in use on another event loop.

        """
        seconds("timeout", timeout)
        self._initialize = True
        if about_a_command():
            return
        self.closings += 1
        handler: Any = self._oss_cluster_maint_notifications_handler  # typed in parts
        if handler is not None:
            tasks = [*handler._background_tasks]  # noqa: SLF001 - as redis-py does
            for task in tasks:
                task.cancel()
            await gather(*tasks, return_exceptions=True)
        await self.nodes_manager.close(timeout)

    async def initialize(self, *args: Any, **kwargs: Any) -> Self:
        """As redis-py's: read the topology, if that is due.

        Raises:
            PoolClosed: It is for a command, and the client was closed since that was begun.

        """
        self.refuse_if_closed()
        self._settle()
        with for_a_command(self.closings):
            try:
                await super().initialize(*args, **kwargs)
                if command_since() != self.closings:  # the client was closed meanwhile
                    self._initialize = True
                    self.refuse_if_closed()
            except BaseException as error:
                if not self.nodes_manager.nodes_cache:  # nothing of it stays behind
                    await self.nodes_manager.close(0.0)
                if isinstance(error, RedisClusterException):
                    self.refuse_if_closed()  # which may be why it could not be read
                raise
        return self

    def _settle(self) -> None:
        """Make locks for this event loop, if those there are may belong to one that is closed."""
        loop = get_running_loop()
        if self._loop is not loop and (self._loop is None or self._loop.is_closed()):
            self._loop, self._lock, self._usage_lock = loop, None, Lock()
            self.nodes_manager.settle()

    def refuse_if_closed(self) -> None:
        """Refuse to go on with a command that was begun before the client was closed."""
        if command_since() not in {None, self.closings}:
            msg = f"{self!r} was closed"
            raise PoolClosed(msg)

    def drain(self) -> None:
        """Retire every connection open now, to all nodes; see `Pool.drain`."""
        for pool in self.nodes_manager.pools():
            pool.drain()

    def resize(self, *, max_size: int | None = None, min_size: int | None = None) -> None:
        """Change the size of each node's pool, also of those yet to be found; see `Pool.resize`.

        Raises:
            ValueError: A size is out of range, or `min_size` above `max_size`; nothing changes.
            TypeError: A size is no int.

        """
        self._settings.resize(max_size, min_size)
        for pool in self.nodes_manager.pools():
            pool.resize(max_size=max_size, min_size=min_size)

    # ---- what it tells -----------------------------------------------------------------------

    def stats(self) -> Stats:
        """Count what is where now, at all nodes together; totals also of those that were lost."""
        return self.nodes_manager.stats()

    def node_stats(self) -> dict[str, Stats]:
        """Count it for each node of the cluster, by its name, `host:port`."""
        nodes = cast("dict[str, Node]", self.nodes_manager.nodes_cache)
        # Of a copy, which is made in one step: another thread may ask.
        return {name: node.stats() for name, node in nodes.copy().items()}

    def holders(self) -> list[Holder]:
        """Say who has the lent connections of all nodes, the longest lent first."""
        found = [holder for pool in self.nodes_manager.pools() for holder in pool.holders()]
        return sorted(found, key=lambda holder: holder.since)

    def on(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told what happens at all nodes, present and future; see `Pool.on`."""
        return self.nodes_manager.on(checked(listener))

    def __repr__(self) -> str:
        """Show the state, and nothing of the credentials."""
        return f"<RedisCluster of {len(self.nodes_manager.nodes_cache)} nodes ({self.stats()})>"
