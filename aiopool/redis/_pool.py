"""`RedisPool`: the pool, with the face of redis-py's own."""

import warnings
from asyncio import gather
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from secrets import token_hex
from types import CoroutineType, EllipsisType
from typing import Any, ClassVar, Self, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.auth.token import TokenInterface
from redis.driver_info import DriverInfo

from aiopool._events import Listener
from aiopool._lending import Lending
from aiopool._limits import text, whole
from aiopool._stats import Holder, Stats, Waiting

from ._announcing import AnnouncingCore
from ._client import Client
from ._connection import Accountable
from ._connector import RedisConnector
from ._core import RedisCore
from ._lean import accountable
from ._options import (
    address,
    agreed_size,
    checked_class,
    checked_retry,
    default_retry,
    explained,
    from_url,
)
from ._pipelined import PipelinedRedis
from ._policy import RedisPolicy
from ._recorder import Recorder
from ._streaming import renew_from


class RedisPool(ConnectionPool):
    """A pool of `redis.asyncio` connections, to lend from or to give to a `Redis` client.

    ::

        pool = RedisPool("redis://localhost", max_size=20)
        client = redis.asyncio.Redis(connection_pool=pool)
    """

    _kind = "RedisPool"
    _how_to_use_tls = "a rediss:// URL or connection_class=redis.asyncio.SSLConnection"
    # A host is also what lets redis-py ask for maintenance notifications, as it does for a `Redis()`.
    _default_address: ClassVar[dict[str, Any]] = {"host": "localhost", "port": 6379}

    def __init__(  # noqa: PLR0913 - keywords, each documented
        self,
        url: str | None = None,
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
        name: str | None = None,
        max_connections: int | None = None,
        connection_class: type[AbstractConnection] = Connection,
        queue_class: object = None,
        retry: Retry | None = None,
        **connection_kwargs: Any,
    ) -> None:
        """Make a pool. No event loop need run yet, and nothing is opened before the first use.

        Args:
            url: As redis-py takes it: `redis://`, `rediss://` or `unix://`, with options in the query.
                What it says overrides the keywords.
            max_size: The most connections that may exist at any time; 10 by default.
            min_size: So many are kept open, once the pool is in use.
            timeout: Seconds that an `acquire()` may take in all. None: no limit, as with all below.
            max_waiting: How many callers may wait for a lent connection; one more is turned away.
            max_idle: Seconds after which an idle connection is closed, down to `min_size`.
            max_lifetime: Seconds after which a connection is closed, less up to 10 % at random.
            check_after: Seconds of idleness after which a connection is checked before it is lent.
            max_opening: How many openings may be under way at once.
            leak_after: Seconds after which a lent connection is told of, unless its holder subscribes;
                one lent to a task that has ended is told of at once. See `Pool`.
            reclaim: Whether a connection lent to a task that has ended is closed to make room.
            shed: Whether callers who would have to wait too long for their `timeout` are turned away.
            name: Shown in `repr` and error messages; the server's address by default.
            max_connections: redis-py's name for `max_size`.
            connection_class: A connection class of redis-py's, or derived from one.
            queue_class: Means nothing, as in redis-py's pools, which still take it. Deprecated.
            retry: redis-py's. It counts for commands on the connections, and its number for openings
                in a row that may fail before callers are told. That of `Redis()` by default.
            connection_kwargs: Any keyword of redis-py's connections, and
                `maint_notifications_config`.

        Raises:
            ValueError: An option is out of range, or the URL is none.
            TypeError: An option has the wrong type or is unknown.
            redis.exceptions.RedisError: redis-py takes no connection with such an option.

        """
        if text("url", url) is not None:
            said = from_url(str(url))
            max_connections = said.pop("max_connections", max_connections)
            connection_class = said.pop("connection_class", connection_class)
            timeout = said.pop("timeout", timeout)
            retry = said.pop("retry", retry)  # which no URL can tell
            connection_kwargs |= said
        if queue_class is not None:
            msg = "queue_class means nothing: idle connections are always taken last in, first out"
            warnings.warn(msg, DeprecationWarning, stacklevel=2)
        retry = default_retry() if retry is None else checked_retry(retry)
        # Always there, for those who look them up.
        defaults: dict[str, Any] = {
            "protocol": None,
            "legacy_responses": True,
            "decode_responses": False,
        }
        if not {"driver_info", "lib_name", "lib_version"} & connection_kwargs.keys():
            # One for all: redis-py reads it from its package's files, else for each connection.
            defaults["driver_info"] = DriverInfo()
        if issubclass(checked_class(connection_class), Connection):
            defaults |= self._default_address
        connection_kwargs = defaults | connection_kwargs
        policy = RedisPolicy(self._kind, retry)
        dispatcher = connection_kwargs.get("event_dispatcher")
        self._connector = RedisConnector(self.make_connection, dispatcher)
        make_core = (
            RedisCore if dispatcher is None else partial(AnnouncingCore, dispatcher=dispatcher)
        )
        self._core = make_core(
            self._connector,
            policy,
            max_size=agreed_size(max_size, max_connections),
            min_size=min_size,
            timeout=timeout,
            max_waiting=max_waiting,
            max_idle=max_idle,
            max_lifetime=max_lifetime,
            check_after=check_after,
            max_opening=max_opening,
            leak_after=leak_after,
            reclaim=reclaim,
            shed=shed,
            name=address(connection_kwargs) if name is None else name,
        )
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - typed in parts
            connection_class,
            self._core.stats().max_size,
            retry=retry,
            **connection_kwargs,
        )
        # Tells this pool's metrics from those of others to the same server.
        self._pool_id = token_hex(4)
        self._policy = policy
        policy.recorder = Recorder(
            self.connection_kwargs.get("host", "unknown"),
            self.connection_kwargs.get("port", 6379),
            self._pool_id,
            self._core.counts,
        )
        try:  # here, not at the first use
            RedisPool.make_connection(self)
        except TypeError as error:
            classes = type(self), connection_class
            raise TypeError(explained(error, self._kind, self._how_to_use_tls, *classes)) from None
        renew_from(connection_kwargs.get("credential_provider"), self)

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Self:
        """Make a pool from a URL, as redis-py calls it.

        Args:
            url: As for `RedisPool(url)`.
            kwargs: The keywords of `RedisPool`.

        """
        return cls(url, **kwargs)

    # ---- lending: plain functions, since a coroutine round a coroutine would double its cost ----

    def acquire(
        self, *, timeout: float | EllipsisType | None = ...
    ) -> "CoroutineType[Any, Any, AbstractConnection]":
        """Lend a connection, connected and ready; see `Pool.acquire`.

        Args:
            timeout: Seconds for this call in all; None waits for ever. Left out, it is the pool's
                `timeout`.

        Raises:
            PoolTimeout: None came free in time; also a `redis.exceptions.MaxConnectionsError`.
            PoolDeadlock: None can: all are lent to tasks that wait for one themselves, this one included.
                It is a `PoolTimeout`.
            TooManyWaiters: `max_waiting` callers wait already or, with `shed`, too many to be served in
                time; also a `MaxConnectionsError`.
            PoolClosed: The pool was closed; also a `redis.exceptions.ConnectionError`.
            WrongLoop: The pool is in use on another event loop.
            redis.exceptions.RedisError: Connecting goes on failing, with no connection left to
                wait for.

        """
        return self._core.acquire(timeout=timeout)  # type: ignore[return-value]  # mypy calls it a Coroutine

    def get_connection(
        self,
        command_name: str | None = None,  # noqa: ARG002 - redis-py's signature
        *keys: Any,  # noqa: ARG002 - likewise
        **options: Any,  # noqa: ARG002 - likewise
    ) -> "CoroutineType[Any, Any, AbstractConnection]":
        """Lend a connection under the name that redis-py calls it by. The arguments mean nothing."""
        return self._core.acquire()  # type: ignore[return-value]  # mypy calls it a Coroutine

    def release(self, connection: AbstractConnection) -> "CoroutineType[Any, Any, None]":
        """Give a connection back; see `Pool.release`."""
        # redis-py's interface says so; any connection that is none of ours is refused.
        return self._core.release(cast("Accountable", connection))  # type: ignore[return-value]  # mypy calls it a Coroutine

    def connection(
        self, *, timeout: float | EllipsisType | None = ...
    ) -> Lending[AbstractConnection]:
        """Lend a connection for the length of an `async with` block.

        Args:
            timeout: As for `acquire()`, as is what is raised.

        """
        return self._core.connection(timeout=timeout)

    def client(self, **kwargs: Any) -> Redis:
        """Make a client that lends through this pool and does not own it.

        Args:
            kwargs: The keywords of `redis.asyncio.Redis` that do not concern connections:
                `single_connection_client`, `event_dispatcher`, `credential_provider` (for the
                re-authentication of a streaming one).

        Raises:
            TypeError: Another keyword: connections are made as the pool was told to.

        """
        for name in kwargs:
            if name not in {"single_connection_client", "event_dispatcher", "credential_provider"}:
                msg = f"client() takes no {name!r}, which concerns connections: give it to the pool"
                raise TypeError(msg)
        return Client(connection_pool=self, **kwargs)

    def pipelined(
        self, *, lanes: int = 1, max_in_flight: int = 10_000, share_scripts: bool = True
    ) -> PipelinedRedis:
        """Make a client whose commands share few connections with those of all other tasks.

        Args:
            lanes: See `PipelinedRedis`, as for the others.
            max_in_flight: Likewise.
            share_scripts: Likewise.

        """
        return PipelinedRedis(
            self, lanes=lanes, max_in_flight=max_in_flight, share_scripts=share_scripts
        )

    def view(self, *, limit: int, name: str | None = None) -> "RedisPool":
        """Give a view of this pool that lends at most so many connections; see `Pool.view`.

        ::

            subscribers = redis.asyncio.Redis(connection_pool=pool.view(limit=3, name="pubsub"))

        It is a pool for a client's `connection_pool`, which opens and closes nothing itself.

        Args:
            limit: How many may be lent through it at a time.
            name: Shown in error messages and metrics.

        Raises:
            ValueError: `limit` is not from 1 to `max_size`.
            TypeError: An argument has the wrong type.

        """
        from ._view import RedisView  # noqa: PLC0415 - it is a RedisPool

        return RedisView(self, self._core.view(limit=limit, name=name))

    # ---- lifecycle ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Open `min_size` connections; see `Pool.open`."""
        await self._core.open()

    async def aclose(self, timeout: float | EllipsisType | None = ...) -> None:
        """Close the pool; see `Pool.aclose`.

        A pool that was opened with `open()` or `async with` stays closed until the next `open()`. One
        that opened by itself, at its first use, does so again when it is used, as redis-py's do.

        Args:
            timeout: For how many seconds lent connections may still come back. Left out: 5 if the
                pool was opened with `open()` or `async with`, else 0, as with redis-py's.

        Raises:
            WrongLoop: The pool is in use on another event loop.

        """
        await self._core.aclose(timeout)
        await self._on_close()

    async def __aenter__(self) -> Self:
        """Open the pool; if that fails, nothing of it stays behind."""
        await self._core.__aenter__()
        return self

    async def warm(self, n: int) -> int:
        """Open connections until `n` exist; see `Pool.warm`."""
        return await self._core.warm(n)

    def drain(self) -> None:
        """Retire every connection open now; see `Pool.drain`."""
        self._core.drain()

    def resize(self, *, max_size: int | None = None, min_size: int | None = None) -> None:
        """Change the size; see `Pool.resize`."""
        self._core.resize(max_size=max_size, min_size=min_size)

    @property
    def max_connections(self) -> int:
        """redis-py's name for `max_size`; setting it resizes the pool."""
        return self._core.stats().max_size

    @max_connections.setter
    def max_connections(self, value: int) -> None:
        self.resize(max_size=whole("max_connections", value, 1))

    # ---- what it tells -----------------------------------------------------------------------

    @property
    def name(self) -> str | None:
        """What it is called in `repr` and error messages."""
        return self._core.name

    def stats(self) -> Stats:
        """Count what is where now; see `Stats`."""
        return self._core.stats()

    def holders(self) -> list[Holder]:
        """Say who has the lent connections, the longest lent first."""
        return self._core.holders()

    def waiters(self) -> list[Waiting]:
        """Say who waits in line, in the order of arrival."""
        return self._core.waiters()

    @property
    def last_error(self) -> str | None:
        """What the last opening failed with, in words that know no secrets; None once one succeeds."""
        return self._core.last_error

    def on(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told what happens here from now on; see `Pool.on`."""
        return self._core.on(listener)

    def __del__(self) -> None:
        """Have redis-py's telemetry forget a pool that was dropped."""
        with suppress(Exception):  # it may not have got far in its constructor
            assert self._policy.recorder is not None  # noqa: S101 - for the type checkers
            self._policy.recorder.pool_is_gone()

    def __repr__(self) -> str:
        """Show address and state, none of the credentials."""
        return repr(self._core)

    # ---- the rest of redis-py's interface ----------------------------------------------------

    def make_connection(self) -> Accountable:
        """Make a connection that is not connected yet and not of this pool."""
        made = accountable(self.connection_class)  # type: ignore[arg-type]  # classes are hashable
        return made(**self.connection_kwargs)

    def can_get_connection(self) -> bool:
        """Whether `get_connection()` would get one without waiting for somebody else's return."""
        stats = self.stats()
        return stats.lent + stats.waiting < stats.max_size

    def get_available_connection(self) -> AbstractConnection:
        """Lend a connection at once, be it one that the caller has to connect.

        Raises:
            redis.exceptions.MaxConnectionsError: There can be no more, or others wait already.

        """
        return self._core.acquire_nowait(self.make_connection)

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Connect a lent connection, and anew if it is no good any more."""
        if isinstance(connection, Accountable) and not connection.is_sound():
            await connection.disconnect(nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call]  # not typed

    def reset(self) -> None:
        """Retire every connection."""
        self.drain()

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Retire every connection; lent ones are disconnected at once, under their holders.

        Args:
            inuse_connections: redis-py's: whether lent ones are, or are closed on their return.

        """
        self.drain()
        lent = self._core.lent_connections() if inuse_connections else []
        results = await gather(
            *(connection.disconnect(nowait=True) for connection in lent), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def set_retry(self, retry: Retry) -> None:
        """Set the retry policy of all connections, present and future."""
        checked_retry(retry)
        self._core.retire(())  # what is being opened was made with the old one
        self._policy.retry = self.connection_kwargs["retry"] = retry
        for connection in [*self._get_free_connections(), *self._get_in_use_connections()]:
            connection.retry = deepcopy(retry)  # as redis-py does for new ones

    async def re_auth_callback(self, token: TokenInterface) -> None:
        """Show a new token on every connection: on idle ones at once, on lent ones at their return.

        It is shown once, however many clients of this pool pass it on. Where it is refused, the
        connection is closed.
        """
        if not self._connector.knows(token):
            self._core.recheck()  # first, since it is refused to another thread
            self._connector.token = token

    async def update_active_connections_for_reconnect(self) -> None:
        """Have lent connections closed on their return, and not use what is being opened."""
        self._core.retire(())
        for connection in self._core.busy_connections():
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]  # not typed

    # Code of redis-py's, and of users who had no other way to see them, counts these.

    @property
    def _available_connections(self) -> list[AbstractConnection]:
        return [*self._core.idle_connections()]

    @_available_connections.setter
    def _available_connections(self, _: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - to be read only
        """Let redis-py's constructor believe that it has made a list."""

    @property
    def _in_use_connections(self) -> set[AbstractConnection]:
        return {*self._core.lent_connections()}

    @_in_use_connections.setter
    def _in_use_connections(self, _: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - to be read only
        """Likewise."""

    # What redis-py's part for maintenance notifications asks for. It works on these lists under a
    # lock, since its pools' lists change while it waits. Here it never waits, so it can't be disturbed.

    async def cleanup_moving_notification(self, *args: Any, **kwargs: Any) -> None:
        """As redis-py's; what is being opened was told of the move, but not of its end."""
        await super().cleanup_moving_notification(*args, **kwargs)
        self._core.retire(())

    def _get_in_use_connections(self) -> Iterable[AbstractConnection]:
        return self._core.busy_connections()

    async def _disconnect_connections(self, connections: Iterable[AbstractConnection]) -> None:
        self._core.retire(cast("tuple[Accountable, ...]", tuple(connections)))

    async def _update_maint_notifications_configs_for_connections(
        self, *args: Any, **kwargs: Any
    ) -> None:
        self.drain()  # so that none is free, where redis-py would wait
        await super()._update_maint_notifications_configs_for_connections(*args, **kwargs)
