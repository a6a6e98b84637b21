"""One server of a cluster, with a pool."""

import asyncio
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, cast

import redis.himport
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.auth.token import TokenInterface
from redis.backoff import NoBackoff
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.cluster import PRIMARY
from redis.exceptions import AskError, MaxConnectionsError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiopool._errors import likeness
from aiopool._stats import Stats, total
from aiopool.redis._at_once import at_once
from aiopool.redis._client import called
from aiopool.redis._connection import Accountable
from aiopool.redis._core import RedisCore
from aiopool.redis._errors import PoolTimeout
from aiopool.redis._lane import Final
from aiopool.redis._ledger import Ledger, noteworthy
from aiopool.redis._pipelined import PipelinedRedis
from aiopool.redis._pool import RedisPool

from ._settings import Settings

_parse_himport_set = cast("Any", redis.himport).parse_himport_set_args  # not typed

_ASKING = ("ASKING",)


class Owner(Protocol):
    """Who knows of the nodes of a client."""

    async def learn(self, error: AskError, /) -> None:
        """Hear of a node that has a slot, or a key for now, and may not be known yet."""
        ...

    def remember(self, node: "Node", /) -> "Node":
        """Hear that this one is to have a pool; gives the one that has that of its address."""
        ...

    def refuse_if_closed(self) -> None:
        """Raise `PoolClosed` in a command that was begun before the client was closed."""
        ...


