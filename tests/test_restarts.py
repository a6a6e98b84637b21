"""Connections of one age that end together: the server, or the way to it, was gone for a moment."""

import asyncio

import pytest
from clock import turns
from fakes import Conn, Mortal, fails, goes, slow

from aiopool._places import TOGETHER
from aiopool._policy import Policy


@pytest.fixture
async def make_full(make_pool):
    """Make a pool that has lent all it may, an hour ago."""

    async def make(max_size: int = 6):
        pool, connector = make_pool(max_size=max_size, max_lifetime=None)
        pool._policy = Mortal()
        conns = [await pool.acquire() for _ in range(max_size)]
        await asyncio.sleep(3600)
        return pool, connector, conns

    return make


async def lose(pool, conn: Conn) -> None:
    conn.broken = True
    await pool.release(conn)


async def test_where_two_of_one_age_have_ended_while_idle_all_idle_ones_of_that_age_are_closed(
    make_full,
):
    pool, connector, conns = await make_full()
    for conn in conns:
        await pool.release(conn)
    conns[-1].broken = conns[2].broken = True
    assert await pool.acquire() not in conns
    assert set(connector.closed) == set(conns)
    assert pool.stats().closed == {"lost": 6}


async def test_where_one_has_ended_the_others_are_kept(make_full):
    pool, connector, conns = await make_full()
    for conn in conns:
        await pool.release(conn)
    conns[-1].broken = True
    assert await pool.acquire() is conns[-2]
    assert connector.closed == [conns[-1]]


async def test_where_two_end_under_their_users_the_idle_ones_that_look_alive_are_closed(make_full):
    pool, _, conns = await make_full()
    for conn in conns[2:]:
        await pool.release(conn)
    await lose(pool, conns[0])
    assert pool.stats().idle == 4
    await asyncio.sleep(TOGETHER)
    await lose(pool, conns[1])
    assert pool.stats().idle == 0
    assert pool.stats().closed == {"lost": 6}


async def test_two_that_end_one_long_after_the_other_have_not_ended_together(make_full):
    pool, _, conns = await make_full()
    for conn in conns[2:]:
        await pool.release(conn)
    await lose(pool, conns[0])
    await asyncio.sleep(TOGETHER + 0.001)
    await lose(pool, conns[1])
    assert pool.stats().idle == 4


async def test_what_its_user_has_broken_says_nothing_about_the_others(make_full):
    pool, _, conns = await make_full()
    pool._places._policy = Policy()
    for conn in conns[2:]:
        await pool.release(conn)
    await lose(pool, conns[0])
    await lose(pool, conns[1])
    assert pool.stats().closed == {"unusable": 2}
    assert pool.stats().idle == 4


async def test_younger_ones_are_kept(make_full):
    pool, connector, conns = await make_full()
    await lose(pool, conns[0])
    await asyncio.sleep(0.001)
    young = await pool.acquire()
    assert young not in conns
    await pool.release(young)
    await lose(pool, conns[1])
    for conn in conns[2:]:
        await lose(pool, conn)
    assert await pool.acquire() is young
    assert young not in connector.closed


async def test_a_younger_one_that_is_lent_is_not_checked(make_full):
    pool, connector, conns = await make_full()
    await lose(pool, conns[0])
    await asyncio.sleep(0.001)
    young = await pool.acquire()
    await lose(pool, conns[1])
    await pool.release(young)
    assert await pool.acquire() is young
    assert connector.checks.calls == 0


async def test_lent_ones_of_that_age_are_checked_when_they_come_back(make_full):
    pool, connector, conns = await make_full()
    await lose(pool, conns[0])
    await lose(pool, conns[1])
    connector.checks.next.append(fails())
    await pool.release(conns[2])  # looks alive
    await pool.release(conns[3])
    await turns(3)
    assert connector.checks.calls == 2
    assert pool.stats().closed == {"lost": 2, "check_failed": 1}
    assert await pool.acquire() is conns[3]


async def test_one_is_opened_first_and_then_the_rest(make_full):
    pool, connector, conns = await make_full()
    connector.opens.usual = slow(0.1)
    connector.peak_opening = 0
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(6)]
    await turns(1)
    for conn in conns:
        await lose(pool, conn)
        await asyncio.sleep(0.001)
    assert pool.stats().opening == 1
    assert connector.peak_opening == 1
    await asyncio.sleep(0.1)
    await turns(2)
    assert pool.stats().opening == 0, "the pause after an opening"
    assert sum(waiter.done() for waiter in waiters) == 1
    await asyncio.sleep(0.02)
    assert pool.stats().opening == 4, "max_opening"
    await asyncio.gather(*waiters)


async def test_while_the_first_fails_there_is_no_second(make_full):
    pool, connector, conns = await make_full()
    connector.peak_opening = 0
    connector.opens.usual = fails(after=0.01)
    waiters = [asyncio.create_task(pool.acquire(timeout=60)) for _ in range(6)]
    await turns(1)
    for conn in conns:
        await lose(pool, conn)
    await asyncio.sleep(1.0)
    assert connector.peak_opening == 1
    assert pool.stats().open_failed > 3
    connector.opens.usual = goes
    await asyncio.gather(*waiters)


async def test_stragglers_of_a_generation_that_was_dropped_slow_nobody_down(make_full):
    pool, connector, conns = await make_full()
    await lose(pool, conns[0])
    await lose(pool, conns[1])
    await pool.release(await pool.acquire())  # the server is back
    connector.opens.usual = slow(0.1)
    for conn in conns[2:]:
        await lose(pool, conn)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert pool.stats().opening == 4, "max_opening"
    await asyncio.gather(*callers)


async def test_those_that_proved_good_since_are_of_the_next_generation(make_full):
    pool, connector, conns = await make_full()
    await lose(pool, conns[0])
    await lose(pool, conns[1])
    await asyncio.sleep(0.1)
    for conn in conns[2:]:  # have connected anew, and are checked
        await pool.release(conn)
    await asyncio.sleep(10)
    assert pool.stats().idle == 4
    conns[4].broken = conns[5].broken = True  # the next restart; the others only look alive
    assert await pool.acquire() not in conns
    assert set(connector.closed) == set(conns)


async def test_a_drop_does_not_make_room_beside_the_opening_that_finds_out(make_full):
    pool, connector, conns = await make_full()
    connector.opens.next.append(fails())
    connector.opens.usual = slow(1.9)
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(4)]
    await lose(pool, conns[0])  # the next opening fails, so there is one at a time
    await asyncio.sleep(TOGETHER + 0.2)
    assert pool.stats().opening == 1
    for conn in conns[1:3]:
        await lose(pool, conn)
    await asyncio.sleep(0.1)
    assert pool.stats().open_failed == 1
    assert pool.stats().opening == 1
    for waiter in waiters:
        await pool.release(await waiter)
    for conn in conns[3:]:
        await pool.release(conn)
