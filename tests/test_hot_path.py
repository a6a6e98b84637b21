"""What a lending costs, in what can be counted.

Each number is what there is today. If one has to grow, that is to be a decision and not an accident.
"""

import asyncio

import pytest
from clock import turns
from counting import asked_of_the_loop, calls_of
from fakes import FakeConnector

from aiopool import Pool


class Plain(FakeConnector):
    """Looks at a connection in one call."""

    def is_usable(self, conn, /):
        return not conn.broken


@pytest.fixture
async def pool():
    """Give a pool whose two connections are open and idle, and whose timers are set."""
    pool = Pool(Plain(), max_size=2)
    await pool.warm(2)
    yield pool
    await pool.aclose()


async def test_a_lending_and_its_return_take_six_calls(pool):
    with calls_of("aiopool", "test_hot_path") as calls:
        conn = await pool.acquire()
        await pool.release(conn)
    assert calls == {
        "Pool.acquire": 1,
        "Places.lend_idle": 1,
        "Pool.release": 1,
        "Places.take_back": 1,
        "Plain.is_usable": 2,
    }


async def test_a_block_takes_four_calls_more(pool):
    with calls_of("aiopool") as calls:
        async with pool.connection():
            pass
    assert calls == {
        "Pool.connection": 1,
        "Lending.__init__": 1,
        "Lending.__aenter__": 1,
        "Pool.acquire": 1,
        "Places.lend_idle": 1,
        "Lending.__aexit__": 1,
        "Pool.release": 1,
        "Places.take_back": 1,
    }


async def test_a_lending_without_waiting_asks_nothing_of_the_loop(pool, monkeypatch):
    with asked_of_the_loop(monkeypatch) as asked:
        async with pool.connection():
            await pool.release(await pool.acquire())
        pool.stats()
    assert not asked


async def test_a_lending_without_waiting_suspends_nowhere(pool):
    async def use():
        async with pool.connection(timeout=1):
            await pool.release(await pool.acquire())

    with pytest.raises(StopIteration):
        use().send(None)


async def test_a_thousand_who_wait_take_a_future_each_and_one_timer(pool, monkeypatch):
    conns = [await pool.acquire(), await pool.acquire()]
    served = 0

    async def use():
        nonlocal served
        conn = await pool.acquire()
        served += 1
        await pool.release(conn)

    tasks = [asyncio.create_task(use()) for _ in range(1000)]
    with asked_of_the_loop(monkeypatch) as asked, calls_of("aiopool") as calls:
        await turns(1)
        assert pool.stats().waiting == 1000
        for conn in conns:
            await pool.release(conn)
        await asyncio.wait(tasks)
    assert served == 1000
    assert asked["futures"] == 1000
    assert asked["call_at"] == 1
    assert asked["create_task"] == 0
    per_lending = {name: round(count / 1000, 1) for name, count in calls.items()}
    assert {name: count for name, count in per_lending.items() if count} == {
        "Pool.acquire": 2.0,  # it suspends once
        "Places.lend_idle": 1.0,
        "Line.join": 1.0,
        "Places.stir": 1.0,
        "Pool.release": 1.0,
        "Places.take_back": 1.0,
        "Line.hand": 1.0,
    }


@pytest.mark.parametrize("waiting", [10, 10_000])
async def test_to_cancel_a_waiter_costs_the_same_in_any_line(pool, waiting):
    for _ in range(2):
        await pool.acquire()
    tasks = [asyncio.create_task(pool.acquire()) for _ in range(waiting)]
    await turns(1)
    with calls_of("aiopool") as calls:
        for task in tasks:
            task.cancel()
        await turns(1)
    assert all(task.cancelled() for task in tasks)
    assert calls == {
        "Pool.acquire": waiting,
        "Pool._leave_the_line": waiting,
        "Line.leave": waiting,
    }
    for conn in [entry.conn for entry in pool._places.lent.values()]:
        await pool.release(conn)
