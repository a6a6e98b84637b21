"""Whatever is done to a pool, it does what the model says (see `model.py`).

Hypothesis draws options, then one thing after the other that may be done or may happen; it cuts what
fails down to the steps that matter. After each step all comes to rest before the next, so there is one
right result, and it is compared; what happens at the same time is for `test_storm.py`. The examples are
always the same, unless `AIOPOOL_SEEDS` is set: then there is a new one for five seeds of the storm.
"""

import asyncio
import os
from collections import Counter
from itertools import count
from math import inf
from typing import ClassVar

import pytest
from clock import JumpingLoop
from fakes import Conn, FakeConnector, Mortal, check_rules
from hypothesis import HealthCheck, configuration, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import Caller, Model

from aiopool import NotLent, Pool, PoolTimeout, TooManyWaiters, _limits, _opener

SEEDS = int(os.environ.get("AIOPOOL_SEEDS", "3000"))


class Hopeless(Exception):
    """An error that no second try would mend."""


ERRORS = {"ConnectionRefusedError": ConnectionRefusedError, "Hopeless": Hopeless}
HOW_IT_OPENS = ["success", *ERRORS]

# What the model says of callers and of connections that were closed.
OUTCOMES = ["acquired", "reached", "PoolTimeout", "TooManyWaiters", "PoolClosed", "CancelledError"]
REASONS = ["max_idle", "max_lifetime", "lost", "unusable", "check_failed", "drained", "resized"]

# One of these is drawn, so what comes in many kinds comes often.
ORDERS = [
    *[("warm", size) for size in range(5)],
    *[("drain",)] * 6,
    *[("resize", max_size, min_size) for max_size in range(1, 5) for min_size in range(3)],
    *[("break_some", which, number) for which in range(3) for number in range(1, 5)],
    *[("let_openings_end", how) for how in (*HOW_IT_OPENS, "success", "success", None) * 2],
    *[("let_checks_end", good) for good in (True, None, False) * 3],
    ("open",),
    *[("aclose", grace) for grace in (0.0, 0.5, inf)],
]

which_one = st.integers(0, 7)
how_many = st.integers(1, 4)


class Asked:
    """A behaviour: each call is under way until it gets its answer."""

    def __init__(self):
        self.under_way = []

    async def __call__(self):
        answer = asyncio.get_running_loop().create_future()
        self.under_way.append(answer)
        try:
            await answer
        finally:
            self.under_way.remove(answer)


class Connector(FakeConnector):
    """Knows its connections by their numbers, and opens and checks when it is told how that ends."""

    def __init__(self):
        super().__init__()
        self.opens.usual = self.openings = Asked()
        self.checks.usual = self.checkings = Asked()
        self.made = {}

    async def open(self):
        conn = await super().open()
        self.made[conn.number] = conn
        return conn