class Node(ClusterNode):
    """As redis-py's, but its commands wait in line for a connection of a `RedisPool`."""

    def __init__(
        self,
        host: str,
        port: int,
        server_type: str | None,
        *,
        settings: Settings,
        owner: Owner,
        **connection_kwargs: Any,
    ) -> None:
        """Make no pool before it is needed.

        Args:
            host: The server's, as for the others.
            port: Likewise.
            server_type: Primary or replica, in redis-py's words.
            settings: The options of the pool.
            owner: What it tells, and asks.
            connection_kwargs: Those of the connections.

        """
        self._settings = settings
        self._owner = owner
        self.doubted: bool = False  # it has failed since the topology was read
        self._asking: asyncio.Task[Any] | None = None  # whose next command follows an ASKING
        super().__init__(host, port, server_type, **connection_kwargs)

    @cached_property
    def pool(self) -> RedisPool:
        """The pool of this node; a new one if it was forgotten, which who has had it can't know."""
        known = self._owner.remember(self)
        if known is not self:
            return known.pool
        # Not in the context of whoever happens to be first.
        return self._settings.context.copy().run(self._make_pool)

    def _make_pool(self) -> RedisPool:
        pool = RedisPool(
            name=self.name,
            connection_class=self.connection_class,
            # Trying again is the cluster client's business: the next try may be due elsewhere.
            retry=Retry(NoBackoff(), 0, supported_errors=(RedisConnectionError,)),
            **self._settings.pool,
            **self.connection_kwargs,
        )
        for listener in self._settings.listeners:
            pool.on(listener)
        return pool

    @property
    def pool_in_use(self) -> RedisPool | None:
        """The pool, if it was ever needed."""
        return vars(self).get("pool")

    @property
    def _core(self) -> RedisCore | None:
        pool = self.pool_in_use
        core: RedisCore | None = getattr(pool, "_core", None)  # one thing in two files
        return core

    @cached_property
    def _lanes(self) -> PipelinedRedis | None:
        if (sharing := self._settings.sharing) is None:
            return None
        lanes = min(sharing["lanes"], self.pool.max_connections)  # which may be smaller by now
        client = self.pool.pipelined(**sharing | {"lanes": lanes})
        client.response_callbacks = self.response_callbacks
        return client

    def stats(self) -> Stats:
        """Count what is where now; see `Stats`."""
        if (pool := self.pool_in_use) is not None:
            return pool.stats()
        sizes = {size: self._settings.pool[size] for size in ("max_size", "min_size")}
        return replace(total([]), **sizes)

    # ---- commands ----------------------------------------------------------------------------

    async def ask(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Send a command of which nothing else is to be minded, and give its reply."""
        if self._lanes is not None:
            try:
                return await self._lanes.unobserved(args, options)
            except Final as wrapper:
                refused = [wrapper.error]
            raise self._reason(refused.pop())
        pool = self.pool
        try:
            conn: Any = await pool.acquire()
        except MaxConnectionsError as error:
            refused = [error]
        else:
            try:
                send_now = getattr(conn, "send_now", None)  # which not all classes have
                if send_now is None or not send_now(args):
                    await conn.send_command(*args)
                reply = await conn.read_response()
                callback = self.response_callbacks.get(args[0])
                return reply if callback is None else await called(callback, reply, options)
            finally:
                await pool.release(conn)
        raise self._reason(refused.pop())

    async def acquire(self) -> AbstractConnection:
        """Lend a connection as the pool does, but tell a node that was never reached as such."""
        try:
            return await self.pool.acquire()
        except MaxConnectionsError as error:
            refused = [error]
        raise self._reason(refused.pop())

    def _reason(self, error: Exception) -> Exception:
        """Name the node in the pool's error; if it was not reached at all, give what prevents that.

        With the pool's own error redis-py looks for no other node.
        """
        stats = self.stats()
        if isinstance(error, PoolTimeout) and stats.size == stats.opening:
            if isinstance(error.__cause__, Exception):
                return likeness(error.__cause__)
            if self._settings.pool["timeout"]:  # else it was not waited for
                return RedisTimeoutError(f"{self.name}: {error}")
        if isinstance(error, MaxConnectionsError):
            error.args = (f"{self.name}: {error}",)
        return error

    async def execute_command(
        self,
        *args: Any,
        asking: bool = False,
        failure: list[Exception] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As redis-py's.

        Args:
            args: The command.
            asking: Whether `HIMPORT SET` is to follow an `ASKING`.
            failure: How the first try has ended, if there was one.
            kwargs: The options of the response's callback.

        """
        self._owner.refuse_if_closed()
        try:
            if failure:
                raise failure.pop()
            if args == _ASKING:  # sent by itself it would be heard on any connection
                self._asking = asyncio.current_task()
                return True
            asks, self._asking = self._asking is asyncio.current_task(), None
            if asks:
                return await self._ask_after(_ASKING, args, kwargs)
            himport = _parse_himport_set(args)  # before which redis-py prepares the connection
            if himport is not None or NEVER_DECODE in kwargs or EMPTY_RESPONSE in kwargs:
                return await self._ask_in_redis_pys_way(args, himport, asking, kwargs)
            return await self.ask(args, kwargs)
        except AskError as error:
            await self._owner.learn(error)
            raise

    async def _ask_after(
        self, first: tuple[Any, ...], args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Send a command right after one that it needs, on the same connection."""
        pool = self.pool
        conn = cast("Any", await self.acquire())
        try:
            await conn.send_packed_command(conn.pack_commands((first, args)))
            await conn.read_response()
            reply = await self.parse_response(conn, args[0], **options)
            if noteworthy(args) is None and isinstance(conn, Accountable):
                conn.ledger = Ledger()  # what the first allows, it allows once
            return reply
        finally:
            await pool.release(conn)

    async def _ask_in_redis_pys_way(
        self, args: tuple[Any, ...], himport: Any, asking: bool, options: dict[str, Any]
    ) -> Any:
        pool = self.pool
        conn = cast("Any", await self.acquire())
        try:
            if himport is not None:
                node = cast("Any", self)  # typed in parts
                return await node._himport_execute_set(conn, *himport, asking=asking)  # noqa: SLF001 - its own
            await conn.send_command(*args)
            return await self.parse_response(conn, args[0], **options)
        finally:
            await pool.release(conn)

    async def execute_pipeline(self, commands: list[Any]) -> bool:
        """As redis-py's: send all at once; says whether any of them has failed."""
        for command in commands:
            command.task = asyncio.current_task()
        pool = self.pool
        conn = cast("Any", await self.acquire())
        try:
            await self._himport_prepare_pipeline(conn, commands)
            await conn.send_packed_command(conn.pack_commands(c.args for c in commands))
            for command in commands:
                try:
                    command.result = await self.parse_response(
                        conn, command.args[0], **command.kwargs
                    )
                except Exception as error:  # noqa: BLE001 - it is the command's result
                    command.result = error
            return not all(command.answered for command in commands)
        finally:
            await pool.release(conn)
            # Or errors among their results would refer to themselves by way of this frame.
            del commands

    # ---- the rest of redis-py's interface ------------------------------------------------------

    def acquire_connection(self) -> AbstractConnection:  # type: ignore[override]
        """Lend a connection at once, be it one that the caller has to connect.

        Raises:
            redis.exceptions.MaxConnectionsError: There can be no more, or others wait already.

        """
        return self.pool.get_available_connection()

    def release(self, connection: AbstractConnection) -> None:
        """Give a connection back."""
        at_once(self.pool.release(connection))

    async def disconnect(self) -> None:
        """Close all connections, lent ones too, and send away who waits; the next use opens new ones."""
        await self.close(0.0)

    async def close(self, timeout: float | None) -> None:
        """Close the pool, which opens again when it is used; see `RedisPool.aclose`."""
        if (pool := self.pool_in_use) is not None:
            await pool.aclose(timeout)

    def update_active_connections_for_reconnect(self) -> None:
        """Have every connection checked before it is lent again: one of them has failed."""
        self.doubted = True
        if (core := self._core) is not None:
            core.recheck()

    async def disconnect_free_connections(self) -> None:
        """Do nothing: what is idle is checked already, see above."""

    def play(self, server_type: str | None) -> None:
        """Take the role of a primary or a replica; who waits for a primary will find the next."""
        self.doubted = False
        before, self.server_type = self.server_type, server_type
        if before == PRIMARY != server_type:
            self._send_away()

    def join(self, server_type: str | None) -> None:
        """Be one of the cluster's nodes, perhaps again."""
        self.doubted, self.server_type = False, server_type
        if (pool := self.pool_in_use) is not None:
            pool.resize(min_size=self._settings.pool["min_size"])

    def leave(self) -> None:
        """Have no connections any more, as soon as none is in use: the cluster has lost this node."""
        if (pool := self.pool_in_use) is not None:
            pool.resize(min_size=0)
            self._send_away()
            pool.drain()

    def forget(self) -> None:
        """Have no pool any more, of which no connection is left."""
        for name in ("pool", "_lanes"):
            vars(self).pop(name, None)

    def _send_away(self) -> None:
        if (core := self._core) is not None:
            core.send_away(
                RedisConnectionError(f"{self.name} is no primary of the cluster any more")
            )

    async def re_auth_callback(self, token: TokenInterface) -> None:
        """Show a new token on every connection; see `RedisPool.re_auth_callback`."""
        if (pool := self.pool_in_use) is not None:
            await pool.re_auth_callback(token)

    @property
    def _free(self) -> Any:
        return [] if self._core is None else [*self._core.idle_connections()]

    @_free.setter
    def _free(self, _: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - to be read only
        """Let redis-py's constructor believe that it has made one."""

    @property
    def _connections(self) -> Any:
        return [] if self._core is None else [*self._free, *self._core.busy_connections()]

    @_connections.setter
    def _connections(self, _: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - likewise
        """Likewise."""
