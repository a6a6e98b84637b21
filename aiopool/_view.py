"""A view of a pool: the same connections, under a ceiling of its own."""

from asyncio import Future, Task
from collections.abc import Callable
from math import inf
from types import CoroutineType, EllipsisType
from typing import TYPE_CHECKING, Any, Generic, NoReturn
from weakref import ref

from ._connector import C
from ._errors import PoolDeadlock, PoolTimeout, TooManyWaiters
from ._events import Events, Listener
from ._events import checked as listening
from ._explain import E, explained
from ._home import current_task
from ._idle import Entry
from ._lending import Lending
from ._limits import Limits, seconds
from ._line import Line
from ._load import Load, lent_before
from ._log import Log
from ._permits import Permits
from ._places import Places
from ._policy import Policy
from ._stats import Holder, Stats, Totals, Waiting, holders

if TYPE_CHECKING:
    from ._pool import Pool


class _Life(Generic[C]):
    """What a view has during one life of its pool."""

    def __init__(self, places: Places[C], limit: int, totals: Totals) -> None:
        self.places = places
        # Of who has a connection, or waits for one in the pool's line.
        self.permits = Permits(limit)
        self.lent: dict[int, Entry[C]] = {}  # by id() of the connection
        # Of who waits for one of these permits; it is handed on as such.
        self.line: Line[Permits] = Line(places.loop, totals)
        self.deadlocks = places.deadlocks.of(self.line.waiters)
        places.lines.add(self.line)

    def names_of_the_stuck(
        self, newest: "Task[Any] | None", deadline: float | None = None
    ) -> str | None:
        """Name the tasks, if nobody can give a connection back but those who wait for a permit."""
        if self.permits.taken > len(self.lent):
            return None  # the others will, when they have got one
        return self.deadlocks.stuck(self.lent.values(), newest, deadline)

    def pass_on(self) -> None:
        """Give a permit to the first who waits for one."""
        # (Nobody does on a dead loop, of which this may be the end of a coroutine that it left behind.)
        if self.places.home.alive and not self.line.hand(self.permits):
            self.permits.give()


