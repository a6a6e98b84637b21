"""What another process tells of its pools, read with suspicion: it is shown in somebody's terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from aiopool import Stats

_LARGEST = 1e15


class NoSnapshot(Exception):
    """What was read is something else."""


@dataclass(frozen=True, slots=True)
class Taker:
    """Somebody who has a connection, or stands in line for one."""

    task: str
    age: float
    where: str = ""
    ended: bool = False
    """Whether the task has ended, and has left its connection behind."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One pool at one moment."""

    name: str
    kind: str
    stats: Stats
    holders: Sequence[Taker]
    more_holders: int
    waiters: Sequence[Taker]
    more_waiters: int
    last_error: str | None

    @property
    def free(self) -> int:
        """How many connections may still be opened."""
        return max(0, self.stats.max_size - self.stats.size)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pools of a process at one moment."""

    pid: int
    time: float
    pools: Sequence[Picture]


def read(told: Mapping[str, Any]) -> Snapshot:
    """Read what `aiopool.integrations.debug` tells.

    Raises:
        NoSnapshot: It is something else, or comes from a version that tells other things.

    """
    try:
        return Snapshot(
            _number(told["pid"]), _number(told["time"]), [_picture(pool) for pool in told["pools"]]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise NoSnapshot from error


def _picture(told: Mapping[str, Any]) -> Picture:
    kind = printable(told["kind"])
    error = told["last_error"]
    stats = told["stats"]
    numbers = {f.name: _number(stats[f.name]) for f in fields(Stats) if f.name != "closed"}
    closed = {printable(reason): _number(times) for reason, times in stats["closed"].items()}
    return Picture(
        name=kind if told["name"] is None else printable(told["name"]),
        kind=kind,
        stats=Stats(**numbers, closed=closed),
        holders=[_taker(holder) for holder in told["holders"]],
        more_holders=_number(told["more_holders"]),
        waiters=[_taker(waiter) for waiter in told["waiters"]],
        more_waiters=_number(told["more_waiters"]),
        last_error=None if error is None else printable(error),
    )


def _taker(told: Mapping[str, Any]) -> Taker:
    return Taker(
        task=printable(told["task"]),
        age=_number(told["age"]),
        where=printable(told.get("where") or ""),
        ended=told.get("ended") is True,
    )


def _number(value: object) -> Any:  # noqa: ANN401 - an int stays one
    # JSON may have numbers without end, which nothing can be drawn of: Infinity, NaN, or 5,000 digits.
    if not (isinstance(value, int | float) and abs(value) < _LARGEST) or isinstance(value, bool):
        raise TypeError
    return value


def printable(text: object) -> str:
    """Take out what a terminal would obey, or could not show."""
    if not isinstance(text, str):
        raise TypeError
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
