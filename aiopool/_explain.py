"""Errors that add what a puzzled operator would ask next."""

from typing import TypeVar

from ._errors import Exhausted
from ._stats import Holder, Stats

E = TypeVar("E", bound=Exhausted)


def explained(  # noqa: PLR0913 - all that there is to say
    made: type[E],
    what: str,
    *,
    pool: str,
    stats: Stats,
    holders: list[Holder],
    last_error: str | None = None,
    waited: float = 0.0,
    blocked: float = 0.0,
) -> E:
    """Make an error that says, in one line, what has happened and how things are."""
    parts = [f"{what} ({stats}"]
    if holders:
        longest = holders[0]
        parts.append(f"; longest lent {longest.age:.1f} s by task {longest.task!r}")
        if longest.where is not None:
            parts.append(f" at {longest.where}")
        if ended := sum(holder.ended for holder in holders):
            parts.append(f"; {ended} lent to tasks that have ended")
    parts.append(")")
    if blocked:
        parts.append(
            f"; for {blocked:.1f} s of that the event loop was blocked, so nobody could release"
        )
    if last_error is not None:
        parts.append(f"; the last opening failed: {last_error}")
    error = made("".join(parts))
    error.pool, error.stats, error.holders = pool, stats, holders
    error.waited, error.blocked = waited, blocked
    return error
