"""What a pool tells about itself: frozen pictures, computed from its state when asked."""

from asyncio import Task
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from inspect import currentframe
from types import CodeType, FrameType
from typing import Any

from ._connector import C
from ._idle import Entry, Named, Stack


@dataclass(frozen=True, slots=True)
class Stats:
    """A picture of a pool. Gauges are counted from its state, totals since the pool was made.

    All durations are seconds.
    """

    max_size: int
    """The most connections that may exist."""
    min_size: int
    """So many are kept open, once the pool is in use."""
    size: int
    """Connections that exist, which is `idle + lent + opening + checking`."""
    idle: int
    """Open connections that nobody uses."""
    lent: int
    """Connections that somebody has."""
    opening: int
    """Connections that are being opened."""
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
    """Connections that were opened."""
    open_failed: int
    """Openings that failed."""
    closed: Mapping[str, int]
    """Connections closed, by reason, which is `max_idle`, `max_lifetime`, `lost` (ended by the peer, or idle when
    others of its age were), `unusable` (ended on this side), `dirty` (with Redis, given back with replies
    unread or its state changed), `check_failed`, `drained`, `resized`, `reclaimed` (from
    a task that has ended) or `pool_closed`."""
    wait_seconds: float
    """Time that `acquire()` calls spent in the line, whatever became of them."""
    use_seconds: float
    """Time that connections were lent, of those that came back."""
    open_seconds: float
    """Time that successful openings took."""
    blocked_seconds: float
    """Time that the event loop was blocked while callers were in line, in stretches of 1/64 s or more, by
    code that computes, or waits without `await`."""

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
    """The connection."""
    task: str
    """Name of the task that acquired it."""
    since: float
    """When it was lent, on the clock of the event loop (`loop.time()`)."""
    age: float
    """For how many seconds it has been lent."""
    where: str | None
    """The file, the line and the function that acquired it, known only if `leak_after` is set."""
    stack: tuple[str, ...] | None
    """The calls that led there, the innermost first, each like `where`; known likewise."""
    ended: bool
    """Whether that task has ended, so that it will not give the connection back."""

    def __reduce__(self) -> tuple[type["Holder"], tuple[object, ...]]:
        """Go to another process, as part of an error, without the connection, which can't."""
        return Holder, (None, *(getattr(self, each.name) for each in fields(self)[1:]))


@dataclass(frozen=True, slots=True)
class Waiting:
    """One caller in line."""

    task: str
    """Name of the task that waits."""
    since: float
    """When it joined the line, on the clock of the event loop."""
    age: float
    """For how many seconds it has been waiting."""


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
    blocked_seconds: float = 0.0

    def picture(self, **gauges: int) -> Stats:
        """Give them together with what is where."""
        numbers: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        numbers |= {"closed": dict(self.closed), **gauges}
        return Stats(**numbers)


def holders(entries: Iterable[Entry[C]], now: float) -> list[Holder]:
    """Say who has these connections, the longest lent first."""
    return [holder(entry, now) for entry in sorted(entries, key=lambda entry: entry.lent_at)]


def holder(entry: Entry[C], now: float) -> Holder:
    """Say who has this connection."""
    known = entry.stack is not None and entry.task is not None  # else it is the last holder's
    stack = tuple(map(in_words, entry.stack or ())) if known else None
    return Holder(
        conn=entry.conn,
        task=name_of(entry.task),
        since=entry.lent_at,
        age=now - entry.lent_at,
        where=stack[0] if stack else None,
        stack=stack,
        ended=(task := task_of(entry)) is not None and task.done(),
    )


def task_of(entry: Entry[C]) -> "Task[Any] | None":
    """Give the task that has this connection, if it is one that has it."""
    who: Any = entry.task  # asked once: another thread may ask meanwhile who has it
    return who if isinstance(who, Task) else None  # pyright: ignore[reportUnknownVariableType] - of anything


def name_of(task: Named | None) -> str:
    """Name who has a connection, or waits for one."""
    return "(being handed over)" if task is None else task.get_name()


def stack_of_the_caller() -> Stack:
    """List the calls in the user's code that led here, the innermost first.

    That begins outside of the two libraries, and ends where the event loop began the task. So there are
    none if the task itself is a command.
    """
    calls: Stack = []
    frame: FrameType | None = currentframe()
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "asyncio":
            break
        if calls or package not in {"aiopool", "redis"}:
            calls.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return calls


def caller() -> str | None:
    """Find the place in the user's code that led here."""
    stack = stack_of_the_caller()
    return in_words(stack[0]) if stack else None


def in_words(call: tuple[CodeType, int]) -> str:
    """Say where a call is."""
    code, line = call
    return f"{code.co_filename}:{line} in {code.co_name}"
