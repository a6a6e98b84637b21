"""The pool: what users call, and its lives on one event loop after the other."""

import logging
import warnings
from asyncio import AbstractEventLoop, Future, Task, get_running_loop
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace
from math import inf
from types import EllipsisType
from typing import Any, Generic, NoReturn, Self

from ._connector import C, Connector, checked
from ._errors import NotLent, PoolClosed, PoolDeadlock, PoolTimeout, WrongLoop
from ._events import Listener, events_of
from ._events import checked as listening
from ._explain import HOLDERS, E, explained
from ._home import current_task, whereabouts
from ._idle import Entry
from ._lending import Lending
from ._limits import Limits, seconds, text, whole
from ._load import Load, lent_before
from ._log import Log
from ._places import Lasting, Places
from ._policy import Policy
from ._stats import Holder, Stats, Totals, Waiting, caller, holders
from ._view import View

logger = logging.getLogger("aiopool")

DEADLOCK = "deadlock: all connections are lent to tasks that wait for one themselves: "


class Pool(Generic[C]):
    """Lends the connections that a `Connector` opens to coroutines, first come, first served."""

    def __init__(  # noqa: PLR0913 - keywords, each documented
        self,
        connector: Connector[C],
        *,
        max_size: int = 10,
        min_size: int = 0,
        timeout: float | None = 5.0,
        max_waiting: int | None = None,
        max_idle: float | None = 300.0,
        max_lifetime: float | None = 3600.0,
        check_after: float | None = 30.0,
        max_opening: int = 4,
        leak_after: float | None = None,
        reclaim: bool = False,
        shed: bool = False,
        name: str | None = None,
    ) -> None:
        """Make a pool. No event loop need run yet, and nothing is opened before the first use.

        All durations are seconds; None means no limit.

        Args:
            connector: Opens, checks and closes the connections.
            max_size: The most connections that may exist at any time, those being opened included.
            min_size: So many are kept open, once the pool is in use.
            timeout: How long an `acquire()` may take in all.
            max_waiting: How many callers may wait for a lent connection to come back; one more gets
                `TooManyWaiters`. Callers for whom a connection can be opened don't count.
            max_idle: An idle connection is closed after this time, down to `min_size`.
            max_lifetime: A connection is closed this long after its opening, less up to 10 % at
                random; a lent one on its return.
            check_after: A connection that was idle for so long gets a `Connector.check` before it
                is lent. None: never.
            max_opening: How many openings may be under way at once.
            leak_after: If set, a connection that is lent for longer is told of once, and so is one
                lent to a task that has ended, at once; in the log and to listeners, with the calls that
                have led to its acquisition. `holders()` and errors tell these too. (That costs a look at
                the call stack at every lending.)
            reclaim: Whether a connection lent to a task that has ended is closed, so that another takes
                its place. Needs `leak_after`.
            shed: Whether callers get `TooManyWaiters` at once if they would have to wait too long: if
                the wait to be expected, by how many wait before them and how long connections were used
                of late, and three such uses (at most half of the `timeout`) exceed their `timeout`.
                Never those before whom nobody waits.
            name: Shown in `repr` and error messages.

        Raises:
            ValueError: An option is out of range.
            TypeError: An option has the wrong type, or the connector lacks a method.

        """
        self._limits = Limits(
            max_size=max_size,
            min_size=min_size,
            timeout=timeout,
            max_waiting=max_waiting,
            max_idle=max_idle,
            max_lifetime=max_lifetime,
            check_after=check_after,
            max_opening=max_opening,
            leak_after=leak_after,
            reclaim=reclaim,
            shed=shed,
        )
        self.name: str | None = text("name", name)
        self._policy: Policy[C] = Policy()
        self._connector = checked(connector)
        self._totals = Totals()
        self._context = copy_context()
        self._made_at = caller()
        self._events = events_of(self)
        self._events.add(Log())
        self._load: Load | None = None
        if shed:
            self._load = Load(self._limits)
            self._events.add(self._load)
        self._places: Places[C] | None = None  # of the present or, once closed, the last life
        self._serving: Places[C] | None = None  # the same, unless closed
        self._closed = False
        self._severed: dict[int, Entry[C]] = {}  # closed while lent

    # ---- lending -----------------------------------------------------------------------------

    async def acquire(  # noqa: C901, PLR0912 - a coroutine to wait in would double the cost of waiting
        self, *, timeout: float | EllipsisType | None = ...
    ) -> C:
        """Lend a connection; give it back with `release()`.

        Suspends only if none is idle and usable, and then only to wait in the line.

        Args:
            timeout: Seconds for this call in all; None waits for ever. Left out, it is the pool's
                `timeout`.

        Raises:
            PoolTimeout: None came free in time.
            PoolDeadlock: None can: all are lent to tasks that wait for one themselves, this one included.
                It is a `PoolTimeout`, mostly before the time is up.
            TooManyWaiters: `max_waiting` callers wait already or, with `shed`, too many to be served in
                time.
            PoolClosed: The pool was closed, before or while waiting.
            WrongLoop: The pool is in use on another event loop.
            Exception: What `Connector.open` raised, if openings go on failing and there is no other
                connection that could come back.

        """
        places = self._serving
        if (
            places is None
            or whereabouts() != places.home.whereabouts
            or (task := current_task(places.loop)) is None
        ):
            places = self._serve(get_running_loop())
            task = current_task(places.loop)
        if timeout is not ...:
            seconds("timeout", timeout)
        now = places.time()
        entry = places.lend_idle(now)
        if entry is None:
            if timeout is ...:
                timeout = self._limits.timeout
            if self._limits.max_waiting is not None or self._load is not None:
                self._pass_the_door(places, timeout, now)
            line = places.line
            deadline = inf if timeout is None else now + timeout
            waiter = line.join(deadline, task, now)
            try:
                blocked = self._totals.blocked_seconds
                if places.events.waiting:
                    places.events.tell("waiting")
                places.stir()
                # Nearly always the first belongs to somebody who does not wait: who got one last has hardly
                # had time to want another. (See `_deadlock.waits`.)
                for held in reversed(places.lent.values()):
                    who: Any = held.task
                    if who is not task and getattr(who, "_fut_waiter", None) not in line.waiters:
                        break
                else:
                    self._refuse_deadlock(places, waiter, task, deadline)
                entry = await waiter
            except PoolDeadlock:
                raise  # it has left the line
            except BaseException:
                self._leave_the_line(places, waiter)
                raise
            finally:
                self._totals.wait_seconds += places.time() - now
            if entry is None:
                assert timeout is not None  # noqa: S101 - else there is no time to be up
                raise self._late(places, task, timeout, places.time() - now, blocked)
        entry.task = task
        if places.leaks is not None:
            places.leaks.watch(entry)
        self._totals.acquired += 1
        if places.events.lent:
            # Who was lent one at `now` did not stand in line.
            waited = places.time() - now if entry.lent_at > now else 0.0
            places.events.tell("lent", entry.conn, waited)
        return entry.conn

    def _pass_the_door(self, places: Places[C], timeout: float | None, now: float) -> None:
        """Turn the caller away, if too many wait already."""
        what: str | None = None
        if places.crowded:
            what = f"max_waiting={self._limits.max_waiting} callers wait already"
        elif self._load is not None and timeout is not None:
            # Who has had one for that long may keep it for days.
            coming_back = places.permits.total - lent_before(places.lent.values(), now - timeout)
            what = self._load.objection(places.waiting_for_returns, coming_back, timeout)
        if what is None:
            return
        self._totals.rejected += 1
        error = self._explained(self._policy.rejected_error, what)
        if self._events.rejected:
            self._events.tell("rejected", error)
        raise error

    def _refuse_deadlock(
        self,
        places: Places[C],
        waiter: "Future[Entry[C] | None]",
        task: "Task[Any] | None",
        deadline: float,
    ) -> None:
        """Send the caller away, if nobody can give a connection back but those who wait for one."""
        if len(places.lent) >= self._limits.max_size:  # else there may be others
            names = places.deadlocks.stuck(places.lent.values(), task, deadline)
            if names is not None:
                places.line.leave(waiter)
                raise self._timed_out(self._policy.deadlock_error, DEADLOCK + names, 0.0, 0.0)

    def _late(
        self,
        places: Places[C],
        task: "Task[Any] | None",
        timeout: float,
        waited: float,
        blocked: float,
    ) -> PoolTimeout:
        """Make the error of who has waited until its time was up."""
        made, what = self._policy.timeout_error, f"no connection within {timeout:.4g} s"
        if len(places.lent) >= self._limits.max_size:
            names = places.deadlocks.stuck(places.lent.values(), task)
            if names is not None:
                made, what = self._policy.deadlock_error, DEADLOCK + names
        return self._timed_out(made, what, waited, self._totals.blocked_seconds - blocked)

    def _leave_the_line(self, places: Places[C], waiter: "Future[Entry[C] | None]") -> None:
        # Handed over and cancelled in the same tick: it goes on to the next. (Not if this is the end
        # of a coroutine that a dead loop left behind.)
        if (handed := places.line.leave(waiter)) is not None and places.home.alive:
            places.take_back(handed.conn, taken=False)
        if places.events.left and places.home.alive:
            places.events.tell("left")

    def _timed_out(
        self, made: type[PoolTimeout], what: str, waited: float, blocked: float, times: int = 1
    ) -> PoolTimeout:
        """Make the error of who has waited for so long, while the loop was blocked for so long."""
        self._totals.timed_out += times
        error = self._explained(made, what, waited, blocked)
        error.__cause__ = self._last_error
        if self._events.timed_out:
            for _ in range(times):
                self._events.tell("timed_out", error)
        return error

    async def release(self, conn: C) -> None:
        """Give a connection back. Never suspends, so no cancellation can interrupt it.

        Raises:
            NotLent: It is not lent by this pool: a second release, or somebody else's connection.
            WrongLoop: Called on another event loop; the connection stays lent.

        """
        places = self._places
        if (
            places is None
            or whereabouts() != places.home.whereabouts
            or current_task(places.loop) is None
        ) and (places is None or places.loop is not get_running_loop()):
            self._refuse(conn)
        if not places.take_back(conn):
            self._refuse(conn)

    def _refuse(self, conn: C) -> NoReturn:
        places = self._places
        if places is not None and places.loop is not get_running_loop() and places.home.alive:
            msg = f"a connection of {self!r} was given back on another event loop"
            raise WrongLoop(msg)
        # Not the connection's own repr, which may know secrets.
        what = f"{type(conn).__name__} (id {id(conn):#x})"
        msg = f"{self!r} has not lent this {what}, or has it back already"
        raise NotLent(msg)

    def connection(self, *, timeout: float | EllipsisType | None = ...) -> Lending[C]:
        """Lend a connection for the length of an `async with` block.

        Args:
            timeout: As for `acquire()`.

        """
        return Lending(self, timeout)

    def view(self, *, limit: int, name: str | None = None) -> View[C]:
        """Give a view of this pool that lends at most so many connections at a time.

        So those who keep connections for long (subscribers, blocking commands) leave the others theirs.

        Args:
            limit: How many; those who want more wait in a line of the view's own.
            name: Shown in error messages, and that of the view's `stats()` in metrics.

        Raises:
            ValueError: `limit` is not from 1 to `max_size`.
            TypeError: An argument has the wrong type.

        """
        whole("limit", limit, 1, self._limits.max_size)
        called = f"{'view' if text('name', name) is None else name} of {self.name or 'pool'}"
        limits = replace(self._limits, max_size=limit, min_size=0)
        return View(self, lambda: self._serve(get_running_loop()), self._policy, limits, called)

    # ---- lifecycle ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Open `min_size` connections, without a time limit. The one way to open a closed pool again.

        Optional: a pool opens by itself at its first use.

        Raises:
            Exception: What `Connector.open` raised, if openings go on failing.
            PoolClosed: The pool is closed meanwhile, or an `aclose()` has not ended yet.
            WrongLoop: The pool is in use on another event loop.

        """
        loop = get_running_loop()
        places = self._begin(loop) if self._closed else self._serve(loop)
        self._closed = False
        if (error := await places.reach(self._limits.min_size)) is not None:
            raise error

    async def warm(self, n: int) -> int:
        """Open connections until `n` exist, lent ones included; says how many do.

        They are not kept open against `max_idle`. Fewer than `n` exist if openings go on failing.

        Raises:
            ValueError: `n` is not from 0 to `max_size`.
            TypeError: `n` is not an int.
            PoolClosed: The pool was closed, before or meanwhile.
            WrongLoop: The pool is in use on another event loop.

        """
        places = self._serve(get_running_loop())
        error = await places.reach(whole("n", n, 0, self._limits.max_size))
        if isinstance(error, PoolClosed):
            raise error
        return places.existing

    async def aclose(self, timeout: float | None = 5.0) -> None:
        """Close the pool: callers in line get `PoolClosed` at once, lent connections some grace.

        Safe to call twice, to cancel, and to finish by a second call. If it is cancelled, the grace is over.

        Args:
            timeout: For how many seconds lent connections may still come back. Those that do not
                are closed under their holders, who may release them afterwards all the same. None
                waits for ever, 0 not at all. (Openings under way are cancelled; if they have to clean
                up, that is waited for, for a second at most.)

        Raises:
            WrongLoop: The pool is in use on another event loop.

        """
        seconds("timeout", timeout)
        places = self._places
        if places is not None and places.loop is not get_running_loop():
            self._leave(places)
            places = None
        self._closed = True
        self._serving = None
        if places is not None:
            places.begin_closing(self._policy.closed_error(f"{self!r} was closed"))
            try:
                await places.all_back(timeout)
                if timeout and places.lent:
                    msg = "%r has closed connections under their holders, after %g s of grace: %s"
                    names = ", ".join(repr(holder.task) for holder in self.holders()[:HOLDERS])
                    logger.warning(msg, self, timeout, names)
            finally:  # also if it is cancelled: maybe there is no second call
                places.sever()
            await places.opener.ended()

    async def __aenter__(self) -> Self:
        """Open the pool; if that fails, nothing of it stays behind."""
        try:
            await self.open()
        except BaseException:
            await self.aclose(timeout=0)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the pool, with the usual grace."""
        await self.aclose()

    def drain(self) -> None:
        """Retire every connection open now: idle ones at once, lent ones on their return.

        What is being opened is closed as well, when it is open: it may lead to where the others did.

        Raises:
            WrongLoop: The pool is in use on an event loop that runs in another thread.

        """
        if (places := self._present()) is not None:
            places.drain()

    def resize(self, *, max_size: int | None = None, min_size: int | None = None) -> None:
        """Change the size. What is above the new `max_size` is closed: if lent, on its return.

        Raises:
            ValueError: A size is out of range, or `min_size` above `max_size`; nothing changes.
            TypeError: A size is no int.
            WrongLoop: As for `drain()`.

        """
        old, places = self._limits, self._present()
        self._limits = replace(
            old,
            max_size=old.max_size if max_size is None else max_size,
            min_size=old.min_size if min_size is None else min_size,
        )
        if self._load is not None:
            self._load.limits = self._limits
        if places is not None:
            places.resize(self._limits)

    def _present(self) -> Places[C] | None:
        """Give the life that goes on now, if one does, but not to another thread."""
        places = self._serving
        if places is None or not places.home.alive:
            return None
        if places.home.elsewhere:
            msg = f"{self!r} is in use in another thread"
            raise WrongLoop(msg)
        return places

    def _serve(self, loop: AbstractEventLoop) -> Places[C]:
        """Begin a life on this loop, unless it goes on already; not if closed or on another loop."""
        if self._serving is not None and self._serving.loop is loop:
            self._serving.home.settle()
            return self._serving
        if self._closed:
            msg = f"{self!r} is closed"
            raise self._policy.closed_error(msg)
        return self._begin(loop)

    def _begin(self, loop: AbstractEventLoop) -> Places[C]:
        if self._places is not None:
            self._leave(self._places)
        self._policy.attend(self._events)
        lasting = Lasting(
            self._connector,
            self._policy,
            self._context,
            self._events,
            self._totals,
            self._severed,
        )
        self._places = self._serving = Places(loop, self._limits, lasting)
        return self._places

    def _leave(self, places: Places[C]) -> None:
        """Drop a life whose loop is gone, in whichever way."""
        if not places.home.alive:
            places.bury()
        elif places.permits.taken or not places.closing:
            if places.loop is get_running_loop():
                msg = f"{self!r} is still being closed"
                raise self._policy.closed_error(msg)
            msg = f"{self!r} is in use on another event loop, which is still open"
            raise WrongLoop(msg)
        self._places = self._serving = None

    # ---- what it tells -----------------------------------------------------------------------

    def stats(self) -> Stats:
        """Count what is where now. Costs nothing until asked."""
        places = self._places
        return self._totals.picture(
            max_size=self._limits.max_size,
            min_size=self._limits.min_size,
            size=places.permits.taken if places else 0,
            idle=places.idle.qsize() if places else 0,
            lent=len(places.lent) if places else 0,
            opening=places.opener.opening if places else 0,
            checking=places.opener.checking if places else 0,
            waiting=len(places.line) if places else 0,
        )

    def holders(self) -> list[Holder]:
        """Say who has the lent connections, the longest lent first."""
        places = self._places
        return [] if places is None else holders(places.lent.values(), places.time())

    def waiters(self) -> list[Waiting]:
        """Say who waits in line, in the order of arrival."""
        places = self._places
        return [] if places is None else places.line.who_waits(places.time())

    @property
    def last_error(self) -> str | None:
        """What the last opening failed with, in words that know no secrets; None once one succeeds."""
        error = self._last_error
        return None if error is None else self._policy.name_error(error)

    @property
    def _last_error(self) -> Exception | None:
        return None if self._places is None else self._places.opener.last_error

    def on(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told what happens here from now on.

        Returns:
            A function that ends that.

        Raises:
            TypeError: It is not a `Listener`.

        """
        return self._events.add(listening(listener))

    def __del__(self) -> None:
        """Warn, if it was dropped while it was open."""
        places: Places[C] | None = getattr(self, "_places", None)  # there may be none yet
        if places is not None and not places.closing and places.permits.taken and places.home.alive:
            made = "" if self._made_at is None else f"; it was made at {self._made_at}"
            msg = f"{self!r} was dropped without aclose(){made}"
            warnings.warn(msg, ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        """Show the state, and nothing of the connector, which may know secrets."""
        return f"<{self._called}{' closed' if self._closed else ''} ({self.stats()})>"

    @property
    def _called(self) -> str:
        return self._policy.kind if self.name is None else f"{self._policy.kind} {self.name!r}"

    def _explained(self, made: type[E], what: str, waited: float = 0.0, blocked: float = 0.0) -> E:
        places = self._places
        return explained(
            made,
            what,
            pool=self._called,
            stats=self.stats(),
            lent=() if places is None else places.lent.values(),
            now=0.0 if places is None else places.time(),
            last_error=self.last_error,
            waited=waited,
            blocked=blocked,
        )
