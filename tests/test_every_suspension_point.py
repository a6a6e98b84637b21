"""Nothing is lost by a cancellation, wherever it comes, nor by a call of the connector that goes wrong.

A run that fails is named in the test's output. Replay it alone, in this directory, with
`python -c "from suspensions import *; from test_every_suspension_point import *; <what is named>"`.
`AIOPOOL_SEEDS` says how many random mixes of faults and cancellations there are.
"""

import ast
import asyncio
import logging
import os
from collections import Counter
from pathlib import Path

import anyio
import pytest
from fakes import Conn, fails, slow
from suspensions import (
    FAULTS,
    Scenario,
    Strange,
    break_and_cut,
    break_everything,
    cut_everywhere,
    play,
)

import aiopool
from aiopool import Pool, _goals, _line, _opener, _places

SEEDS = int(os.environ.get("AIOPOOL_SEEDS", "1000"))
SCENARIOS: list[Scenario] = []


def scenario(*ends: str, otherwise: tuple[str, ...] = (), **options):
    def add(stage):
        SCENARIOS.append(Scenario(stage, ends, otherwise, options))
        return SCENARIOS[-1]

    return add


async def use(pool: Pool[Conn], seconds: float = 0.0, timeout: float | None = 5.0) -> None:
    async with pool.connection(timeout=timeout):
        await asyncio.sleep(seconds)


async def stock(pool: Pool[Conn], number: int, age: float = 0.0) -> None:
    for conn in [await pool.acquire() for _ in range(number)]:
        await pool.release(conn)
    await asyncio.sleep(age)


@scenario("done", "done", max_size=2)
async def acquire_cold(pool):
    pool.connector.opens.usual = slow(0.1)
    return [use(pool), use(pool)]


@scenario("done", "done", max_size=2)
async def acquire_through_slow_openings(pool):
    """They take longer than they are counted on."""
    pool.connector.opens.usual = slow(3.0)
    return [use(pool, timeout=30.0), use(pool, timeout=30.0)]


@scenario("done", "done", max_size=2)
async def acquire_warm(pool):
    await stock(pool, 2)
    return [use(pool), use(pool, 0.1)]


@scenario("done", "done", max_size=2)
async def acquire_after_a_check(pool):
    await stock(pool, 2, age=60.0)
    pool.connector.checks.usual = slow(0.05)
    return [use(pool), use(pool)]


@scenario("done", "done", "done", max_size=1)
async def waiting(pool):
    await stock(pool, 1)
    return [use(pool, 1.0), use(pool), use(pool, timeout=None)]


@scenario("done", "done", "done", max_size=1)
async def hand_over(pool):
    await stock(pool, 1)
    return [use(pool), use(pool), use(pool)]


@scenario("done", "PoolTimeout", "PoolTimeout", "done", max_size=1)
async def timeout(pool):
    """The second deadline falls on the time of the release."""
    await stock(pool, 1)
    return [use(pool, 1.0), use(pool, timeout=0.5), use(pool, timeout=1.0), use(pool)]


@scenario("done", "done", max_size=2)
async def opening_fails(pool):
    pool.connector.opens.usual = slow(0.1)
    pool.connector.opens.next.append(fails(after=0.1))
    return [use(pool), use(pool)]


@scenario("Strange", "Strange", otherwise=("PoolTimeout",), max_size=2)
async def opening_fails_for_good(pool):
    pool.connector.opens.usual = fails(Strange(), after=0.1)
    return [use(pool, timeout=2.0), use(pool, timeout=2.0)]


@scenario("done", "done", max_size=2)
async def check_fails(pool):
    await stock(pool, 2, age=60.0)
    pool.connector.opens.usual = slow(0.1)
    pool.connector.checks.usual = fails(after=0.05)
    return [use(pool), use(pool)]


@scenario("done", "done", max_size=2)
async def release_without_waiters(pool):
    await stock(pool, 2)
    return [use(pool, 0.1), use(pool, 0.1)]


@scenario("done", "done", "done", "done", max_size=2)
async def release_with_waiters(pool):
    await stock(pool, 2)
    return [use(pool, 0.1), use(pool, 0.1), use(pool, 0.1), use(pool)]


@scenario("done", "done", max_size=1)
async def release_of_a_broken_one(pool):
    async def break_it() -> None:
        async with pool.connection() as conn:
            await asyncio.sleep(0.1)
            conn.broken = True

    await stock(pool, 1)
    pool.connector.opens.usual = slow(0.1)
    return [break_it(), use(pool)]


