"""Plays a small scenario again and again, each time with something else going wrong in it.

A moment is any at which code that is not the pool's can run: between two callbacks of the event loop,
and within a call of the connector. Whoever cancels a task does it at one of these. (Save Ctrl-C, by
which `asyncio.run` cancels its main task between any two instructions.) So to cancel every task at
every moment is to cancel it at each of its suspension points, and there at every time that makes a
difference: as soon as it suspends, while it waits, and when what it waits for has happened but it has
not run yet.
"""

import asyncio
import gc
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any, NamedTuple

from clock import JumpingLoop
from fakes import Behaviour, Conn, FakeConnector, check_rules, fails, goes, never, unmoved

from aiopool import Pool
from aiopool._opener import LAST_WORDS, LONGEST_PAUSE


class Strange(Exception):
    """An error that no second try would mend."""


class Stranger(BaseException):
    """One that `except Exception` does not catch."""


def raises(error: type[BaseException]) -> Behaviour:
    """Fail at once, without having suspended."""

    async def fail() -> None:
        raise error

    return fail


def stubborn(seconds: float) -> Behaviour:
    """Hang for so long, and as long again when cancelled; a second cancellation helps."""

    async def hang() -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)

    return hang


# What can go wrong in a call of each method. What ignores cancellations outlasts the pool's limits.
DEAF = {"stubborn": stubborn(40.0), "unmoved": unmoved(40.0)}
HANGS = {"never": never, **DEAF}
AWAITED = {
    "OSError": raises(OSError),
    "OSError a turn later": fails(),
    "Strange": raises(Strange),
    "Stranger": raises(Stranger),
    "CancelledError": raises(asyncio.CancelledError),
    **HANGS,
}
RAISED = {"OSError": OSError, "Strange": Strange}
FAULTS = {
    "open": [*AWAITED],
    "check": [*AWAITED],
    "is_usable": [*RAISED, "False"],
    "close": [*RAISED],
}
LONG = 120.0  # no user waits for longer, whatever hangs

# What callers may hear of it; the rest is mended without them.
HEARD_OF = {"Strange": "Strange", **dict.fromkeys(HANGS, "PoolTimeout")}


class Fault(NamedTuple):
    """What goes wrong, in which call (the first is 1) of which method of the connector."""

    method: str
    call: int
    what: str


class Cut(NamedTuple):
    """A cancellation: at which moment, and of which task."""

    moment: int
    task: int


class Point(NamedTuple):
    """Where a cut can be made, and the turn of the loop in which that is."""

    cut: Cut
    turn: int


