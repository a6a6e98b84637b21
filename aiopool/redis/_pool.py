"""`RedisPool`: the pool, with the face of redis-py's own."""

import re
from collections.abc import Iterable
from copy import deepcopy
from difflib import get_close_matches
from inspect import signature
from types import CoroutineType, EllipsisType
from typing import Any, Self, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.exceptions import AuthenticationError, AuthorizationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiopool._lending import Lending
from aiopool._limits import text
from aiopool._pool import Pool
from aiopool._stats import Holder, Stats

from ._connection import Accountable, accountable
from ._connector import RedisConnector
from ._errors import PoolClosed, PoolTimeout, TooManyWaiters


class _Core(Pool[Accountable]):
    """The pool proper: knows redis-py's errors and how often redis-py would try again."""

    _kind = "RedisPool"
    _closed_error = PoolClosed
    _timeout_error = PoolTimeout
    _rejected_error = TooManyWaiters
    retry: Retry

    def _worth_retrying(self, error: Exception, failures: int) -> bool:
        if isinstance(error, (AuthenticationError, AuthorizationError)):
            return False
        return (
            isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError))
            and failures <= self.retry.get_retries()
        )

    def _name_error(self, error: Exception) -> str:
        network = isinstance(error, (RedisConnectionError, RedisTimeoutError))
        return f"{type(error).__name__}: {error}" if network else super()._name_error(error)

    def idle_connections(self) -> list[Accountable]:
        """List the idle connections, the longest idle first. To look at, not to use."""
        return [] if self._places is None else [entry.conn for entry in self._places.idle]

    def lent_connections(self) -> list[Accountable]:
        """List the lent connections."""
        return [] if self._places is None else [e.conn for e in self._places.lent.values()]