@scenario("done", "done", "done", "done", max_size=2)
async def drain(pool):
    async def operate() -> None:
        await asyncio.sleep(0.05)
        pool.drain()

    await stock(pool, 1)
    pool.connector.opens.usual = slow(0.1)
    return [use(pool, 0.1), use(pool), use(pool), operate()]


@scenario("done", "done", "done", "done", max_size=2)
async def resize(pool):
    async def operate() -> None:
        await asyncio.sleep(0.05)
        pool.resize(max_size=1)
        await asyncio.sleep(0.1)
        pool.resize(max_size=3)

    await stock(pool, 2)
    return [use(pool, 0.1), use(pool, 0.1), use(pool, 0.2), operate()]


@scenario("done", "PoolClosed", "PoolClosed", "done", max_size=3)
async def aclose(pool):
    """One is lent, one being checked, one being opened."""

    async def close() -> None:
        await asyncio.sleep(0.05)
        await pool.aclose(timeout=1.0)

    await stock(pool, 2, age=60.0)
    await stock(pool, 1)
    pool.connector.opens.usual = pool.connector.checks.usual = slow(0.1)
    return [use(pool, 0.2), use(pool), use(pool), close()]


@scenario("done", "PoolClosed", "done", max_size=1)
async def aclose_under_a_holder(pool):
    async def close() -> None:
        await pool.aclose(timeout=0.5)

    await stock(pool, 1)
    return [use(pool, 1.0), use(pool), close()]


@scenario("done", "done", otherwise=("PoolClosed",), max_size=2, min_size=1)
async def async_with(pool):
    """One is lent still when the block ends."""

    async def live() -> None:
        try:
            async with pool:
                await use(pool)
        finally:
            assert pool._closed

    pool.connector.opens.usual = slow(0.1)
    return [live(), use(pool, 0.5)]


@scenario("Strange", max_size=2, min_size=2)
async def async_with_a_failing_opening(pool):
    """One opening is under way still when the other fails."""

    async def live() -> None:
        try:
            async with pool:
                pass
        finally:
            assert pool._closed

    pool.connector.opens.usual = slow(0.2)
    pool.connector.opens.next.append(fails(Strange(), after=0.1))
    return [live()]


@scenario("done", "done", "done", max_size=3, min_size=1)
async def open_and_warm(pool):
    async def warm() -> None:
        await pool.warm(3)

    pool.connector.opens.usual = slow(0.1)
    return [pool.open(), warm(), use(pool)]


@scenario("done", "done", "done", max_size=1)
async def view(pool):
    """One waits in the view's line, then in the pool's behind another."""
    pool.keeps = view = pool.view(limit=1)
    await stock(pool, 1)
    return [use(view, 0.5), use(pool, 0.3), use(view, 0.2)]


@scenario("done", "done", max_size=1)
async def nested_timeouts(pool):
    """Three limits end when the connection comes back."""

    async def nest() -> None:
        try:
            async with asyncio.timeout(1.0):
                try:
                    async with asyncio.timeout(0.5):
                        await use(pool, 1.0, timeout=0.5)
                except TimeoutError:
                    await use(pool, 1.0)
        except TimeoutError:
            await use(pool)

    await stock(pool, 1)
    return [use(pool, 0.5), nest()]


@scenario("done", "done", max_size=1)
async def cancel_scope(pool):
    """One gives its connection to the other when the time of both is up."""

    async def scoped() -> None:
        with anyio.move_on_after(0.5):
            await use(pool, 1.0, timeout=None)
        await use(pool)

    await stock(pool, 1)
    return [scoped(), scoped()]


@scenario("ExceptionGroup", max_size=1)
async def task_group(pool):
    """One fails and gives its connection to the other, which is cancelled for it."""

    async def fail() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(use(pool))
            async with pool.connection():
                await asyncio.sleep(0.1)
                raise Strange

    await stock(pool, 1)
    return [fail()]


everywhere = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.fixture(autouse=True)
def _no_tracebacks(caplog):
    """Faults are logged, as they must be; but not so many thousand times."""
    caplog.set_level(logging.CRITICAL, logger="aiopool")


@everywhere
def test_a_cancellation_at_any_moment_loses_nothing_nor_does_a_second(scenario):
    assert cut_everywhere(scenario) > 0


