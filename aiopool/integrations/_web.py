"""What the integrations with web frameworks share."""

from math import ceil
from typing import Any, TypeAlias, cast

from aiopool import Pool, PoolTimeout, RedisPool, Stats, TooManyWaiters

from ._lenders import is_view, kind_of

LONGEST = 30
TRY_AGAIN_LATER = 1013  # a close code of WebSockets, registered with IANA
UNAVAILABLE = {"detail": "Service Unavailable"}

Owner: TypeAlias = Pool[Any] | RedisPool


def retry_after(error: BaseException) -> int:
    """Say in how many whole seconds somebody may try again for whom there was no connection.

    All who were in line then would have been served in about the mean time of a use so far, times their
    number, by the connections that there may be; that is rounded up. It is 1 at least, also if nothing has
    come back yet or the error was made by hand; and 30 at most, since a mean in which subscribers count
    says little. Of a group, it is the longest.
    """
    if isinstance(error, BaseExceptionGroup):
        return max(map(retry_after, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    stats: Stats | None = getattr(error, "stats", None)
    if stats is None or stats.acquired <= stats.lent:
        return 1
    mean = stats.use_seconds / (stats.acquired - stats.lent)
    return max(1, min(LONGEST, ceil(mean * stats.waiting / stats.max_size)))


def is_mixed(error: BaseException) -> bool:
    """Say whether this is a group in which there is more than that there was no connection."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    group = cast("BaseExceptionGroup[BaseException]", error)
    return group.split((PoolTimeout, TooManyWaiters))[1] is not None


def owner(pool: object) -> Owner:
    """Check that this is a pool that can be opened and closed, which a view can't.

    Raises:
        TypeError: It is not.

    """
    check(pool, "a Pool, RedisPool or SentinelPool of aiopool", Pool, RedisPool)
    if is_view(found := cast("Owner", pool)):
        msg = f"a view opens and closes nothing: give its pool, not {found!r}"
        raise TypeError(msg)
    return found


def check(pool: object, wanted: str, *kinds: type) -> None:
    """Check that somebody has given a pool of these kinds.

    Raises:
        TypeError: It is something else, of which the message has the type: it may know secrets itself.

    """
    if not isinstance(pool, kinds):
        msg = f"pool must be {wanted}, not {kind_of(pool)}"
        raise TypeError(msg)