class RedisPool(ConnectionPool):
    """A pool of `redis.asyncio` connections, to lend from or to give to a `Redis` client.

    ::

        pool = RedisPool("redis://localhost", max_size=20)
        client = redis.asyncio.Redis(connection_pool=pool)
    """

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
        name: str | None = None,
        max_connections: int | None = None,
        connection_class: type[AbstractConnection] = Connection,
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
            leak_after: If set, `holders()` tells where each connection was acquired.
            name: Shown in `repr` and error messages; the server's address by default.
            max_connections: redis-py's name for `max_size`.
            connection_class: A connection class of redis-py's, or derived from one.
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
            from_url = _from_url(str(url))
            max_connections = from_url.pop("max_connections", max_connections)
            connection_class = from_url.pop("connection_class", connection_class)
            timeout = from_url.pop("timeout", timeout)
            connection_kwargs |= from_url
        if max_connections is not None:
            if max_size not in {None, max_connections}:
                msg = f"max_connections={max_connections} contradicts max_size={max_size}"
                raise ValueError(msg)
            max_size = max_connections
        self._core = _Core(
            RedisConnector(self.make_connection),
            max_size=10 if max_size is None else max_size,
            min_size=min_size,
            timeout=timeout,
            max_waiting=max_waiting,
            max_idle=max_idle,
            max_lifetime=max_lifetime,
            check_after=check_after,
            max_opening=max_opening,
            leak_after=leak_after,
            name=_address(connection_kwargs) if name is None else name,
        )
        if retry is not None and not isinstance(retry, cast("Any", Retry)):
            msg = (
                f"retry must be a redis.asyncio.retry.Retry, not {retry!r} ({type(retry).__name__})"
            )
            raise TypeError(msg)
        self._core.retry = _default_retry() if retry is None else retry
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - typed in parts
            connection_class,
            self._core.stats().max_size,
            retry=self._core.retry,
            **connection_kwargs,
        )
        self._accountable = accountable(connection_class)
        try:
            self.make_connection()
        except TypeError as error:  # here, not at the first use
            raise TypeError(_explain(error, type(self), connection_class)) from None

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Self:
        """Make a pool from a URL, as redis-py calls it."""
        return cls(url, **kwargs)

    # ---- lending: plain functions, since a coroutine round a coroutine would double its cost ----

    def acquire(
        self, *, timeout: float | EllipsisType | None = ...
    ) -> "CoroutineType[Any, Any, AbstractConnection]":
        """Lend a connection, connected and ready; see `Pool.acquire`.

        Raises:
            PoolTimeout: None came free in time; also a `redis.exceptions.MaxConnectionsError`.
            TooManyWaiters: `max_waiting` callers wait already; also a `MaxConnectionsError`.
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
        """Lend a connection for the length of an `async with` block."""
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
        return Redis(connection_pool=self, **kwargs)

    # ---- lifecycle ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Open `min_size` connections; see `Pool.open`."""
        await self._core.open()

    async def aclose(self, timeout: float | None = 5.0) -> None:
        """Close the pool; see `Pool.aclose`."""
        await self._on_close()
        await self._core.aclose(timeout)

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
        self.max_connections = self._core.stats().max_size

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

    def __repr__(self) -> str:
        """Show address and state, none of the credentials."""
        return repr(self._core)

    # ---- the rest of redis-py's interface ----------------------------------------------------

    def make_connection(self) -> Accountable:
        """Make a connection that is not connected yet and not of this pool."""
        return self._accountable(**self.connection_kwargs)

    def can_get_connection(self) -> bool:
        """Whether `get_connection()` would get one without waiting for somebody else's return."""
        stats = self.stats()
        return stats.lent + stats.waiting < stats.max_size

    def reset(self) -> None:
        """Retire every connection."""
        self.drain()

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Retire every connection; lent ones are disconnected at once, under their holders."""
        self.drain()
        if inuse_connections:
            for connection in self._get_in_use_connections():
                await connection.disconnect(nowait=True)

    def set_retry(self, retry: Retry) -> None:
        """Set the retry policy of all connections, present and future."""
        self._core.retry = retry
        self.connection_kwargs["retry"] = retry
        for connection in [*self._get_free_connections(), *self._get_in_use_connections()]:
            connection.retry = retry

    async def re_auth_callback(self, token: Any) -> None:  # noqa: ARG002 - redis-py's signature
        """Retire every connection: new ones get their credentials from the provider."""
        self.drain()

    async def update_active_connections_for_reconnect(self) -> None:
        """Have lent connections closed on their return."""
        for connection in self._core.lent_connections():
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]  # not typed

    def get_connection_count(self) -> list[tuple[int, dict[str, Any]]]:
        """Give the numbers of idle and of lent connections with their metric attributes."""
        stats = self.stats()
        counted: Any = super()  # whose result redis-py types in part only
        (_, idle), (_, used) = counted.get_connection_count()
        return [(stats.idle, idle), (stats.lent, used)]

    def _get_free_connections(self) -> Iterable[AbstractConnection]:
        return self._core.idle_connections()

    def _get_in_use_connections(self) -> Iterable[AbstractConnection]:
        return self._core.lent_connections()


def _from_url(url: str) -> dict[str, Any]:
    """Read a URL with redis-py's reader, whose errors may quote a password that is not encoded."""
    try:
        return {**parse_url(url)}
    except ValueError as error:
        message = str(error)
    if not message.startswith(("Redis URL must", "Invalid value for")):
        message = (
            "it can't be read; are special characters in user name and password encoded (%2F)?"
        )
    msg = f"url is no Redis URL: {message}"
    raise ValueError(msg)


def _explain(error: TypeError, *classes: type) -> str:
    """Name an unknown option, and the known one that was meant, if one is like it."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return str(error)
    known = {name for c in classes for base in c.__mro__ for name in signature(base).parameters}
    similar = get_close_matches(unknown[1], known, n=1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    if similar == [unknown[1]]:
        hint = " that could stand in a URL: give it as a keyword"
    elif unknown[1].startswith("ssl"):
        hint = "; for TLS use a rediss:// URL or connection_class=redis.asyncio.SSLConnection"
    return f"RedisPool and its connections have no option {unknown[1]!r}{hint}"


def _default_retry() -> Retry:
    """Give the retry policy that `Redis()` makes for itself, but not for a pool made by hand."""
    retry = deepcopy(signature(Redis).parameters["retry"].default)
    assert isinstance(retry, Retry)  # noqa: S101 - for the type checkers; a test watches redis-py
    return retry


def _address(kwargs: dict[str, Any]) -> str:
    """Say which database it is, in a form that can't hold credentials."""
    where = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return f"{where}/{kwargs.get('db', 0)}"