class View(Generic[C]):
    """Lends the connections of a pool, but no more than `limit` at a time; made by `Pool.view()`.

    Who may have one by the view's own count stands in the pool's line as everybody else. Which of them
    are back, it hears from the pool: so nothing is lost, however a lending ends.
    """

    def __init__(
        self,
        pool: "Pool[C]",
        serve: Callable[[], Places[C]],
        policy: Policy[C],
        limits: Limits,
        name: str,
    ) -> None:
        self.name = name
        self.limit: int = limits.max_size
        self._limits = limits
        self._pool = pool
        self._serve = serve
        self._policy = policy
        self._totals = Totals()
        self._events = Events(self)
        self._events.add(Log())
        self._load: Load | None = None
        if limits.shed:
            self._load = Load(limits)
            self._events.add(self._load)
        self._life: _Life[C] | None = None
        self._joined = 0  # so often somebody has joined the pool's line
        _Ear(self, pool)

    async def acquire(self, *, timeout: float | EllipsisType | None = ...) -> C:
        """Lend a connection; see `Pool.acquire`, also for what is raised.

        Args:
            timeout: Seconds for both lines, that of the view and that of the pool.

        """
        life = self._present()
        places = life.places
        if timeout is ...:
            timeout = places.limits.timeout
        else:
            seconds("timeout", timeout)
        now = places.time()
        joined = self._joined
        try:
            if life.permits.free:
                life.permits.take()
            else:
                joined = -1
                await self._stand_in_line(life, now, timeout)
            try:
                left = None if timeout is None else max(0.0, now + timeout - places.time())
                conn = await self._pool.acquire(timeout=left)
            except BaseException:
                life.pass_on()
                raise
        except PoolTimeout as error:
            error.waited = places.time() - now  # in both lines
            self._totals.timed_out += 1
            if self._events.timed_out:
                self._events.tell("timed_out", error)
            raise
        except TooManyWaiters as error:
            self._totals.rejected += 1
            if self._events.rejected:
                self._events.tell("rejected", error)
            raise
        finally:
            self._totals.wait_seconds += places.time() - now
        # Nobody can have joined a line in between, if not this caller.
        self._note(life, conn, 0.0 if joined == self._joined else places.time() - now)
        return conn

    def acquire_nowait(self, lend: Callable[[], C], refuse: Callable[[], NoReturn]) -> C:
        """Lend what `lend` gives at once, unless the limit is reached."""
        life = self._present()
        if not life.permits.free:
            refuse()
        life.permits.take()
        try:
            conn = lend()
        except BaseException:
            life.pass_on()
            raise
        self._note(life, conn, 0.0)
        return conn

    def _note(self, life: _Life[C], conn: C, waited: float) -> None:
        life.lent[id(conn)] = life.places.lent[id(conn)]
        self._totals.acquired += 1
        if self._events.lent:
            self._events.tell("lent", conn, waited)

    async def _stand_in_line(self, life: _Life[C], now: float, timeout: float | None) -> None:
        """Wait for a permit of the view."""
        places, line, task = life.places, life.line, current_task(life.places.loop)
        self._pass_the_door(life, now, timeout)
        deadline = inf if timeout is None else now + timeout
        waiter = line.join(deadline, task, now)
        try:
            blocked = self._totals.blocked_seconds
            if self._events.waiting:
                self._events.tell("waiting")
            self._refuse_deadlock(life, waiter, task, deadline)
            got = await waiter
        except PoolDeadlock:
            raise  # it has left the line
        except BaseException:
            if line.leave(waiter) is not None:  # handed over and cancelled in the same tick
                life.pass_on()
            if self._events.left and places.home.alive:
                self._events.tell("left")
            raise
        if got is None:
            made, what = self._policy.timeout_error, f"no connection within {timeout:.4g} s"
            what += f", as {self.name!r} has lent all that it may"
            if (names := life.names_of_the_stuck(task)) is not None:
                made, what = self._policy.deadlock_error, self._deadlock(names)
            waited, blocked = places.time() - now, self._totals.blocked_seconds - blocked
            raise self._explained(made, what, waited, blocked)
        if places.closing:  # and open again by now, it may be: the permit is one of the past
            msg = f"{self._pool!r} was closed"
            raise self._policy.closed_error(msg)

    def _pass_the_door(self, life: _Life[C], now: float, timeout: float | None) -> None:
        """Turn the caller away, if too many wait already."""
        what, most = None, self._limits.max_waiting
        if most is not None and life.line.outnumbers(most - 1):
            what = f"max_waiting={most} callers wait already"
        elif self._load is not None and timeout is not None:
            coming_back = self.limit - lent_before(life.lent.values(), now - timeout)
            what = self._load.objection(len(life.line), coming_back, timeout)
        if what is not None:
            raise self._explained(self._policy.rejected_error, what)

    def _refuse_deadlock(
        self,
        life: _Life[C],
        waiter: "Future[Permits | None]",
        task: "Task[Any] | None",
        deadline: float,
    ) -> None:
        """Send the caller away, if nobody can give a connection back but those who wait for a permit."""
        if (names := life.names_of_the_stuck(task, deadline)) is not None:
            life.line.leave(waiter)
            raise self._explained(self._policy.deadlock_error, self._deadlock(names))

    def _deadlock(self, names: str) -> str:
        return f"deadlock: all that {self.name!r} may lend have tasks that wait for one themselves: {names}"

    def _present(self) -> _Life[C]:
        """Give what there is in the pool's present life, begun if there is none."""
        places = self._serve()
        if self._life is None or self._life.places is not places:
            self._life = _Life(places, self.limit, self._totals)
        return self._life

    def release(self, conn: C) -> "CoroutineType[Any, Any, None]":
        """Give a connection back; see `Pool.release`."""
        return self._pool.release(conn)  # type: ignore[return-value]  # mypy calls it a Coroutine

    def note_a_wait(self) -> None:
        """Hear that somebody has joined the pool's line."""
        self._joined += 1

    def back(self, conn: C, used: float | None = None) -> None:
        """Hear that the pool has a connection back, or has closed it before that is told."""
        life = self._life
        if life is not None and (entry := life.lent.pop(id(conn), None)) is not None:
            used = life.places.time() - entry.lent_at if used is None else used
            self._totals.use_seconds += used
            life.pass_on()
            if self._events.returned:
                self._events.tell("returned", conn, used)

    def connection(self, *, timeout: float | EllipsisType | None = ...) -> Lending[C]:
        """Lend a connection for the length of an `async with` block; see `Pool.connection`."""
        return Lending(self, timeout)

    # ---- what it tells -----------------------------------------------------------------------

    def stats(self) -> Stats:
        """Count what was lent through this view: `max_size` is its limit, and none is idle.

        `waiting` are those in its line, and those of it in the pool's. What is opened and closed is
        the pool's.
        """
        life = self._life
        lent = len(life.lent) if life else 0
        return self._totals.picture(
            max_size=self.limit,
            min_size=0,
            size=lent,
            idle=0,
            lent=lent,
            opening=0,
            checking=0,
            waiting=len(life.line) + life.permits.taken - lent if life else 0,
        )

    def holders(self) -> list[Holder]:
        """Say who has connections through this view, the longest lent first."""
        life = self._life
        return [] if life is None else holders(life.lent.values(), life.places.time())

    def waiters(self) -> list[Waiting]:
        """Say who waits in the view's own line, in the order of arrival."""
        life = self._life
        return [] if life is None else life.line.who_waits(life.places.time())

    @property
    def last_error(self) -> str | None:
        """As the pool's."""
        return self._pool.last_error

    def on(self, listener: Listener) -> Callable[[], None]:
        """Have a listener told of what is lent through this view, and of who waits for it.

        Returns:
            A function that ends that.

        Raises:
            TypeError: It is not a `Listener`.

        """
        return self._events.add(listening(listener))

    def __repr__(self) -> str:
        """Show the state."""
        return f"<View {self.name!r} ({self.stats()})>"

    def _explained(self, made: type[E], what: str, waited: float = 0.0, blocked: float = 0.0) -> E:
        life = self._life
        return explained(
            made,
            what,
            pool=f"{self._policy.kind} {self.name!r}",
            stats=self.stats(),
            lent=life.lent.values() if life else (),
            now=life.places.time() if life else 0.0,
            waited=waited,
            blocked=blocked,
        )


class _Ear(Listener):
    """Hears for a view, which the pool does not keep alive, and until that is no more.

    Only the pool's listeners refer to it: from a `finalize` all of these would be in reach for ever, and so
    might be the view, by way of one of them.
    """

    def __init__(self, view: View[Any], pool: "Pool[Any]") -> None:
        self._view = ref(view, lambda _: stop())
        stop = pool.on(self)

    def waiting(self, _pool: object, /) -> None:
        if (view := self._view()) is not None:
            view.note_a_wait()

    def returned(self, _pool: object, conn: object, used: float, /) -> None:
        if (view := self._view()) is not None:
            view.back(conn, used)

    def closed(self, _pool: object, conn: object, _reason: str, /) -> None:
        if (view := self._view()) is not None:
            view.back(conn)