@dataclass(frozen=True, eq=False)
class Scenario:
    """Sets its stage and gives its users: coroutines, each of which, undisturbed, ends as told.

    If something goes wrong they may end in the way of another, or `otherwise`.
    """

    stage: "Callable[[WatchedPool], Coroutine[Any, Any, list[Coroutine]]]"
    ends: tuple[str, ...]
    otherwise: tuple[str, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return self.stage.__name__


class SteppedLoop(JumpingLoop):
    """Calls `moment` before each callback and after the last of each turn; numbers its tasks."""

    def __init__(self, moment: Callable[[], None]) -> None:
        super().__init__()
        self._ready = _Stepped(moment)
        self._moment = moment
        self.tasks: list[asyncio.Task[Any]] = []
        self.turns = 0

    def create_task(self, coro, **options):
        task = super().create_task(coro, **options)
        self.tasks.append(task)
        return task

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()
        self._moment()


class _Stepped(deque[asyncio.Handle]):
    def __init__(self, moment: Callable[[], None]) -> None:
        super().__init__()
        self._moment = moment

    def popleft(self) -> asyncio.Handle:
        self._moment()
        return super().popleft()


class FaultyConnector(FakeConnector):
    """Counts its calls; in one of them something goes wrong."""

    def __init__(self, moment: Callable[[], None]) -> None:
        super().__init__()
        self.fault: Fault | None = None
        self.calls: Counter[str] = Counter()
        self._moment = moment

    async def open(self) -> Conn:
        if (what := self._called("open")) is not None:
            self.opens.next.appendleft(AWAITED[what])
        return await super().open()

    async def check(self, conn: Conn, /) -> None:
        if (what := self._called("check")) is not None:
            self.checks.next.appendleft(AWAITED[what])
        await super().check(conn)

    def is_usable(self, conn: Conn, /) -> bool:
        what = self._called("is_usable")
        # A new error each time: one that is raised again and again remembers where it was.
        self.look_error = RAISED[what]() if what in RAISED else None
        return super().is_usable(conn) and what != "False"

    def close(self, conn: Conn, /) -> None:
        what = self._called("close")
        self.close_error = RAISED[what]() if what in RAISED else None
        super().close(conn)

    def _called(self, method: str) -> str | None:
        """Say what is to go wrong in this call, if anything is."""
        self.calls[method] += 1
        self._moment()
        if self.fault is not None and self.fault[:2] == (method, self.calls[method]):
            return self.fault.what
        return None


class WatchedPool(Pool[Conn]):
    """A pool whose calls must end in time and hide no cancellation from the caller."""

    def __init__(self, connector: FaultyConnector, **options) -> None:
        super().__init__(connector, **options)
        self.connector = connector

    async def acquire(self, *, timeout=...) -> Conn:
        limit = self._limits.timeout if timeout is ... else timeout
        conn = await _watched(super().acquire(timeout=timeout), limit)
        assert conn in self.connector.live
        return conn

    async def open(self) -> None:
        await _watched(super().open(), None)

    async def warm(self, n: int) -> int:
        return await _watched(super().warm(n), None)

    async def aclose(self, timeout: float | None = 5.0) -> None:
        await _watched(super().aclose(timeout), None if timeout is None else timeout + LAST_WORDS)
        if self.connector.fault is None or self.connector.fault.what not in DEAF:
            assert self.stats().size == 0, f"closed, but not empty: {self}"


async def _watched(call, limit):
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    latest, requests = loop.time() + (inf if limit is None else limit), task.cancelling()
    try:
        result = await call
    finally:
        assert loop.time() <= latest, f"{loop.time() - latest} s too late"
    assert task.cancelling() == requests, "a cancellation was swallowed"
    return result


class Performance:
    """One run of a scenario, and what must hold during and after it."""

    def __init__(self, scenario: Scenario, fault: Fault | None, cuts: tuple[Cut, ...]) -> None:
        self.scenario = scenario
        self.fault = fault
        self.cuts = cuts
        self.playing = False
        self.points: list[Point] = []
        self.awaits: set[tuple[str, int]] = set()  # file and line of those at which tasks were
        self.loop = SteppedLoop(self._between_callbacks)
        self.connector = FaultyConnector(self._moment)
        self.pool = WatchedPool(self.connector, **scenario.options)
        self._moments = 0
        self._victims: list[asyncio.Task[Any]] = []

    def _between_callbacks(self) -> None:
        if self.playing:
            check_rules(self.pool, self.connector)
            self._moment()

    def _moment(self) -> None:
        if not self.playing:
            return
        running = asyncio.current_task()
        for number, task in enumerate(self.loop.tasks):
            if number == 0 or task is running or task.done():  # 0 is the performance itself
                continue
            cut = Cut(self._moments, number)
            self.points.append(Point(cut, self.loop.turns))
            if not self.cuts:
                self.awaits.update(_awaits(task.get_coro()))
            elif cut in self.cuts:
                self._victims.append(task)
                task.cancel()
        self._moments += 1

    async def run(self) -> None:
        users = await self.scenario.stage(self.pool)
        self.connector.calls.clear()
        self.connector.fault = self.fault
        self.playing = True
        tasks = [self.loop.create_task(user) for user in users]
        _, hanging = await asyncio.wait(tasks, timeout=LONG)
        assert not hanging, f"for ever: {hanging}"
        await self._quiet()
        self.playing = False
        assert len(self._victims) == len(self.cuts), "it goes another way each time"
        self._all_ended_as_they_must(tasks)
        self._nothing_is_out()

        self.calls = self.connector.calls.copy()
        self.connector.fault = None
        self.connector.opens.usual = self.connector.checks.usual = goes
        self.connector.opens.next.clear()
        await self._every_slot_can_be_lent()
        await self.pool.aclose(timeout=0)
        self._nothing_is_left()

    async def _quiet(self) -> None:
        """Let what hangs run out."""
        end = self.loop.time() + LONG
        while (stats := self.pool.stats()).opening or stats.checking:
            assert self.loop.time() < end, f"for ever: {self.pool}"
            await asyncio.sleep(5.0)

    def _all_ended_as_they_must(self, users: list[asyncio.Task[Any]]) -> None:
        allowed = {"done", *self.scenario.ends, *self.scenario.otherwise}
        if self.fault is not None:
            allowed.add(HEARD_OF.get(self.fault.what, "done"))
        for user, end in zip(users, self.scenario.ends, strict=True):
            if user not in self._victims:
                assert _end(user) in (allowed if self.fault or self.cuts else {end}), repr(user)
        for task in self._victims:
            if not task.get_name().startswith("aiopool-"):
                # asyncio's groups would rather tell of a failure than of their cancellation.
                assert _end(task) in {"CancelledError", "ExceptionGroup"}, f"goes on: {task}"

    def _nothing_is_out(self) -> None:
        if (places := self.pool._places) is not None:
            opener = places.opener
            out = [
                *(places.lent, self.pool._severed, [*places.line.waiters], [*places._goals._sizes]),
                *(places._all_back, opener._drained, opener._doubted),
            ]
            assert not any(out), f"something is out: {out}"
            view = getattr(self.pool, "keeps", None)
            assert view is None or view._life.permits.taken == 0, f"{view} has lost a permit"
            idle = {entry.conn for entry in places.idle}
            assert places.permits.taken == len(idle)
            assert self.connector.live == idle

    async def _every_slot_can_be_lent(self) -> None:
        if self.pool._closed:
            await self.pool.aclose(timeout=0)
            await self.pool.open()
        stats = self.pool.stats()
        timeout = 0.1 + (LONGEST_PAUSE if self.fault or stats.open_failed else 0.0)
        conns = await asyncio.gather(
            *(self.pool.acquire(timeout=timeout) for _ in range(stats.max_size))
        )
        assert len(set(conns)) == stats.max_size
        for conn in conns:
            await self.pool.release(conn)

    def _nothing_is_left(self) -> None:
        stats = self.pool.stats()
        assert (stats.size, stats.waiting) == (0, 0), f"something is left: {stats}"
        assert not self.connector.live, "connections are left"
        assert not self.connector.opening, "an opening is left"
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        assert not tasks, f"tasks are left: {tasks}"
        timers = [timer for timer in self.loop._scheduled if not timer.cancelled()]
        assert not timers, f"timers are left: {timers}"


def _end(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "CancelledError"
    error = task.exception()
    return "done" if error is None else type(error).__name__


def _awaits(coro: Any) -> Iterator[tuple[str, int]]:
    """Say at which awaits a coroutine is suspended, from the outermost on."""
    while (awaited := getattr(coro, "cr_await", None)) is not None:
        yield coro.cr_code.co_filename, coro.cr_frame.f_lineno
        coro = awaited


# What the loops complain of: callbacks that fail, errors that nobody has looked at.
_complaints: dict[str, Any] = {}  # by the run they are about


def play(scenario: Scenario, fault: Fault | None = None, cuts: tuple[Cut, ...] = ()) -> Performance:
    """Run it once. It goes the same way each time, until it is made to go another."""
    replay = f"play({scenario.name}, {fault}, {cuts})"
    _complaints.pop(replay, None)
    random.seed(0)
    performance = Performance(scenario, fault, cuts)
    loop = performance.loop
    loop.set_exception_handler(lambda _, about: _complaints.update({replay: repr(about)}))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            runner.run(performance.run())
            assert replay not in _complaints, _complaints[replay]
        except BaseException as error:
            performance.playing = False
            error.add_note(f"replay it with {replay}")
            raise
    return performance


@contextmanager
def no_complaints() -> Iterator[None]:
    """See to complaints that come only when the garbage is collected."""
    _complaints.clear()
    yield
    gc.collect()
    assert not _complaints


def cut_everywhere(scenario: Scenario) -> int:
    """Make each cut, alone and with a second one soon after; says how many runs that were."""
    runs = 0
    with no_complaints():
        for point in play(scenario).points:
            once = play(scenario, None, (point.cut,))
            seconds = soon_after(point, once.points)
            for second in seconds:
                play(scenario, None, (point.cut, second))
            runs += 1 + len(seconds)
    return runs


def soon_after(point: Point, points: list[Point]) -> list[Cut]:
    """Choose the cuts of the same task before it has heard of the first, and a turn later."""
    (moment, task), turn = point
    return [
        p.cut for p in points if p.cut.task == task and p.cut.moment > moment and p.turn <= turn + 2
    ]


def break_everything(scenario: Scenario) -> int:
    """Have each call of the connector go wrong in each way; says how many runs that were."""
    with no_complaints():
        faults = faults_of(scenario)
        for fault in faults:
            play(scenario, fault)
    return len(faults)


def faults_of(scenario: Scenario) -> list[Fault]:
    calls = play(scenario).calls
    return [
        Fault(method, call, what)
        for method, number in calls.items()
        for call in range(1, number + 1)
        for what in FAULTS[method]
    ]


def break_and_cut(scenario: Scenario, seeds: range) -> int:
    """For each seed, have one call go wrong and make two cuts, all at random; says how many runs."""
    runs = 0
    faults = faults_of(scenario)
    points = cache(lambda fault: play(scenario, fault).points)
    with no_complaints():
        for seed in seeds:
            draw = random.Random(seed)
            fault = draw.choice(faults)
            first = draw.choice(points(fault)).cut
            once = play(scenario, fault, (first,))
            later = [point.cut for point in once.points if point.cut > first]
            if later:
                play(scenario, fault, (first, draw.choice(later)))
            runs += 1 + bool(later)
    return runs
