"""`SentinelPool`: a `RedisPool` whose connections lead where Sentinel says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from inspect import iscoroutinefunction
from random import randrange
from types import EllipsisType
from typing import Any, ClassVar, Self, cast
from weakref import proxy

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
    SlaveNotFoundError,
)

from aiopool._limits import flag
from aiopool.redis._managed import Managed
from aiopool.redis._options import checked_class
from aiopool.redis._pool import RedisPool

from ._discovery import Address, Discovery, discovery_of

_MISSING = object()


class SentinelPool(RedisPool):
    """A pool of connections to a master that Sentinel names, or to its replicas.

    ::

        sentinel = redis.asyncio.sentinel.Sentinel([("localhost", 26379)])
        master = sentinel.master_for("mymaster", connection_pool_class=SentinelPool, max_size=20)

    When the master is replaced, no connection to the old one is lent again: the pool hears of it from
    Sentinel, asks it for each new connection, and believes a server that says it is a replica.
    """

    _kind = "SentinelPool"
    _how_to_use_tls = "ssl=True"
    _default_address: ClassVar[dict[str, Any]] = {}  # Sentinel knows it

    def __init__(  # noqa: PLR0913 - keywords, each documented
        self,
        service_name: str,
        sentinel_manager: Sentinel,
        *,
        is_master: bool = True,
        check_connection: bool = False,
        fall_back_to_master: bool = True,
        ssl: bool = False,
        connection_class: type[AbstractConnection] | None = None,
        **options: Any,
    ) -> None:
        """Make a pool, as redis-py's `Sentinel.master_for()` and its like do.

        Args:
            service_name: What Sentinel calls the master.
            sentinel_manager: A `redis.asyncio.sentinel.Sentinel`. Pools of the same one ask it together.
            is_master: Whether to connect to the master or to its replicas, in turn.
            check_connection: redis-py's: whether a new connection begins with a `PING`.
            fall_back_to_master: Whether the master serves if no replica can be reached.
            ssl: Whether to use TLS, if there is no `connection_class`.
            connection_class: redis-py's `SentinelManagedConnection`, or derived from it.
            options: Those of `RedisPool`, but for `url`.

        Raises:
            ValueError: An option is out of range.
            TypeError: An option has the wrong type or is unknown.
            redis.exceptions.RedisError: redis-py takes no connection with such an option.

        """
        if not isinstance(cast("object", service_name), str):
            msg = (
                f"service_name must be a str, not {service_name!r} ({type(service_name).__name__})"
            )
            raise TypeError(msg)
        for method in ("discover_master", "discover_slaves"):
            if not iscoroutinefunction(getattr(sentinel_manager, method, None)):
                kind = type(sentinel_manager)
                msg = (
                    "sentinel_manager must be a redis.asyncio.sentinel.Sentinel, "
                    f"not a {kind.__module__}.{kind.__name__}"
                )
                raise TypeError(msg)
        for name, value in [
            ("is_master", is_master),
            ("check_connection", check_connection),
            ("fall_back_to_master", fall_back_to_master),
            ("ssl", ssl),
        ]:
            flag(name, value)
        if "url" in options:
            msg = "SentinelPool takes no url: Sentinel says where to connect"
            raise TypeError(msg)
        if connection_class is None:
            connection_class = SentinelManagedSSLConnection if ssl else SentinelManagedConnection
        if not issubclass(checked_class(connection_class), SentinelManagedConnection):
            msg = (
                "connection_class must be derived from "
                "redis.asyncio.sentinel.SentinelManagedConnection, "
                f"not {connection_class!r}"
            )
            raise TypeError(msg)
        self.service_name = service_name
        self.sentinel_manager = sentinel_manager
        self.is_master = is_master
        self.check_connection = check_connection
        self.fall_back_to_master = fall_back_to_master
        self.slave_rr_counter: int | None = None
        self._discovery: Discovery | None = None  # on the loop of the last use
        self._told = options | {
            "check_connection": check_connection,
            "fall_back_to_master": fall_back_to_master,
            "ssl": ssl,
            "connection_class": connection_class,
        }
        options.setdefault("name", f"{service_name} ({self._role})")
        super().__init__(
            connection_class=connection_class,
            connection_pool=proxy(self),
            **options,
        )

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Self:  # noqa: ARG003 - redis-py's signature
        """Refuse, as there is no URL for it.

        Raises:
            TypeError: Always.

        """
        msg = "SentinelPool takes no url: Sentinel says where to connect"
        raise TypeError(msg)

    @property
    def _role(self) -> str:
        return "master" if self.is_master else "replica"

    def shared(
        self, service_name: str, sentinel_manager: Sentinel, *, is_master: bool = True, **told: Any
    ) -> "SentinelPool":
        """Have several clients use this pool, none of which closes it.

        ::

            pool = SentinelPool("mymaster", sentinel, max_size=20)
            client = sentinel.master_for("mymaster", connection_pool_class=pool.shared)

        Args:
            service_name: As the pool's, like all that redis-py passes on.
            sentinel_manager: Likewise.
            is_master: Likewise.
            told: Likewise, options of the Sentinel's `connection_kwargs` included.

        Raises:
            ValueError: The pool is for another service, Sentinel or role, or has another option.

        """
        own = (self.service_name, self.sentinel_manager, self.is_master)
        if own != (service_name, sentinel_manager, is_master):
            role = "master" if is_master else "replica"
            msg = f"{self!r} can't be shared as {service_name!r} ({role})"
            if sentinel_manager is not self.sentinel_manager:
                msg += f" of {sentinel_manager!r}"
            raise ValueError(msg)
        mine = {**self.connection_kwargs, **self._told}
        for name, value in told.items():
            if mine.get(name, _MISSING) != value:  # of which the value may be a secret
                msg = f"{self!r} is shared with another {name!r} than it was made with"
                raise ValueError(msg)
        return _Shared(self)

    async def aclose(self, timeout: float | EllipsisType | None = ...) -> None:
        """Close the pool; see `RedisPool.aclose`."""
        try:
            await super().aclose(timeout)
        finally:
            if (known := self._discovery) is not None and known.loop is asyncio.get_running_loop():
                self._discovery = None
                await known.unfollow(self._core)

    def reset(self) -> None:
        """Retire every connection, and ask Sentinel anew."""
        super().reset()
        self.led_astray()
        self.slave_rr_counter = None

    # ---- what redis-py's connections ask -------------------------------------------------------

    async def get_master_address(self) -> Address:
        """Say where the master is, as Sentinel has said within the last second.

        Raises:
            redis.asyncio.sentinel.MasterNotFoundError: No Sentinel knows.

        """
        return await self._ask().master()

    async def rotate_slaves(self) -> AsyncIterator[Address]:
        """Give the replicas in turn, and at the end the master, if that is allowed.

        Raises:
            redis.asyncio.sentinel.SlaveNotFoundError: There are no more.

        """
        if replicas := await self._ask().replicas():
            if self.slave_rr_counter is None:
                self.slave_rr_counter = randrange(len(replicas))  # noqa: S311 - no secret
            for _ in replicas:
                self.slave_rr_counter = ((self.slave_rr_counter or 0) + 1) % len(replicas)
                yield replicas[self.slave_rr_counter]
        if self.fall_back_to_master:
            with suppress(MasterNotFoundError):
                yield await self.get_master_address()
        msg = f"No slave found for {self.service_name!r}"  # redis-py's words
        raise SlaveNotFoundError(msg)

    def rotate_replicas(self) -> AsyncIterator[Address]:
        """Give the replicas in turn; redis-py's other name for `rotate_slaves()`."""
        return self.rotate_slaves()

    @property
    def master_address(self) -> Address | None:
        """Where the master was when Sentinel was asked last."""
        return None if self._discovery is None else self._discovery.master_address

    def _ask(self) -> Discovery:
        known = self._discovery
        if known is None or known.loop is not asyncio.get_running_loop():
            known = self._discovery = discovery_of(self.sentinel_manager, self.service_name)
        if self.is_master and self._core.in_service:
            known.follow(self._core)
        return known

    # ---- what ours tell ------------------------------------------------------------------------

    def led_astray(self) -> None:
        """Hear that a connection could not be made; Sentinel is asked anew for the next one."""
        if self._discovery is not None:
            self._discovery.forget()

    def demoted(self, connection: Managed) -> None:
        """Hear that this connection does not lead to a master any more."""
        known = self._discovery
        if known is not None and known.master_address == (connection.host, connection.port):
            known.abandon()


class _Shared(SentinelPool):
    """The same pool, all of its state included, in the hands of a client that will close it."""

    __slots__ = ("_owner",)

    def __init__(self, owner: SentinelPool) -> None:
        # To be kept: connections ask it, and CPython 3.13 clears its state with it.
        self._owner = owner
        object.__setattr__(self, "__dict__", vars(owner))

    async def __aenter__(self) -> Self:
        """Open nothing: who fails to, or is cancelled, would close the pool for the others."""
        return self

    async def aclose(self, timeout: float | EllipsisType | None = ...) -> None:
        """Leave the pool open for the others."""

    def __del__(self) -> None:
        """Leave it to the owner to be gone."""
