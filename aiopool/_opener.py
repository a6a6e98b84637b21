"""All I/O of the pool: tasks that open connections and tasks that check long-idle ones.

The tasks only do the I/O. What follows from it is decided in their done-callbacks, in one step, and
the tables of the running tasks are the places that hold an opening's permit or a checked entry. So a
task may end in any way, even cancelled before its first step, and nothing is lost.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from math import inf, nextafter
from random import uniform
from typing import Any, Generic, Protocol, TypeVar

from ._alarm import Alarm, weakly
from ._connector import C, Connector
from ._idle import Entry
from ._limits import Limits
from ._permits import Permits

logger = logging.getLogger("aiopool")
T = TypeVar("T")

# An opening or a check that takes longer counts as failed, so that a connector without time limits
# of its own can't keep a slot for ever. A check is a round trip on a connection that exists: after a
# second a new one is the better bet, and the caller's own time is not used up yet.
OPEN_LIMIT = 30.0
CHECK_LIMIT = 1.0

# An opening under way for longer is not counted on any more: if it hangs, whoever waits needs another.
# Nor is a check that takes longer than this or than the last opening took, for then another would be
# there sooner.
COUNTED_ON = 2.0
CHECK_COUNTED_ON = 0.1

# How long closing waits for its cancelled tasks: for a connector that has something to clean up. After three quarters
# of it they are cancelled again.
LAST_WORDS = 1.0

# After a failed opening the next is begun a pause later that doubles up to a cap, from half to all of
# it at random ("equal jitter": AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
# The first and the longest pause are those of redis-py's default retry.
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 1.0

# After a successful one the pause is this share of what it took. So where connects are slow and uses
# short, returned connections serve the line before more are opened, and where connects are quick the
# pause is nothing. (HikariCP pauses a fixed 30 ms to the same end.)
SHARE_OF_OPENING = 0.2


class Owner(Protocol[C]):
    """What an opener asks of its pool."""

    def wants_more(self) -> bool:
        """Whether one more opening is wanted besides those under way."""
        ...

    def opened(self, conn: C, took: float, doubted: bool, /) -> bool:
        """Take over a new connection with its permit; false if it is of no use.

        It is doubted if all were to be checked while it was being opened.
        """
        ...

    def aborted(self, why: str, /) -> Exception:
        """Make the error of an opening that has none of its own."""
        ...

    def stir(self) -> None:
        """Do what has become possible, or necessary since something takes long."""
        ...

    def open_failed(self, error: Exception, failures: int, /) -> None:
        """Hear of a failed opening, the last of `failures` in a row; its permit is back."""
        ...

    def checked(self, entry: Entry[C], /) -> None:
        """Take back an entry that proved good."""
        ...

    def check_failed(self, entry: Entry[C], /) -> None:
        """Take back an entry that did not."""
        ...


class Opener(Generic[C]):
    """Opens at most `max_opening` at a time, only while somebody wants them, never in a storm."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connector: Connector[C],
        permits: Permits,
        owner: Owner[C],
        limits: Limits,
        context: Context,
    ) -> None:
        """Run tasks in copies of `context`, not in that of the caller who happens to need one."""
        self._loop = loop
        self._connector = connector
        self._permits = permits
        self._owner = owner
        self._max_opening = limits.max_opening
        # No longer than half the time that callers have, so that each sees one opening begin.
        half = LONGEST_PAUSE if limits.timeout is None else limits.timeout / 2
        self._longest_pause = max(FIRST_PAUSE, min(LONGEST_PAUSE, half))
        self._context = context
        self._opening: dict[asyncio.Task[C], float] = {}  # begun when; each holds a permit
        self._checking: dict[asyncio.Task[None], Entry[C]] = {}
        self._drained: set[asyncio.Task[C]] = set()  # openings whose result is not wanted any more
        self._doubted: set[asyncio.Task[C]] = set()  # those whose result is to be checked
        self._check_counted_on = CHECK_COUNTED_ON
        self._not_before = 0.0
        self._in_doubt_since = inf  # until an opening succeeds
        self._alarm = Alarm(loop, weakly(owner.stir))
        self.failures = 0  # in a row
        self.last_error: Exception | None = None

    @property
    def opening(self) -> int:
        """How many openings are under way."""
        return len(self._opening)

    @property
    def checking(self) -> int:
        """How many checks are under way."""
        return len(self._checking)

    @property
    def coming(self) -> int:
        """How many connections can be counted on to be ready soon."""
        if not self._opening and not self._checking:
            return 0
        now = self._loop.time()
        return self.checks_coming + sum(
            begun + COUNTED_ON > now for begun in self._opening.values()
        )

    @property
    def checks_coming(self) -> int:
        """How many checks can be counted on to end soon."""
        now = self._loop.time()
        late = 0
        for entry in self._checking.values():  # in the order of their beginnings
            if entry.checked_at + self._check_counted_on > now:
                break
            late += 1
        return len(self._checking) - late

    def ensure(self) -> None:
        """Begin the openings that are wanted, as far as permits, limit and pause allow.

        To be called whenever one of these may have changed, and when an opening takes long.
        """
        now = self._loop.time()
        while self._permits.free and self._has_room() and self._owner.wants_more():
            if now < self._not_before:
                self._alarm.at(self._not_before)
                break
            self._permits.take()
            task = self._spawn(self._connector.open, OPEN_LIMIT, "aiopool-open")
            self._opening[task] = now
            task.add_done_callback(self._opening_ended)
        for begun in self._opening.values():  # in the order of their beginnings
            if begun + COUNTED_ON > now:
                self._alarm.at(begun + COUNTED_ON)
                break
        for entry in self._checking.values():
            if entry.checked_at + self._check_counted_on > now:
                self._alarm.at(entry.checked_at + self._check_counted_on)
                break

    def _has_room(self) -> bool:
        """Whether one more may be under way.

        While the server is in doubt there is one at a time, which finds out for all whether it is
        back; besides those that were begun before, and those that seem to hang.
        """
        if len(self._opening) >= self._max_opening:
            return False
        now = self._loop.time()
        return not any(
            begun > self._in_doubt_since and begun + COUNTED_ON > now
            for begun in self._opening.values()
        )

    def check(self, entry: Entry[C]) -> None:
        """Check this entry, which is in no other place now."""
        task = self._spawn(lambda: self._connector.check(entry.conn), CHECK_LIMIT, "aiopool-check")
        self._checking[task] = entry
        task.add_done_callback(self._check_ended)

    def drain(self, reason: str) -> None:
        """Condemn what is being opened or checked."""
        self._drained.update(self._opening)
        for entry in self._checking.values():
            entry.condemn(reason)

    def restart(self) -> None:
        """Begin anew at once what is being opened, also if it was to pause. To be followed by `drain()`."""
        for task in self._opening:
            task.cancel()
        self._not_before = 0.0

    def suspect(self, since: float) -> None:
        """Have no more than one opening begun since then under way, until one succeeds."""
        self._in_doubt_since = min(self._in_doubt_since, nextafter(since, -inf))

    def doubt(self) -> None:
        """Have what is being opened checked before it is lent."""
        self._doubted.update(self._opening)

    def stop(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks():
            task.cancel()

    async def ended(self) -> None:
        """Wait for the cancelled tasks, but not for one that ignores its cancellation."""
        for share in (0.75, 0.25):
            if tasks := self._tasks():
                await asyncio.wait(tasks, timeout=share * LAST_WORDS)
            # A cancellation may be lost, as in Python 3.11 by `asyncio.wait_for` if what it waits for ends then.
            self.stop()
        self._alarm.cancel()

    def _tasks(self) -> "list[asyncio.Task[Any]]":
        return [*self._opening, *self._checking]

    def entries(self) -> list[Entry[C]]:
        """List the entries that are being checked."""
        return list(self._checking.values())

    def _spawn(
        self, work: Callable[[], Awaitable[T]], limit: float, name: str
    ) -> "asyncio.Task[T]":
        async def within_limit() -> T:
            # Not a scope of anyio's: that cancels again and again, also what a connector awaits to
            # clean up after its cancellation.
            async with asyncio.timeout(limit):
                return await work()

        return self._loop.create_task(within_limit(), name=name, context=self._context.copy())

    def _opening_ended(self, task: "asyncio.Task[C]") -> None:
        now = self._loop.time()
        took = now - self._opening.pop(task)
        unwanted, doubted = task in self._drained, task in self._doubted
        self._drained.discard(task)
        self._doubted.discard(task)
        error = self._failure(task)
        if error is not None:
            self._permits.give()
        elif unwanted:
            self._permits.give()
            close_quietly(self._connector, task.result())
        elif self._owner.opened(task.result(), took, doubted):
            self._check_counted_on = max(CHECK_COUNTED_ON, took)
            self.failures = 0
            self.last_error = None
            self._in_doubt_since = inf
            self._not_before = now + min(self._longest_pause, took * SHARE_OF_OPENING)
        else:
            error = self._owner.aborted("a connection was of no use as soon as it was open")
        if error is not None and not unwanted:
            self.failures += 1
            self.last_error = error
            self._in_doubt_since = now
            self._not_before = now + self._pause(task)
            self._owner.open_failed(error, self.failures)
        self._owner.stir()

    def _pause(self, task: "asyncio.Task[C]") -> float:
        if task.cancelled():  # by somebody else, perhaps because the loop is about to end
            return LONGEST_PAUSE
        pause = min(self._longest_pause, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 32))
        return pause * uniform(0.5, 1)  # noqa: S311 - no secret

    def _check_ended(self, task: "asyncio.Task[None]") -> None:
        entry = self._checking.pop(task)
        if self._failure(task) is None:
            self._owner.checked(entry)
        else:
            self._owner.check_failed(entry)

    def _failure(self, task: "asyncio.Task[T]") -> Exception | None:
        """Say what ended the task, if not success. What is no plain error is made the cause of one."""
        if task.cancelled():
            failure = self._owner.aborted("cancelled from outside of the pool")
            failure.__cause__ = asyncio.CancelledError()
            return failure
        error = task.exception()
        if error is None or isinstance(error, Exception):
            return error
        failure = self._owner.aborted(f"ended by {type(error).__name__}")
        failure.__cause__ = error
        return failure


def close_quietly(connector: Connector[C], conn: C) -> None:
    """Close a connection; if the connector fails at it, that is logged and nobody else's trouble."""
    try:
        connector.close(conn)
    except Exception:
        logger.exception("closing a connection failed")