@everywhere
def test_a_call_of_the_connector_that_goes_wrong_loses_nothing(scenario):
    assert break_everything(scenario) > 0


@everywhere
def test_cancellations_while_something_goes_wrong_lose_nothing(scenario):
    seeds = range(SCENARIOS.index(scenario), SEEDS, len(SCENARIOS))
    assert break_and_cut(scenario, seeds) >= len(seeds)


# ---- does this find anything? --------------------------------------------------------------------


def test_every_await_of_the_pool_is_among_the_suspension_points():
    met = set().union(*(play(scenario).awaits for scenario in SCENARIOS))
    for path in Path(aiopool.__file__).parent.glob("_[a-z]*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Await):
                lines = range(node.lineno, node.end_lineno + 1)
                assert any((str(path), line) in met for line in lines), f"{path.name}:{node.lineno}"


@everywhere
def test_every_user_can_be_cancelled_before_it_begins_and_where_it_waits(scenario):
    points = Counter(point.cut.task for point in play(scenario).points)
    first = min(points)
    for user in range(first, first + len(scenario.ends)):
        assert points[user] >= 2


def test_every_method_of_the_connector_goes_wrong_in_some_scenario():
    assert set().union(*(play(scenario).calls for scenario in SCENARIOS)) == set(FAULTS)


def forget(self, waiter):
    """Leave the line with what was handed over."""
    self.waiters.pop(waiter, None)


def stop_the_clock(self, waiter, leave=_line.Line.leave):
    """Leave the line with everybody's deadline."""
    self._alarm.cancel()
    return leave(self, waiter)


async def acquire_again(self, *, timeout=..., acquire=Pool.acquire):
    """Hide a cancellation."""
    try:
        return await acquire(self, timeout=timeout)
    except asyncio.CancelledError:
        return await acquire(self, timeout=timeout)


async def release_later(self, conn, release=Pool.release):
    """Suspend before the books are in order."""
    await asyncio.sleep(0)
    await release(self, conn)


def keep_the_goal(self, size):
    """Go on opening for somebody who was cancelled."""
    goal = self._loop.create_future()
    self._sizes[goal] = size
    goal.add_done_callback(lambda goal: goal.cancelled() or self._sizes.pop(goal))
    return goal


async def keep_the_closing(self, timeout):
    """Remember the future of a closing that was cancelled."""
    if self.lent:
        future = self.loop.create_future()
        self._all_back.add(future)
        await asyncio.wait([future], timeout=timeout)
        self._all_back.discard(future)


def keep_the_permit(self, task, ended=_opener.Opener._opening_ended):
    """Lose the permit of an opening that was cancelled."""
    ended(self, task)
    self._permits.taken += task.cancelled()


def lose_the_entry(self, task, ended=_opener.Opener._check_ended):
    """Forget what was being checked by a task that was cancelled."""
    if task.cancelled():
        del self._checking[task]
    else:
        ended(self, task)


def close_loudly(connector, conn):
    """Leave the errors of a connector to whoever happens to close."""
    connector.close(conn)


@pytest.mark.parametrize(
    ("owner", "name", "fault", "scenario", "search"),
    [
        (_line.Line, "leave", forget, hand_over, cut_everywhere),
        (_line.Line, "leave", stop_the_clock, timeout, cut_everywhere),
        (Pool, "acquire", acquire_again, waiting, cut_everywhere),
        (Pool, "release", release_later, release_without_waiters, cut_everywhere),
        (_goals.Goals, "add", keep_the_goal, open_and_warm, cut_everywhere),
        (_places.Places, "all_back", keep_the_closing, aclose, cut_everywhere),
        (_opener.Opener, "_opening_ended", keep_the_permit, acquire_cold, cut_everywhere),
        (_opener.Opener, "_check_ended", lose_the_entry, acquire_after_a_check, cut_everywhere),
        (_places, "close_quietly", close_loudly, drain, break_everything),
        (_opener, "OPEN_LIMIT", None, acquire_cold, break_everything),
        (_opener, "CHECK_LIMIT", None, acquire_after_a_check, break_everything),
    ],
)
def test_a_planted_fault_is_found(monkeypatch, owner, name, fault, scenario, search):
    monkeypatch.setattr(owner, name, fault)
    play(scenario)  # where nothing goes wrong, nothing is to be seen of it
    with pytest.raises(AssertionError):
        search(scenario)
