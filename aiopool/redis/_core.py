"""The pool proper behind `RedisPool`: what redis-py asks of a pool beyond lending."""

from asyncio import current_task, get_running_loop
from collections.abc import Callable, Collection
from types import EllipsisType
from typing import Any

from redis.exceptions import MaxConnectionsError

from aiopool._errors import WrongLoop
from aiopool._idle import Entry
from aiopool._places import Places
from aiopool._pool import Pool

from ._connection import Accountable
from ._connector import RedisConnector
from ._policy import RedisPolicy


class RedisCore(Pool[Accountable]):
    """A `Pool` of redis-py's connections."""

    def __init__(self, connector: RedisConnector, policy: RedisPolicy, **options: Any) -> None:
        super().__init__(connector, **options)
        self._policy = policy
        self._opened_by_hand = False

    # ---- closing -------------------------------------------------------------------------------

    async def open(self) -> None:
        """As `Pool.open`; the pool counts as opened by hand."""
        before, self._opened_by_hand = self._opened_by_hand, True
        try:
            await super().open()
        except WrongLoop:
            self._opened_by_hand = before
            raise

    async def aclose(self, timeout: float | EllipsisType | None = ...) -> None:
        """As `Pool.aclose` if opened by hand, else as redis-py's: at once, and not for good."""
        for_good = self._opened_by_hand
        if timeout is ...:
            timeout = 5.0 if for_good else 0.0
        try:
            await super().aclose(timeout)
        finally:
            self._closed &= for_good

    # ---- lending without waiting ---------------------------------------------------------------

    def acquire_nowait(self, make: Callable[[], Accountable]) -> Accountable:
        """Lend an idle connection, else make one that the caller is to connect.

        Raises:
            redis.exceptions.MaxConnectionsError: There can be no more.

        """
        loop = get_running_loop()
        places = self._serve(loop)
        now = loop.time()
        others_wait = places.line.outnumbers(0)
        entry = None if others_wait else places.next_idle(now)
        if entry is None:
            if others_wait or not places.permits.free:
                msg = "Too many connections"  # redis-py's words
                raise MaxConnectionsError(msg)
            entry = places.admit(make())
        places.lend(entry, now)
        entry.task = current_task()
        self._totals.acquired += 1
        if places.listener is not None:
            places.listener.acquired(0.0)
        return entry.conn

    # ---- all connections -----------------------------------------------------------------------

    def counts(self) -> tuple[int, int]:
        """Give the numbers of idle and of lent connections."""
        places = self._places
        return (0, 0) if places is None else (places.idle.qsize(), len(places.lent))

    def idle_connections(self) -> list[Accountable]:
        """List the idle connections, the longest idle first. To look at, not to use."""
        return self._list(lambda places: list(places.idle))

    def lent_connections(self) -> list[Accountable]:
        """List the lent connections."""
        return self._list(lambda places: list(places.lent.values()))

    def busy_connections(self) -> list[Accountable]:
        """List the lent connections and those that are being checked."""
        return self._list(lambda places: [*places.lent.values(), *places.opener.entries()])

    def _list(
        self, entries: Callable[[Places[Accountable]], list[Entry[Accountable]]]
    ) -> list[Accountable]:
        places = self._serving
        return [e.conn for e in entries(places)] if places is not None and places.home.alive else []

    def retire(self, conns: Collection[Accountable]) -> None:
        """Retire these, and what is being opened or checked."""
        if (places := self._present()) is not None:
            places.drain(only=lambda conn: conn in conns)

    def recheck(self) -> None:
        """Have all checked before they are lent again, the idle at once."""
        if (places := self._present()) is not None:
            places.recheck()
