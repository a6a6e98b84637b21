"""A connection for the length of a block."""

from collections.abc import Coroutine
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Generic

from ._connector import C

if TYPE_CHECKING:
    from ._pool import Pool


class Lending(Generic[C]):
    """What `Pool.connection()` returns. A class, since a generator would cost more than the lending.

    For one block; ask the pool for another one for the next.
    """

    __slots__ = ("_conn", "_pool", "_timeout")
    _conn: C

    def __init__(self, pool: "Pool[C]", timeout: float | None | EllipsisType) -> None:
        self._pool = pool
        self._timeout = timeout

    async def __aenter__(self) -> C:
        """Acquire."""
        self._conn = await self._pool.acquire(timeout=self._timeout)
        return self._conn

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        """Release, whatever happened."""
        return self._pool.release(self._conn)
