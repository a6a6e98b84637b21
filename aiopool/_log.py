"""What a pool logs: one line each, to the logger `aiopool`. A WARNING means that somebody should look."""

import asyncio
import logging
from math import inf
from typing import TYPE_CHECKING, Any

from ._errors import Exhausted, PoolTimeout, TooManyWaiters
from ._events import Listener
from ._stats import Holder

if TYPE_CHECKING:
    from ._pool import Pool

logger = logging.getLogger("aiopool")

# Of errors of one class, which callers get besides, one in so many seconds is logged.
QUIET_FOR = 10.0

# So many calls that have led to an acquisition are told, the innermost. Those of a framework are more.
CALLS = 5


class Log(Listener):
    """Logs for one pool."""

    def __init__(self) -> None:
        self._failures = 0  # in a row
        # When the next of a class may be logged, and how many were not.
        self._quiet: dict[type[Exhausted], tuple[float, int]] = {}

    def opened(self, pool: "Pool[Any]", _conn: object, took: float, /) -> None:
        """For those who debug; and that it is over, if others could not be opened before."""
        failures, self._failures = self._failures, 0
        if failures:
            logger.info("%r has opened a connection, after %d failures in a row", pool, failures)
        elif logger.isEnabledFor(logging.DEBUG):
            logger.debug("%r has opened a connection in %.4f s", pool, took)

    def open_failed(self, pool: "Pool[Any]", error: Exception, failures: int, /) -> None:
        """Warn of the first in a row, unless it was cancelled, as all tasks are when a loop ends."""
        self._failures = failures
        cancelled = isinstance(error.__cause__, asyncio.CancelledError)
        level = logging.WARNING if failures == 1 and not cancelled else logging.DEBUG
        if logger.isEnabledFor(level):
            msg = "%r could not open a connection (failures in a row: %d): %s"
            logger.log(level, msg, pool, failures, pool.last_error)

    def closed(self, pool: "Pool[Any]", _conn: object, reason: str, /) -> None:
        """For those who debug."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%r has closed a connection: %s", pool, reason)

    def timed_out(self, pool: "Pool[Any]", error: PoolTimeout, /) -> None:
        """Warn, but not of each."""
        self._warn(pool, error)

    def rejected(self, pool: "Pool[Any]", error: TooManyWaiters, /) -> None:
        """Warn, but not of each."""
        self._warn(pool, error)

    def _warn(self, pool: "Pool[Any]", error: Exhausted) -> None:
        if pool.name is not None and not error.pool.endswith(repr(pool.name)):
            return  # it is a view, and the error of its pool, which logs it itself
        now = asyncio.get_running_loop().time()
        until, left_out = self._quiet.get(type(error), (-inf, 0))
        # Else that was on another loop, with a clock of its own.
        if until - QUIET_FOR <= now < until:
            self._quiet[type(error)] = until, left_out + 1
            return
        self._quiet[type(error)] = now + QUIET_FOR, 0
        others = f" (and {left_out} times since the last warning)" if left_out else ""
        logger.warning("%s of %s: %s%s", type(error).__name__, error.pool, error, others)

    def drained(self, pool: "Pool[Any]", /) -> None:
        """Say so."""
        logger.info("%r was drained", pool)

    def leaked(self, pool: "Pool[Any]", holder: Holder, /) -> None:
        """Warn."""
        ended, stack = ", which has ended" if holder.ended else "", holder.stack or ()
        logger.warning(
            "%r misses a connection, lent %.1f s ago to task %r%s: %s",
            pool,
            holder.age,
            holder.task,
            ended,
            " < ".join([*stack[:CALLS], *["..."] * (len(stack) > CALLS)]) or "no code of yours",
        )

    def leak_returned(self, pool: "Pool[Any]", holder: Holder, /) -> None:
        """Say that it was no leak, but slow."""
        msg = "%r has the connection back that it missed, after %.1f s with task %r"
        logger.info(msg, pool, holder.age, holder.task)
