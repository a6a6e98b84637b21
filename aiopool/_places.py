"""Where connections can be, on one event loop, and the moves between these places.

Two rules hold between any two awaits, and everything follows from them:

1. Every connection that exists, whether opening, being checked, idle or lent, holds one permit.
   So there are never more than `max_size`.
2. If someone waits, then every idle connection left has a check or a caller to itself, and either an
   opening is under way (or waits for its pause to end), or no permit is free.

Where a connection is, is its state: the idle queue, the table of the lent, or the opener's tables.
Every move is made in one step, between two awaits, so there is no lock.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from math import inf
from random import uniform
from typing import Any, Generic, Protocol
from weakref import WeakSet

from ._alarm import Alarm, weakly
from ._connector import C, Connector, cheaper_look
from ._deadlock import Deadlocks
from ._events import Events
from ._goals import Goals
from ._home import Home
from ._idle import Entry, IdleQueue
from ._leaks import Leaks
from ._limits import Limits
from ._line import Line
from ._opener import Opener, close_quietly
from ._permits import Permits
from ._policy import LOST, Policy
from ._reach import others_reach
from ._reaper import Reaper
from ._stats import Totals

logger = logging.getLogger("aiopool")

# Connections that their peer has ended within this time of each other have ended together.
TOGETHER = 1.0

# So many connections that were closed under their holders may still be released.
REMEMBERED = 1000

# When there can be no more connections for now, the pool makes do with those it has for half to all of
# this time, at random, before it tries again. All processes that meet the limit of one server try at
# this pace, so it is slower than that of other failures; but a caller with the usual timeout sees a try.
LOWERED_FOR = 2.0


class Fallible(Protocol):
    """A line of callers, other than the pool's own, that a pool which is closing sends away."""

    def fail(self, error: Exception, /) -> None:
        """Send everybody away with this error."""
        ...


@dataclass(frozen=True, slots=True)
class Lasting(Generic[C]):
    """What all lives of a pool have in common."""

    connector: Connector[C]
    policy: Policy[C]
    context: Context
    events: Events
    totals: Totals
    severed: dict[int, Entry[C]]
    """Those that were closed while they were lent, the last of them; by id() of the connection."""


