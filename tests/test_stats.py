"""The numbers are true, and say who has what."""

import asyncio
import dataclasses
from pathlib import Path

import pytest
from clock import elsewhere, turns
from fakes import fails, slow

from aiopool import Holder, PoolTimeout


async def test_gauges_say_where_the_connections_are(make_pool):
    pool, connector = make_pool(max_size=5, min_size=1)
    conns = [await pool.acquire() for _ in range(3)]
    for conn in conns[:2]:
        await pool.release(conn)
    await asyncio.sleep(60)
    connector.opens.usual = connector.checks.usual = slow(1.0)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(5)]
    await turns(2)
    stats = pool.stats()
    assert (stats.max_size, stats.min_size, stats.size) == (5, 1, 5)
    assert (stats.idle, stats.lent, stats.opening, stats.checking) == (0, 1, 2, 2)
    assert stats.waiting == 5
    assert str(stats) == "size=5/5, idle=0, lent=1, opening=2, checking=2, waiting=5"
    for caller in callers:
        caller.cancel()
    await turns(2)


async def test_totals_count_what_happened(make_pool):
    pool, connector = make_pool(max_size=1)
    connector.opens.next.append(fails())
    connector.opens.usual = slow(0.5)
    conn = await elsewhere(pool.acquire())
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=2.0)
    await pool.release(conn)
    async with pool.connection():
        await asyncio.sleep(1.0)
    stats = pool.stats()
    assert (stats.acquired, stats.timed_out, stats.rejected) == (2, 1, 0)
    assert (stats.opened, stats.open_failed, stats.closed) == (1, 1, {})
    assert stats.open_seconds == 0.5
    assert stats.use_seconds == 3.0
    assert stats.wait_seconds == pytest.approx(2.5, abs=0.01)  # and the pause, which is random


async def test_a_waiter_that_was_cancelled_after_its_hand_over_did_not_acquire(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    await pool.release(conn)
    waiter.cancel()
    await turns(2)
    assert pool.stats().acquired == 1


async def test_stats_are_a_frozen_picture(make_pool):
    pool, _ = make_pool()
    before = pool.stats()
    await pool.acquire()
    assert before.lent == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.lent = 1


async def test_holders_name_the_task_and_the_time_the_longest_first(make_pool):
    pool, _ = make_pool()

    async def hold() -> None:
        async with pool.connection():
            await asyncio.sleep(100)

    loop = asyncio.get_running_loop()
    tasks = []
    for name in ("one", "two"):
        tasks.append(asyncio.create_task(hold(), name=name))
        await asyncio.sleep(3)
    holders = pool.holders()
    assert [(h.task, h.age, loop.time() - h.since) for h in holders] == [
        ("one", 6, 6),
        ("two", 3, 3),
    ]
    assert all(isinstance(holder, Holder) and holder.where is None for holder in holders)
    for task in tasks:
        task.cancel()
    await turns(2)
    assert pool.holders() == []


async def test_a_connection_on_its_way_to_a_waiter_is_shown_as_such(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    await pool.release(conn)
    assert [(h.conn, h.task) for h in pool.holders()] == [(conn, "(being handed over)")]
    await waiter
    assert pool.holders()[0].task == waiter.get_name()


async def test_with_leak_after_holders_name_the_place_of_acquisition(make_pool):
    pool, _ = make_pool(max_size=2, leak_after=60.0)

    async def hold_in_a_block() -> None:
        async with pool.connection():
            await asyncio.sleep(10)

    async def hold() -> None:
        await pool.release(await pool.acquire())
        await pool.acquire()

    tasks = [asyncio.create_task(hold_in_a_block()), asyncio.create_task(hold())]
    await asyncio.sleep(1)
    places = [holder.where for holder in pool.holders()]
    assert all(Path(__file__).name in place for place in places)
    assert {place.partition(" in ")[2] for place in places} == {"hold", "hold_in_a_block"}
    await asyncio.gather(*tasks)


async def test_repr_shows_name_and_state(make_pool):
    pool, _ = make_pool(name="cache")
    assert repr(pool) == "<Pool 'cache' (size=0/10, idle=0, lent=0, opening=0, waiting=0)>"
    await pool.acquire()
    assert repr(pool) == "<Pool 'cache' (size=1/10, idle=0, lent=1, opening=0, waiting=0)>"
    await pool.aclose(timeout=0)
    assert repr(pool) == "<Pool 'cache' closed (size=0/10, idle=0, lent=0, opening=0, waiting=0)>"
