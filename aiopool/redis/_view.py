"""A view of a `RedisPool`, to be given to a `Redis` client as well."""

from asyncio import gather
from collections.abc import Callable
from types import CoroutineType, EllipsisType
from typing import Any, NoReturn, Self, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import MaxConnectionsError

from aiopool._events import Listener
from aiopool._lending import Lending
from aiopool._stats import Holder, Stats, Waiting
from aiopool._view import View

from ._connection import Accountable
from ._pool import RedisPool


class RedisView(RedisPool):
    """The same pool, all of its state included, but lending no more than a limit; see `Pool.view`.

    Made by `RedisPool.view()`. It does not own the pool: to close it closes nothing.
    """

    __slots__ = ("_owner", "_view")

    def __init__(self, owner: RedisPool, view: View[Accountable]) -> None:
        self._owner = owner  # to be kept, as its connections may need it
        self._view = view
        object.__setattr__(self, "__dict__", vars(owner))

    def acquire(
        self, *, timeout: float | EllipsisType | None = ...
    ) -> "CoroutineType[Any, Any, AbstractConnection]":
        """Lend a connection; see `RedisPool.acquire`."""
        return self._view.acquire(timeout=timeout)  # type: ignore[return-value]  # mypy calls it a Coroutine

    def get_connection(
        self,
        command_name: str | None = None,  # noqa: ARG002 - redis-py's signature
        *keys: Any,  # noqa: ARG002 - likewise
        **options: Any,  # noqa: ARG002 - likewise
    ) -> "CoroutineType[Any, Any, AbstractConnection]":
        """Lend a connection under the name that redis-py calls it by."""
        return self._view.acquire()  # type: ignore[return-value]  # mypy calls it a Coroutine

    def connection(
        self, *, timeout: float | EllipsisType | None = ...
    ) -> Lending[AbstractConnection]:
        """Lend a connection for the length of an `async with` block."""
        return self._view.connection(timeout=timeout)

    def can_get_connection(self) -> bool:
        """Whether `get_connection()` would get one without waiting for somebody else's return."""
        stats = self.stats()
        return stats.lent + stats.waiting < stats.max_size and self._owner.can_get_connection()

    def get_available_connection(self) -> AbstractConnection:
        """Lend a connection at once, be it one that the caller has to connect.

        Raises:
            redis.exceptions.MaxConnectionsError: There can be no more, or others wait already.

        """

        def refuse() -> NoReturn:
            msg = "Too many connections"  # redis-py's words
            raise MaxConnectionsError(msg)

        return self._view.acquire_nowait(
            lambda: cast("Accountable", self._owner.get_available_connection()), refuse
        )

    def pipelined(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - RedisPool's
        """Refuse: what shares connections has a limit of its own, its `lanes`.

        Raises:
            TypeError: Always.

        """
        msg = "a view lends whole connections: give lanes=... to the pool's own pipelined()"
        raise TypeError(msg)

    def view(self, *, limit: int, name: str | None = None) -> NoReturn:  # noqa: ARG002 - RedisPool's
        """Refuse: there are no views of views.

        Raises:
            TypeError: Always.

        """
        msg = "this is a view already: ask the pool for another"
        raise TypeError(msg)

    def resize(self, *, max_size: int | None = None, min_size: int | None = None) -> NoReturn:  # noqa: ARG002 - RedisPool's
        """Refuse: the limit of a view is what it was made with.

        Raises:
            TypeError: Always.

        """
        msg = "a view has no size but its limit: resize the pool, or ask it for another view"
        raise TypeError(msg)

    def drain(self) -> None:
        """Retire the connections that are lent through this view, on their return."""
        self._core.retire([cast("Accountable", holder.conn) for holder in self.holders()])

    @property
    def max_connections(self) -> int:
        """The limit."""
        return self._view.limit

    @max_connections.setter
    def max_connections(self, value: int) -> None:
        self.resize(max_size=value)

    async def open(self) -> None:
        """Open nothing, as the pool does by itself."""

    async def __aenter__(self) -> Self:
        """Open nothing: who fails to, or is cancelled, would close the pool for the others."""
        return self

    async def aclose(self, timeout: float | EllipsisType | None = ...) -> None:
        """Leave the pool open for the others."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Retire the connections that are lent through this view, under their holders or on return."""
        self.drain()
        if inuse_connections:
            lent = [cast("Accountable", holder.conn) for holder in self.holders()]
            await gather(*(conn.disconnect(nowait=True) for conn in lent))

    @property
    def name(self) -> str:
        """What it is called in error messages and metrics."""
        return self._view.name

    def stats(self) -> Stats:
        """Count what is lent through this view; see `View.stats`."""
        return self._view.stats()

    def holders(self) -> list[Holder]:
        """Say who has connections through this view, the longest lent first."""
        return self._view.holders()

    def waiters(self) -> list[Waiting]:
        """Say who waits in the view's own line, in the order of arrival."""
        return self._view.waiters()

    def on(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told of what is lent through this view; see `View.on`."""
        return self._view.on(listener)

    def __del__(self) -> None:
        """Leave it to the owner to be gone."""

    def __repr__(self) -> str:
        """Show name and state."""
        return repr(self._view)