class Places(Generic[C]):
    """The places of one pool during one life: from its first use on an event loop to `aclose()`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, lasting: Lasting[C]
    ) -> None:
        self.home = home = Home(loop)
        self.loop = loop
        self.time = home.time
        self.limits = limits
        self.closing = False
        self.permits = Permits(limits.max_size)
        self.idle: IdleQueue[C] = IdleQueue()
        self._idle_entries = self.idle.entries
        # By id() of the connection, which need not be hashable; the longest lent first.
        self.lent: dict[int, Entry[C]] = {}
        self.line: Line[Entry[C]] = Line(loop, lasting.totals)
        self._connector = connector = lasting.connector
        self.deadlocks = Deadlocks(loop, self.line.waiters, connector)
        self.opener = Opener(loop, connector, self.permits, self, limits, lasting.context)
        self._is_usable = connector.is_usable
        self._is_clean = cheaper_look(connector)
        self._totals = lasting.totals
        self._policy = lasting.policy
        self.events = lasting.events
        self._severed = lasting.severed
        self.leaks: Leaks[C] | None = None
        if limits.leak_after is not None:
            self.leaks = Leaks(loop, self, self.events, limits.leak_after, limits.reclaim)
            self.events.add(self.leaks)
        self._fresh_for = limits.fresh_for
        self._reaper = Reaper(loop, self, inf if limits.max_idle is None else limits.max_idle)
        self._goals = Goals(loop)
        self._all_back: set[asyncio.Future[None]] = set()
        # Of those who wait for a part in a lent connection.
        self.lines: WeakSet[Fallible] = WeakSet()
        self._lost_at = -inf  # when the first was found of those that their peer has ended together
        self._dropped = -inf  # a generation: what was opened till then
        self._lowered = Alarm(loop, weakly(self._raise_ceiling))
        self.opener.ensure()

    @property
    def existing(self) -> int:
        """How many connections there are, without those being opened."""
        return self.permits.taken - self.opener.opening

    def entries(self) -> list[Entry[C]]:
        """List all entries, wherever they are."""
        return [*self.idle, *self.lent.values(), *self.opener.entries()]

    @property
    def spare(self) -> int:
        """How many connections there are above `min_size`."""
        return self.existing - self.limits.min_size

    @property
    def crowded(self) -> bool:
        """Whether `max_waiting` callers wait already for what is lent."""
        most = self.limits.max_waiting
        return most is not None and self.line.outnumbers(
            most - 1 + max(0, self.permits.total - len(self.lent))
        )

    @property
    def waiting_for_returns(self) -> int:
        """How many wait for what is lent, or who were cancelled in this turn."""
        return len(self.line) - max(0, self.permits.total - len(self.lent))

    # ---- moves -------------------------------------------------------------------------------

    def next_idle(self, now: float) -> Entry[C] | None:
        """Take the idle entry on top that is still of use, if only after a check."""
        while not self.idle.empty():
            entry = self.idle.get_nowait()
            if now >= entry.expires:
                self.close(entry, entry.doom)
            elif not self._usable(entry.conn):
                self._close_faulty(entry, now, idle=True)
            else:
                return entry
            self.opener.ensure()  # there may be fewer than `min_size` now
        return None

    def lend_idle(self, now: float) -> Entry[C] | None:
        """Lend the idle entry on top, if a look at it is enough; then by rule 2 nobody waits."""
        entries = self._idle_entries
        if not entries:
            return None
        entry = entries[-1]
        try:
            usable = now < entry.fresh_until and self._is_usable(entry.conn)
        except Exception:  # noqa: BLE001 - it is looked at again, with more care
            usable = False
        if usable:  # nearly always; the rest is in the method that does it for all
            entries.pop()
            entry.lent_at = now
            entry.fresh_until = entry.expires
            self.lent[entry.key] = entry
            return entry
        if (checkable := self.next_idle(now)) is None:
            return None
        if now >= checkable.fresh_until:
            entries.append(checkable)
            return None
        self.lend(checkable, now)
        return checkable

    def lend(self, entry: Entry[C], now: float) -> None:
        """Put an entry that is in no place into the table of the lent."""
        entry.lent_at = now
        entry.fresh_until = entry.expires
        self.lent[entry.key] = entry

    def take_back(self, conn: C, taken: bool = True) -> bool:
        """Have a connection given back; false if it is not lent. Not `taken`: it was only handed over."""
        if (entry := self.lent.pop(id(conn), None)) is None:
            return self._severed.pop(id(conn), None) is not None
        now = self.time()
        used = now - entry.lent_at
        self._totals.use_seconds += used
        entry.task = None
        permits, waiters = self.permits, self.line.waiters
        look = self._is_usable if waiters else self._is_clean
        try:
            usable = now < entry.fresh_until and look(conn)
        except Exception:  # noqa: BLE001 - it is looked at again, with more care
            usable = False
        if not usable or permits.taken > permits.total:
            self.come_back(entry, now)
        elif waiters and self.line.hand(entry):
            entry.lent_at = now
            self.lent[entry.key] = entry
        elif now < self._reaper.calm_since:
            self._put_aside(entry, now)
        else:  # nearly always
            entry.idle_since = now
            fresh_until = now + self._fresh_for
            if fresh_until < entry.fresh_until:  # noqa: PLR1730 - min() would take twice as long
                entry.fresh_until = fresh_until
            self._idle_entries.append(entry)
        if taken and self.events.returned:
            self.events.tell("returned", conn, used)
        return True

    def come_back(self, entry: Entry[C], now: float) -> None:
        """Decide about an entry that has just left the place it was in."""
        if now >= entry.expires:
            self.close(entry, entry.doom)
        elif self.permits.over:
            self.close(entry, "resized")
        elif not self._usable(entry.conn):
            self._close_faulty(entry, now, idle=False)
        elif now >= entry.fresh_until:
            self._check(entry)
        else:
            self._arrive(entry, now)
            return
        self.stir()

    def _arrive(self, entry: Entry[C], now: float) -> None:
        """Put a good entry straight into the hands of the head of the line, else aside."""
        if self.line.hand(entry):
            self.lend(entry, now)
        else:
            self._put_aside(entry, now)

    def _put_aside(self, entry: Entry[C], now: float) -> None:
        entry.idle_since = now
        entry.fresh_until = min(now + self._fresh_for, entry.expires)
        self.idle.entries.append(entry)
        self._reaper.expect(entry)

    def admit(self, conn: C) -> Entry[C]:
        """Give one of the free permits to a connection that its first holder opens."""
        self.permits.take()
        self._totals.opened += 1
        return self._new_entry(conn, self.loop.time())

    def _new_entry(self, conn: C, now: float) -> Entry[C]:
        entry = Entry(conn, now, self.limits.expiry(now))
        self._reaper.watch(entry)
        return entry

    def close(self, entry: Entry[C], reason: str) -> None:
        """Close an entry that is in no place any more. To be followed by `stir()`."""
        self.close_all({entry: reason})

    def close_all(self, reasons: Mapping[Entry[C], str]) -> None:
        """Close entries that are in no place any more, then tell of it. To be followed by `stir()`."""
        for entry, reason in reasons.items():
            self.permits.give()
            self._totals.closed[reason] += 1
            close_quietly(self._connector, entry.conn)
        if self._all_back and not self.lent:
            for future in self._all_back:
                if not future.done():
                    future.set_result(None)
        if self.events.closed:
            for entry, reason in reasons.items():
                self.events.tell("closed", entry.conn, reason)

    def _close_faulty(self, entry: Entry[C], now: float, *, idle: bool) -> None:
        """Close an entry that is of no use; if its peer has ended it, see to others of its age.

        Where several have ended together, the server or the way to it has gone. So those idle are
        closed at once, though they may look alive (a host that was reset says nothing until it is
        spoken to), those lent are checked on their return, and the first opening is made alone.
        """
        fault = self._policy.name_fault(entry.conn, idle=idle)
        self.close(entry, fault)
        if fault != LOST or entry.opened_at <= self._dropped:
            return
        if entry.opened_at > self._lost_at or now - self._lost_at > TOGETHER:
            self._lost_at = now
            if all(self._usable(other.conn) for other in self.idle):
                return
        self._dropped = self._lost_at
        for other in self.lent.values():
            if other.opened_at <= self._dropped:
                other.fresh_until = -inf
        self._close_idle(LOST, lambda other: other.opened_at <= self._dropped)
        self.opener.suspect(since=self._lost_at)

    def _check(self, entry: Entry[C]) -> None:
        """Have an entry that is in no place checked by a task."""
        entry.fresh_until = entry.expires
        entry.checked_at = self.loop.time()
        self.opener.check(entry)

    def stir(self) -> None:
        """Restore rule 2, after somebody has joined the line or a permit has come free."""
        if self.permits.taken >= self.permits.total and not self.idle.entries:
            return  # there is nothing to be had
        now = self.loop.time()
        while not self.idle.empty() and self.line.outnumbers(self.opener.checks_coming):
            if (entry := self.next_idle(now)) is None:
                break
            if now < entry.fresh_until:
                self._arrive(entry, now)
            else:
                self._check(entry)
        self.opener.ensure()

    def _usable(self, conn: C) -> bool:
        try:
            return self._is_usable(conn)
        except Exception:
            logger.exception("looking at a connection failed; it is closed")
            return False

    # ---- what the opener asks and tells (see `_opener.Owner`) --------------------------------

    def wants_more(self) -> bool:
        """Whether more wait than can be served, or `min_size` or `reach()` asks, for one more opening."""
        if self.closing:
            return False
        goal = max(self.limits.min_size, self._goals.size)
        served = self.idle.qsize() + self.opener.coming
        return self.permits.taken < goal or self.line.outnumbers(served)

    def aborted(self, why: str) -> Exception:
        """Make the error of an opening that has none of its own."""
        return self._policy.aborted_error(why)

    def opened(self, conn: C, took: float, doubted: bool) -> bool:
        """Give a new connection to the head of the line, if it is of any use."""
        now = self.loop.time()
        entry = self._new_entry(conn, now)
        if doubted:
            entry.fresh_until = -inf
        self._totals.opened += 1
        self._totals.open_seconds += took
        if not self._usable(conn):
            # And no stir(): the opener is to pause first.
            if self.events.opened:
                self.events.tell("opened", conn, took)
            self.close(entry, self._policy.name_fault(conn, idle=False))
            return False
        self.come_back(entry, now)
        if not self.idle.empty():
            self._reaper.expect(next(iter(self.idle)))  # the longest idle may be one too many now
        self._settle_goals()
        if self.events.opened:
            self.events.tell("opened", conn, took)
        return True

    def open_failed(self, error: Exception, failures: int) -> None:
        """Tell the callers, if trying again is no use and no other connection could serve them."""
        self._totals.open_failed += 1
        if self.events.open_failed:
            self.events.tell("open_failed", error, failures)
        lost = sum(not self._policy.may_come_back(e.conn) for e in self.lent.values())
        if self.existing > lost and self._policy.says_full(error) and not self._goals:
            self.permits.total = min(self.permits.taken, self.limits.max_size)
            self._lowered.at(self.loop.time() + LOWERED_FOR * uniform(0.5, 1))  # noqa: S311 - no secret
        if not self._policy.worth_retrying(error, failures):
            self._settle_goals(error)
            if self.permits.taken == lost:
                self.line.fail(error)

    def _raise_ceiling(self) -> None:
        self.permits.total = self.limits.max_size
        self.opener.suspect(since=self.loop.time())  # openings may have succeeded since
        self.stir()

    def checked(self, entry: Entry[C]) -> None:
        """Give a connection that proved good to the head of the line."""
        entry.opened_at = entry.checked_at  # as good as new, and of no generation that has ended
        self.come_back(entry, self.loop.time())
        if self.events.checked:
            self.events.tell("checked", entry.conn)

    def check_failed(self, entry: Entry[C]) -> None:
        """Close it, and those idle for longer than it too: what befell it has befallen them."""
        self.close(entry, "pool_closed" if self.closing else "check_failed")
        now = self.loop.time()
        self._close_idle("check_failed", lambda other: now >= other.fresh_until)
        self.stir()

    # ---- what is done to all -----------------------------------------------------------------

    def reach(self, size: int) -> "asyncio.Future[Exception | None]":
        """Open until so many connections exist; the result is what prevents it, if anything does."""
        goal = self._goals.add(size)
        self.permits.total = self.limits.max_size  # who asks for many wants a lowered ceiling tried
        self.opener.ensure()
        self._settle_goals()
        return goal

    def _settle_goals(self, error: Exception | None = None) -> None:
        self._goals.settle(self.existing, self.permits.total, error)

    def drain(
        self, reason: str = "drained", only: Callable[[C], bool] = lambda _conn: True
    ) -> None:
        """Close the idle now and the others when they come back or are open.

        `only` chooses among the idle and the lent; where the others lead to can't be told.
        """
        self.opener.drain(reason)
        for entry in self.lent.values():
            if only(entry.conn):
                entry.condemn(reason)
        self._close_idle(reason, lambda entry: only(entry.conn))
        self.stir()
        if reason == "drained" and self.events.drained:
            self.events.tell("drained")

    def _close_idle(self, reason: str, which: Callable[[Entry[C]], bool]) -> None:
        self.close_all(dict.fromkeys(self.idle.take(which), reason))

    def recheck(self) -> None:
        """Have all checked before they are lent again: the idle now, the others on their return."""
        self.opener.doubt()
        for entry in [*self.lent.values(), *self.opener.entries()]:
            entry.fresh_until = -inf
        while not self.idle.empty():
            self._check(self.idle.oldest_nowait())

    def resize(self, limits: Limits) -> None:
        """Take over new limits; what is too much is closed, lent ones on their return."""
        self.limits = limits
        self.permits.total = limits.max_size
        while self.permits.over and not self.idle.empty():
            self.close(self.idle.oldest_nowait(), "resized")
        self._settle_goals()
        self._reaper.reap()  # stirs, too

    def send_away(self, error: Exception) -> None:
        """Have all who wait leave with this error."""
        for line in (self.line, *self.lines):
            line.fail(error)

    def begin_closing(self, error: Exception) -> None:
        """Send the callers away, stop the upkeep, and close what is not lent."""
        self.closing = True
        self.send_away(error)
        self._settle_goals(error)
        self._reaper.stop()
        self._ignore_leaks()
        self._lowered.cancel()
        self.opener.stop()
        self.drain("pool_closed")

    async def all_back(self, timeout: float | None) -> None:
        """Wait until nothing is lent any more, or time is up. To be called while closing."""
        if self.lent:
            future = self.loop.create_future()
            self._all_back.add(future)
            try:
                await asyncio.wait([future], timeout=timeout)
            finally:
                self._all_back.discard(future)

    def sever(self) -> None:
        """Close what is lent still; its holders may release it later all the same."""
        severed = self.lent.copy()
        self.lent.clear()
        for entry in severed.values():
            self._remember(entry)
        self.close_all(dict.fromkeys(severed.values(), "pool_closed"))

    def reclaim(self, entry: Entry[C]) -> None:
        """Close a lent connection that nobody will give back."""
        if self.lent.pop(entry.key, None) is not None:
            self._remember(entry)
            self.close(entry, "reclaimed")
            self.stir()

    def _ignore_leaks(self) -> None:
        if self.leaks is not None:
            self.leaks.stop()
            self.events.remove(self.leaks)
            self.leaks = None

    def _remember(self, entry: Entry[C]) -> None:
        """Take no offence, should it be released. Who had it is forgotten: a task that failed has its frames."""
        entry.task = None
        self._severed[entry.key] = entry
        if len(self._severed) > REMEMBERED:
            del self._severed[next(iter(self._severed))]

    def is_in_use(self, conn: C, *ended: "asyncio.Task[Any]") -> bool:
        """Whether somebody may give this connection back, though its holder has ended.

        That is if it is kept on purpose, or was handed on: as the result of what has just `ended`, too, as
        by `asyncio.wait_for(pool.acquire(), ...)`.
        """
        return self.is_kept(conn) or others_reach(
            [conn], self._connector, self.loop, lambda _task: False, *ended
        )

    def is_kept(self, conn: C) -> bool:
        """Whether its holder keeps this connection on purpose."""
        return self._policy.is_kept(conn)

    def bury(self) -> None:
        """Close everything after the death of the loop: no task and no timer of it runs any more."""
        self._ignore_leaks()
        if self.home.keep_for_ever(self):
            return
        self.closing = True
        for entry in self.entries():
            close_quietly(self._connector, entry.conn)
