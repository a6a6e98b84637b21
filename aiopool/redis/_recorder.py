"""redis-py's own telemetry, recorded for our pools: who uses it keeps the dashboards.

redis-py counts connections by adding and subtracting; what is added here is each time the difference
between the truth and what was recorded so far, so that the count can't drift.
"""

from collections.abc import Callable

from redis.asyncio import ConnectionPool
from redis.asyncio.observability import recorder
from redis.observability.attributes import ConnectionState, get_pool_name
from redis.observability.providers import get_observability_instance

from ._at_once import at_once


class Recorder:
    """A `Listener` that records with redis-py's functions, which never suspend and never raise."""

    def __init__(self, pool: ConnectionPool, count: Callable[[], tuple[int, int]]) -> None:
        """Record for this pool; `count` gives the numbers of its idle and its lent connections."""
        self._pool = pool
        self._count = count
        self._recorded = 0, 0

    @staticmethod
    def enabled() -> bool:
        """Whether redis-py's telemetry is on."""
        return get_observability_instance().is_enabled()

    def acquired(self, waited: float) -> None:
        """Record the wait."""
        at_once(recorder.record_connection_wait_time(get_pool_name(self._pool), waited))
        self._record_counts()

    def returned(self) -> None:
        """Record the counts."""
        self._record_counts()

    def opened(self, took: float) -> None:
        """Record the time that it took."""
        at_once(recorder.record_connection_create_time(self._pool, took))
        self._record_counts()

    def closed(self) -> None:
        """Record the counts."""
        self._record_counts()

    def timed_out(self) -> None:
        """Record one more."""
        at_once(recorder.record_connection_timeout(get_pool_name(self._pool)))

    def _record_counts(self) -> None:
        counts = self._count()
        for state, now, before in zip(
            (ConnectionState.IDLE, ConnectionState.USED), counts, self._recorded, strict=True
        ):
            if now != before:
                name = get_pool_name(self._pool)
                at_once(recorder.record_connection_count(name, state, now - before))
        self._recorded = counts
