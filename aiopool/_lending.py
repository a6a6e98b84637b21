"""A connection for the length of a block."""

from collections.abc import Coroutine
from types import CoroutineType, EllipsisType
from typing import Any, Generic, Protocol, TypeVar

from ._connector import C

C_co = TypeVar("C_co", covariant=True)


class Lender(Protocol[C]):
    """A pool, or a view of one."""

    def acquire(self, *, timeout: float | EllipsisType | None = ...) -> Coroutine[Any, Any, C]:
        """Lend a connection."""
        ...

    def release(self, conn: C, /) -> Coroutine[Any, Any, None]:
        """Have it back."""
        ...


class Lending(Generic[C_co]):
    """What `connection()` returns, for one block.

    A class, since a generator would cost more than the lending.
    """

    __slots__ = ("_conn", "_entered", "_pool", "_timeout")
    _conn: C_co

    def __init__(self, pool: Lender[C_co], timeout: float | EllipsisType | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._entered = False

    async def __aenter__(self) -> C_co:
        """Acquire."""
        if self._entered:
            msg = "this connection() was entered before; ask the pool for one for each block"
            raise RuntimeError(msg)
        self._entered = True
        self._conn = await self._pool.acquire(timeout=self._timeout)
        return self._conn

    def __aexit__(self, *exc: object) -> "CoroutineType[Any, Any, None]":
        """Release, whatever happened."""
        return self._pool.release(self._conn)  # type: ignore[return-value]  # mypy calls it a Coroutine
