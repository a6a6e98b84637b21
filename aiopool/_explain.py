"""Errors that add what a puzzled operator would ask next."""

from collections.abc import Iterable
from typing import TypeVar

from ._connector import C
from ._errors import Exhausted
from ._idle import Entry
from ._stats import Stats, holders, task_of

# So many holders an error knows: in overload there are many errors, and all of a thousand holders in each
# would be most of the load.
HOLDERS = 10

E = TypeVar("E", bound=Exhausted)


def explained(  # noqa: PLR0913 - all that there is to say
    made: type[E],
    what: str,
    *,
    pool: str,
    stats: Stats,
    lent: Iterable[Entry[C]],
    now: float,
    last_error: str | None = None,
    waited: float = 0.0,
    blocked: float = 0.0,
) -> E:
    """Make an error that says, in one line, what has happened and how things are.

    `lent` are the connections in the order of their lending.
    """
    blocked = min(blocked, waited)  # the line counts for who has waited in it for the longest
    entries = list(lent)
    known = holders(entries[:HOLDERS], now)
    parts = [f"{what} ({stats}"]
    if known:
        longest = known[0]
        parts.append(f"; longest lent {longest.age:.1f} s by task {longest.task!r}")
        if longest.where is not None:
            parts.append(f" at {longest.where}")
        if ended := sum((task := task_of(entry)) is not None and task.done() for entry in entries):
            parts.append(f"; {ended} lent to tasks that have ended")
    parts.append(")")
    if round(blocked, 1):
        parts.append(
            f"; for {blocked:.1f} s of that the event loop was blocked, so nobody could release"
        )
    if last_error is not None:
        parts.append(f"; the last opening failed: {last_error}")
    error = made("".join(parts))
    error.pool, error.stats, error.holders = pool, stats, known
    error.waited, error.blocked = waited, blocked
    return error
