"""What aiopool raises. Each class answers one question: who has to do something about it?"""

from copy import copy

from ._stats import Holder, Stats


class PoolError(Exception):
    """The base of all errors that a pool raises itself (a failed connect raises its own)."""


class PoolClosed(PoolError):
    """The pool was closed with `aclose()`; `open()` would start it again."""


class Exhausted(PoolError):
    """There was no connection for a caller. Says why, in one line; `report()` is the whole picture.

    What it knows is set by the pool that raises it.
    """

    pool: str
    """The pool's kind and name."""
    stats: Stats
    """What was where when it was raised."""
    holders: list[Holder]
    """Who had the ten connections that had been lent for the longest, or fewer; the longest first."""
    waited: float
    """How many seconds the caller stood in line."""
    blocked: float
    """For how many of these seconds the event loop was blocked, so that nobody could give anything back."""

    def report(self) -> str:
        """Describe the state of the pool at that time, in several lines."""
        if not hasattr(self, "stats"):  # it was made by hand
            return str(self)
        stats = self.stats
        lines = [
            f"{type(self).__name__}: {self}",
            f"pool: {self.pool} ({stats})",
            f"waited: {self.waited:.3f} s, of which the event loop was blocked for {self.blocked:.3f} s",
            f"so far: {stats.acquired} acquired, {stats.timed_out} timed out, {stats.rejected} rejected",
            f"connections: {stats.opened} opened, {stats.open_failed} failed to open, closed {stats.closed}",
        ]
        if self.__cause__ is not None:
            lines.append(f"last failed opening: {type(self.__cause__).__name__}")
        lines.append(f"lent: {stats.lent or 'none'}")
        for holder in self.holders:
            ended = ", which has ended" if holder.ended else ""
            lines.append(f"  {holder.age:.3f} s by task {holder.task!r}{ended}")
            lines.extend(f"    {line}" for line in holder.stack or ())
        if (others := stats.lent - len(self.holders)) > 0:
            lines.append(f"  and {others} others, not for so long")
        return "\n".join(lines)


class PoolTimeout(Exhausted, TimeoutError):
    """No connection came free in time. `__cause__` is the last failed opening, if any failed."""


class PoolDeadlock(PoolTimeout):
    """None can come free: each is held by a task that itself waits for one. Mostly before the time is up."""


class TooManyWaiters(Exhausted):
    """`max_waiting` callers wait already, or more than can be served in time; turned away at once."""


class NotLent(PoolError, ValueError):
    """The connection given back is not lent by this pool: a double or a foreign release."""


class WrongLoop(PoolError):
    """The pool belongs to another event loop, which is still open."""


def likeness(error: Exception) -> Exception:
    """Copy an error if its class lets itself be copied.

    Tasks that raise the same object would find their tracebacks and contexts mixed up in it.
    """
    try:
        made = copy(error)
    except Exception:  # noqa: BLE001 - it runs a constructor of somebody else's
        return error
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    return made.with_traceback(error.__traceback__)
