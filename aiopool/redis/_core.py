"""The pool proper behind `RedisPool`: what redis-py asks of a pool beyond lending."""

import asyncio
from asyncio import get_running_loop
from collections.abc import Callable, Collection
from types import EllipsisType
from typing import Any

from redis.asyncio.retry import Retry
from redis.exceptions import MaxConnectionsError

from aiopool._errors import WrongLoop
from aiopool._home import current_task, whereabouts
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
        self._policy = self._redis_policy = policy
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
        entry.task = asyncio.current_task()
        self._totals.acquired += 1
        if places.leaks is not None:
            places.leaks.watch(entry)
        if places.events.lent:
            places.events.tell("lent", entry.conn, 0.0)
        return entry.conn

    # ---- lanes ---------------------------------------------------------------------------------

    def places(self) -> Places[Accountable]:
        """Give the life on the loop that runs now, begun if there is none.

        Raises:
            PoolClosed: The pool was closed.
            WrongLoop: It is in use on another event loop.

        """
        return self._serve(get_running_loop())

    def is_here(self, places: Places[Accountable]) -> bool:
        """Whether this life is the present one, and on the loop that runs now; false if in doubt."""
        return (
            places is self._serving
            and whereabouts() == places.home.whereabouts
            and current_task(places.loop) is not None
        )

    def lent_to_a_lane(self, places: Places[Accountable], conn: Accountable, waited: float) -> None:
        """Count a connection that a lane has got, after so many seconds in the line."""
        self._totals.acquired += 1
        self._totals.wait_seconds += waited
        if places.events.lent:
            places.events.tell("lent", conn, waited)

    def back_from_a_lane(self, places: Places[Accountable], conn: Accountable) -> None:
        """Take back a connection that a lane has had, unless the pool has closed it meanwhile."""
        places.take_back(conn)

    def time_is_up(self, times: int, what: str, waited: float) -> Exception:
        """Make the error of commands that have waited in vain for so many seconds, and count them."""
        return self._timed_out(self._policy.timeout_error, what, waited, 0.0, times)

    def closed_error(self) -> Exception:
        """Make the error of a command that comes too late."""
        return self._policy.closed_error(f"{self!r} was closed")

    @property
    def retry(self) -> Retry:
        """The retry policy, of which connections have copies."""
        return self._redis_policy.retry

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

    def send_away(self, error: Exception) -> None:
        """Send everybody away who waits for a connection."""
        if (places := self._present()) is not None:
            places.send_away(error)

    def leave(self) -> None:
        """As `drain()`, but what is being opened begins anew at once: all that there is leads astray."""
        if (places := self._present()) is not None:
            places.opener.restart()
            places.drain()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop on which it is in use, or was last; None if that is closed."""
        places = self._places
        return places.loop if places is not None and places.home.alive else None

    @property
    def in_service(self) -> bool:
        """Whether it was begun to be used, and not closed since."""
        return self._serving is not None

    def recheck(self) -> None:
        """Have all checked before they are lent again, the idle at once."""
        if (places := self._present()) is not None:
            places.recheck()
