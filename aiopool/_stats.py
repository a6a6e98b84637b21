"""What a pool tells about itself: frozen pictures, computed from its state when asked."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from inspect import currentframe
from types import FrameType

from ._connector import C
from ._idle import Entry


@dataclass(frozen=True, slots=True)
class Stats:
    """A picture of a pool. Gauges are counted from its state, totals since the pool was made."""

    max_size: int
    min_size: int
    size: int
    """Connections that exist: `idle + lent + opening + checking`."""
    idle: int
    lent: int
    opening: int
    checking: int
    """Long-idle connections whose health is being checked."""
    waiting: int
    """Callers in line. One that is cancelled leaves it when its task runs."""

    acquired: int
    """Successful `acquire()` calls."""
    timed_out: int
    """`acquire()` calls that ended in `PoolTimeout`."""
    rejected: int
    """`acquire()` calls that ended in `TooManyWaiters`."""
    opened: int
    open_failed: int
    closed: Mapping[str, int]
    """Connections closed, by reason: `max_idle`, `max_lifetime`, `lost` (ended by the peer, or idle when
    others of its age were), `unusable` (ended on this side), `dirty` (Redis: given back with replies
    unread or its state changed), `check_failed`, `drained`, `resized`, `pool_closed`."""
    wait_seconds: float
    """Time that `acquire()` calls spent in the line, whatever became of them."""
    use_seconds: float
    """Time that connections were lent, of those that came back."""
    open_seconds: float
    """Time that successful openings took."""

    def __str__(self) -> str:
        """Give the gauges, in the words of `PoolTimeout`."""
        parts = [
            f"size={self.size}/{self.max_size}",
            f"idle={self.idle}",
            f"lent={self.lent}",
            f"opening={self.opening}",
            f"waiting={self.waiting}",
        ]
        if self.checking:
            parts.insert(4, f"checking={self.checking}")
        return ", ".join(parts)


def total(stats: Iterable[Stats]) -> Stats:
    """Sum up the pictures of several pools."""
    pictures = list(stats)
    closed: Counter[str] = Counter()
    for picture in pictures:
        closed.update(picture.closed)
    numbers = {
        each.name: sum(getattr(picture, each.name) for picture in pictures)
        for each in fields(Stats)
        if each.name != "closed"
    }
    return Stats(**numbers, closed=dict(closed))


@dataclass(frozen=True, slots=True)
class Holder:
    """One lent connection: who has it, since when, and where it was acquired."""

    conn: object
    task: str
    """Name of the task that acquired it."""
    since: float
    """When it was lent, on the clock of the event loop (`loop.time()`)."""
    age: float
    """For how many seconds it has been lent."""
    where: str | None
    """`file:line in function`, known only if `leak_after` is set."""


@dataclass(slots=True)
class Totals:
    """The sums behind `Stats`; they only ever grow."""

    acquired: int = 0
    timed_out: int = 0
    rejected: int = 0
    opened: int = 0
    open_failed: int = 0
    closed: Counter[str] = field(default_factory=Counter[str])
    wait_seconds: float = 0.0
    use_seconds: float = 0.0
    open_seconds: float = 0.0


def holders(entries: Iterable[Entry[C]], now: float) -> list[Holder]:
    """Say who has these connections, the longest lent first."""
    return [
        Holder(
            conn=entry.conn,
            task="(being handed over)" if entry.task is None else entry.task.get_name(),
            since=entry.lent_at,
            age=now - entry.lent_at,
            where=entry.where,
        )
        for entry in sorted(entries, key=lambda entry: entry.lent_at)
    ]


def caller() -> str | None:
    """Find the place in the user's code that led here: the first outside the two libraries."""
    frame: FrameType | None = currentframe()
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in {"aiopool", "redis"}:
            return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None
