"""redis-py's own telemetry, recorded for our pools: who uses it keeps the dashboards.

redis-py counts connections by adding and subtracting; what is added here is each time the difference
between the truth and what was recorded so far, so that the count can't drift.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from redis.asyncio import ConnectionPool
from redis.asyncio.observability import recorder
from redis.observability.attributes import ConnectionState, get_pool_name
from redis.observability.providers import get_observability_instance

from aiopool._events import Listener
from aiopool._pool import Pool

from ._at_once import at_once


class Recorder(Listener):
    """Records with redis-py's functions, which never suspend and never raise."""

    def __init__(
        self, host: object, port: object, pool_id: str, count: Callable[[], tuple[int, int]]
    ) -> None:
        """Record for a pool; `count` gives the numbers of its idle and its lent connections."""
        # Like a pool as far as its name goes, which is to remain what it was during a move.
        named = SimpleNamespace(connection_kwargs={"host": host, "port": port}, _pool_id=pool_id)
        self._named = cast("ConnectionPool", named)
        self._name: str = get_pool_name(self._named)
        self._count = count
        self._recorded = 0, 0

    @staticmethod
    def enabled() -> bool:
        """Whether redis-py's telemetry is on."""
        return get_observability_instance().is_enabled()

    def lent(self, _pool: Pool[Any], _conn: object, waited: float, /) -> None:
        """Record the wait."""
        at_once(recorder.record_connection_wait_time(self._name, waited))
        self._record_counts()

    def returned(self, _pool: Pool[Any], _conn: object, _used: float, /) -> None:
        """Record the counts."""
        self._record_counts()

    def left(self, _pool: Pool[Any], /) -> None:
        """Record the counts: it may have been handed one that is idle again."""
        self._record_counts()

    def checked(self, _pool: Pool[Any], _conn: object, /) -> None:
        """Record the counts."""
        self._record_counts()

    def opened(self, _pool: Pool[Any], _conn: object, took: float, /) -> None:
        """Record the time that it took."""
        at_once(recorder.record_connection_create_time(self._named, took))
        self._record_counts()

    def closed(self, _pool: Pool[Any], _conn: object, _reason: str, /) -> None:
        """Record the counts."""
        self._record_counts()

    def timed_out(self, _pool: Pool[Any], _error: Exception, /) -> None:
        """Record one more."""
        at_once(recorder.record_connection_timeout(self._name))

    def pool_is_gone(self) -> None:
        """Count no connections for it any more."""
        self._record((0, 0))

    def _record_counts(self) -> None:
        self._record(self._count())

    def _record(self, counts: tuple[int, int]) -> None:
        for state, now, before in zip(
            (ConnectionState.IDLE, ConnectionState.USED), counts, self._recorded, strict=True
        ):
            if now != before:
                at_once(recorder.record_connection_count(self._name, state, now - before))
        self._recorded = counts