class PoolMachine(RuleBasedStateMachine):
    """A pool and its model: whatever happens to the one happens to the other."""

    reached: ClassVar[Counter[str]] = Counter()

    @initialize(
        max_size=st.integers(1, 4),
        min_size=st.integers(0, 3),
        max_opening=st.integers(1, 3),
        max_waiting=st.sampled_from([inf, inf, inf, 0, 1]),
        max_idle=st.sampled_from([inf, 7.0]),
        max_lifetime=st.sampled_from([inf, 25.0]),
        check_after=st.sampled_from([inf, 0.0, 0.0, 2.0]),
        fault=st.sampled_from(["unusable", "lost"]),
        openings_end=st.sampled_from(["success", "success", None]),
        checks_end=st.sampled_from([True, None]),
    )
    def begin(self, max_size, min_size, fault, openings_end, checks_end, **options):
        self.loop = JumpingLoop()
        self.troubles = []
        self.loop.set_exception_handler(lambda _loop, context: self.troubles.append(context))
        self.connector = Connector()
        options |= {"max_size": max_size, "min_size": min(min_size, max_size)}
        self.model = Model(now=self.loop.time(), fault=fault, **options)
        options = {name: None if value == inf else value for name, value in options.items()}
        self.pool = Pool(self.connector, timeout=None, **options)
        if fault == "lost":
            self.pool._policy = Mortal()
        self.loop.watches.append(lambda: check_rules(self.pool, self.connector))
        self.names = (f"caller {number}" for number in count())
        self.tasks = {}  # of callers that wait
        self.closings = []
        self.openings_end, self.checks_end = openings_end, checks_end  # None: when a rule says so
        self.open()
        self.settle()

    def task(self, coroutine, timeout=None, goal=0):
        deadline = inf if timeout is None else self.loop.time() + timeout
        caller = Caller(next(self.names), deadline, goal)
        self.tasks[caller] = self.loop.create_task(coroutine, name=caller.name)
        return caller

    # ---- what callers do ---------------------------------------------------------------------

    # No time limit ends at the very time of something else: which of the two is first would be chance.
    @rule(
        number=how_many,
        timeout=st.sampled_from([None, None, 0.0, 0.3701, 2.9307]),
        brief=st.booleans(),
    )
    def acquire(self, number, timeout, brief):
        for _ in range(number):
            self.model.acquire(self.task(self.pool.acquire(timeout=timeout), timeout))
            self.settle()
        if brief:
            self.release(0, number, twice=False)

    def held(self):
        return [*self.model.at("lent"), *self.model.severed]

    async def give_back(self, conn):
        self.model.release(conn)
        await self.pool.release(self.connector.made[conn.number])

    @precondition(held)
    @rule(which=which_one, number=how_many, twice=st.booleans())
    def release(self, which, number, twice):
        for conn in some(self.held(), which, number):
            self.loop.run_until_complete(self.give_back(conn))
            self.settle()
            if twice and conn not in self.held():
                self.release_in_vain(self.connector.made[conn.number])
                self.release_in_vain(Conn(0))  # and that of somebody else

    def release_in_vain(self, conn):
        with pytest.raises(NotLent):
            self.loop.run_until_complete(self.pool.release(conn))
        self.settle()

    def waiting(self):
        return [*self.model.line, *self.model.goals]

    def give_up(self, caller):
        self.model.cancel(caller)
        self.tasks[caller].cancel()

    @precondition(waiting)
    @rule(which=which_one)
    def cancel(self, which):
        self.give_up(pick(self.waiting(), which))
        self.settle()

    @precondition(lambda self: self.model.line and self.held())
    @rule(which=which_one, handed_over=st.booleans())
    def cancel_the_first_in_the_step_of_a_release(self, which, handed_over):
        first, conn = self.model.line[0], pick(self.held(), which)

        async def step():
            if not handed_over:
                self.give_up(first)
            await self.give_back(conn)
            self.note_openings()
            if handed_over:
                self.give_up(first)

        self.loop.run_until_complete(step())
        self.settle()

    # ---- what happens ------------------------------------------------------------------------

    @precondition(lambda self: self.model.at("opening"))
    @rule(which=which_one, how=st.sampled_from(HOW_IT_OPENS))
    def opening_ends(self, which, how):
        conn = pick(self.model.at("opening"), which)
        answer = pick(self.connector.openings.under_way, which)
        if how == "success":
            self.model.open_succeeds(conn)
            answer.set_result(None)
        else:
            self.model.open_fails(conn, how)
            answer.set_exception(ERRORS[how]("no"))
        self.settle()

    @precondition(lambda self: self.model.at("checking"))
    @rule(which=which_one, good=st.booleans())
    def check_ends(self, which, good):
        answer = pick(self.connector.checkings.under_way, which)
        self.model.check_ends(pick(self.model.at("checking"), which), good)
        if good:
            answer.set_result(None)
        else:
            answer.set_exception(ConnectionResetError("reset"))
        self.settle()

    # Sums of these are exact, so nothing is due a rounding error before or after a step ends.
    @rule(seconds=st.sampled_from([0.0625, 0.625, 3.0, 11.0]))
    def time_passes(self, seconds):
        end = self.loop.time() + seconds
        while self.loop.time() < end:
            self.loop.jump(end)
            self.model.time_is(self.loop.time())
            self.settle()

    @rule(order=st.sampled_from(ORDERS))
    def operate(self, order):
        """Do one of the rarer things; but nothing else is done to a closed pool than to open it."""
        name, *arguments = order if self.model.conns or not self.model.closing else ["open"]
        getattr(self, name)(*arguments)
        self.settle()

    def open(self):
        self.model.open(self.task(self.pool.open(), goal=self.model.min_size))

    def warm(self, size):
        size = min(size, self.model.max_size)
        self.model.reach(self.task(self.pool.warm(size), goal=size))

    def drain(self):
        self.model.drain()
        self.pool.drain()

    def resize(self, max_size, min_size):
        sizes = {"max_size": max_size, "min_size": min(min_size, max_size)}
        self.model.resize(**sizes)
        self.pool.resize(**sizes)

    def aclose(self, grace):
        self.model.aclose(grace)
        closing = self.pool.aclose(timeout=None if grace == inf else grace)
        self.closings.append(self.loop.create_task(closing))

    def break_some(self, which, number):
        for conn in some(self.model.at("idle", "lent", "checking"), which, number):
            conn.broken = self.connector.made[conn.number].broken = True

    def let_openings_end(self, how):
        self.openings_end = how

    def let_checks_end(self, good):
        self.checks_end = good

    # ---- what must be so ---------------------------------------------------------------------

    def settle(self):
        """Let all happen that takes no time, one thing after the other, and compare."""
        self.agreed = False
        self.loop.settle()
        self.note_openings()
        self.model.come_to_rest()
        self.agree()
        self.agreed = True
        if self.openings_end is not None and self.model.at("opening"):
            self.opening_ends(0, self.openings_end)
        elif self.checks_end is not None and self.model.at("checking"):
            self.check_ends(0, self.checks_end)

    def note_openings(self):
        for _ in range(self.pool.stats().opening - len(self.model.at("opening"))):
            self.model.opening_begins()

    def agree(self):
        model, places = self.model, self.pool._places
        expected, stats = model.stats(), self.pool.stats()
        assert {name: getattr(stats, name) for name in expected} == expected

        assert numbers(entry.conn for entry in places.idle) == numbers(model.at("idle"))
        checking = places.opener.entries()
        assert numbers(entry.conn for entry in checking) == numbers(model.at("checking"))
        holders = [
            (holder.conn.number, holder.task, holder.since) for holder in self.pool.holders()
        ]
        assert holders == [(c.number, c.holder.name, c.since) for c in model.at("lent")]
        existing = model.at("idle", "lent", "checking")
        assert set(numbers(self.connector.live)) == set(numbers(existing))
        assert self.connector.opening == len(model.at("opening"))
        who_waits = {task._fut_waiter: caller for caller, task in self.tasks.items()}
        assert [who_waits[waiter] for waiter in places.line.waiters] == model.line
        assert repr(self.pool) == f"<Pool{' closed' if model.closing else ''} ({self.gauges()})>"

        for caller, task in list(self.tasks.items()):
            assert task.done() == (caller.outcome != "waits"), caller
            if task.done():
                self.compare_outcome(caller, self.tasks.pop(caller))
        assert all(closing.done() == (not model.conns) for closing in self.closings)
        self.closings = [closing for closing in self.closings if not closing.done()]
        assert not model.something_is_forgotten
        assert not self.troubles

    def compare_outcome(self, caller, task):
        self.reached[caller.outcome] += 1
        if task.cancelled():
            assert caller.outcome == "CancelledError"
        elif error := task.exception():
            assert type(error).__name__ == caller.outcome
            if isinstance(error, PoolTimeout | TooManyWaiters):
                assert f"({self.gauges()}{self.longest_lent()})" in str(error)
        elif isinstance(task.result(), Conn):
            assert (caller.outcome, caller.conn.number) == ("acquired", task.result().number)
        elif (existing := task.result()) is not None:  # of `warm()`; some may have gone since
            assert existing >= min(caller.goal, self.model.existing)
            assert caller.outcome != "PoolClosed"
        else:
            assert caller.outcome == "reached"

    def gauges(self):
        stats = self.model.stats()
        names = ["idle", "lent", "opening", *["checking"] * bool(stats["checking"]), "waiting"]
        parts = [f"size={stats['size']}/{stats['max_size']}"]
        return ", ".join(parts + [f"{name}={stats[name]}" for name in names])

    def longest_lent(self):
        if not (lent := self.model.at("lent")):
            return ""
        age = self.model.now - lent[0].since
        longest = f"; longest lent {age:.1f} s by task {lent[0].holder.name!r}"
        # All that a caller's task does is to acquire.
        ended = sum(conn.holder not in self.tasks for conn in lent)
        return longest + (f"; {ended} lent to tasks that have ended" if ended else "")

    def teardown(self):
        """At the end all is given back, the pool is closed, and nothing is left."""
        if not hasattr(self, "loop"):
            return
        try:
            if self.agreed:
                self.end()
        finally:
            self.loop.watches.clear()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.settle()
            self.loop.close()

    def end(self):
        self.openings_end = self.checks_end = None
        while self.held():
            self.release(0, 1, twice=False)
        self.aclose(inf)
        self.settle()
        self.reached.update(self.model.closed)
        assert not self.model.conns
        assert not self.tasks
        assert not self.closings
        assert not asyncio.all_tasks(self.loop)
        assert not [timer for timer in self.loop._scheduled if not timer.cancelled()]


def pick(things, which):
    return things[which % len(things)]


def some(things, which, number):
    first = which % max(1, len(things))
    return (things[first:] + things[:first])[:number]


def numbers(conns):
    return [conn.number for conn in conns]


def test_whatever_is_done_to_a_pool_it_does_what_the_model_says(monkeypatch, tmp_path):
    for module in (_limits, _opener):
        monkeypatch.setattr(module, "uniform", max)  # no jitter: of each span the upper end
    monkeypatch.setattr(PoolMachine, "reached", Counter())
    configuration.set_hypothesis_home_dir(tmp_path)
    how = settings(
        max_examples=SEEDS // 5,
        derandomize="AIOPOOL_SEEDS" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),  # as hypothesis does for state machines
    )
    run_state_machine_as_test(PoolMachine, settings=how)
    for outcome in (*OUTCOMES, *ERRORS, *REASONS):
        assert PoolMachine.reached[outcome] >= SEEDS // 300, PoolMachine.reached
