"""Long-idle connections are checked by a task of the pool before they are lent."""

import asyncio

from clock import turns
from fakes import fails, never, slow


async def idle_for(pool, number: int, seconds: float) -> list:
    conns = [await pool.acquire() for _ in range(number)]
    for conn in conns:
        await pool.release(conn)
    await asyncio.sleep(seconds)
    return conns


async def test_a_connection_idle_for_less_than_check_after_is_lent_without_a_check(make_pool):
    pool, connector = make_pool()
    (conn,) = await idle_for(pool, 1, 29.9)
    assert await pool.acquire(timeout=0) is conn
    assert connector.checks.calls == 0


async def test_a_connection_idle_for_check_after_is_checked_and_then_lent(make_pool):
    pool, connector = make_pool()
    (conn,) = await idle_for(pool, 1, 30.0)
    assert await pool.acquire() is conn
    assert connector.checks.calls == 1


async def test_with_check_after_none_nothing_is_checked(make_pool):
    pool, connector = make_pool(check_after=None)
    (conn,) = await idle_for(pool, 1, 299.0)
    assert await pool.acquire() is conn
    assert connector.checks.calls == 0


async def test_a_failed_check_costs_the_caller_no_error_but_gives_a_new_connection(make_pool):
    pool, connector = make_pool()
    (conn,) = await idle_for(pool, 1, 60.0)
    connector.checks.usual = fails()
    assert await pool.acquire() is not conn
    assert connector.closed == [conn]
    assert pool.stats().closed == {"check_failed": 1}


async def test_a_failed_check_closes_those_idle_for_longer_too(make_pool):
    pool, connector = make_pool()
    conns = await idle_for(pool, 10, 60.0)
    connector.checks.usual = fails()
    fresh = await pool.acquire()
    assert set(connector.closed) == set(conns)
    assert connector.live == {fresh}


async def test_a_check_that_never_ends_counts_as_failed_after_a_second(make_pool):
    pool, connector = make_pool(max_size=1)
    (conn,) = await idle_for(pool, 1, 60.0)
    connector.checks.usual = never
    start = asyncio.get_running_loop().time()
    assert await pool.acquire() is not conn
    assert asyncio.get_running_loop().time() == start + 1.0


async def test_a_caller_whose_check_takes_long_gets_another_connection_meanwhile(make_pool):
    pool, connector = make_pool(max_size=2)
    (conn,) = await idle_for(pool, 1, 60.0)
    connector.checks.usual = never
    start = asyncio.get_running_loop().time()
    assert await pool.acquire() is not conn
    assert asyncio.get_running_loop().time() == start + 0.1
    assert (pool.stats().checking, connector.opens.calls) == (1, 2)


async def test_where_openings_take_long_a_check_may_take_as_long(make_pool):
    pool, connector = make_pool(max_size=9)
    connector.opens.usual = slow(0.5)
    conns = await asyncio.gather(*(pool.acquire() for _ in range(4)))
    for conn in conns:
        await pool.release(conn)
    await asyncio.sleep(60)
    connector.checks.usual = slow(0.4)
    assert set(await asyncio.gather(*(pool.acquire() for _ in range(4)))) == set(conns)
    assert connector.opens.calls == 4


async def test_a_caller_whose_check_takes_long_has_the_next_idle_one_checked(make_pool):
    pool, connector = make_pool(max_size=2)
    conns = await idle_for(pool, 2, 60.0)
    connector.checks.next.append(never)
    start = asyncio.get_running_loop().time()
    assert await pool.acquire() is conns[0]
    assert asyncio.get_running_loop().time() == start + 0.1
    assert (connector.checks.calls, connector.opens.calls) == (2, 2)


async def test_rounding_does_not_make_a_check_be_counted_on_for_longer(make_pool):
    pool, connector = make_pool(max_size=2, check_after=1.0)
    (conn,) = await idle_for(pool, 1, 2.0)
    loop = asyncio.get_running_loop()
    start = 1023.9375
    assert (start + 0.1) - 0.1 < start
    await asyncio.sleep(start - loop.time())
    connector.checks.usual = never
    assert await pool.acquire() is not conn
    assert loop.time() == start + 0.1


async def test_nothing_is_opened_while_another_idle_one_can_be_checked(make_pool):
    pool, connector = make_pool(max_size=3)
    conns = await idle_for(pool, 3, 60.0)
    connector.checks.next.append(never)
    caller = asyncio.create_task(pool.acquire())
    await turns(2)
    conns[1].broken = True
    assert await caller is conns[0]
    assert connector.opens.calls == 3


async def test_each_waiter_has_a_check_of_its_own(make_pool):
    pool, connector = make_pool()
    conns = await idle_for(pool, 5, 60.0)
    connector.checks.usual = slow(0.05)
    start = asyncio.get_running_loop().time()
    got = await asyncio.gather(*(pool.acquire() for _ in range(5)))
    assert set(got) == set(conns)
    assert asyncio.get_running_loop().time() == start + 0.05


async def test_a_check_survives_its_caller(make_pool):
    pool, connector = make_pool()
    (conn,) = await idle_for(pool, 1, 60.0)
    connector.checks.usual = slow(0.5)
    caller = asyncio.create_task(pool.acquire())
    await turns(2)
    caller.cancel()
    await asyncio.sleep(0.5)
    assert await pool.acquire(timeout=0) is conn
    assert connector.checks.calls == 1


async def test_a_returned_connection_beats_a_slow_check(make_pool):
    pool, connector = make_pool()
    stale, busy = await pool.acquire(), await pool.acquire()
    await pool.release(stale)
    await asyncio.sleep(60)
    connector.checks.usual = slow(0.5)
    caller = asyncio.create_task(pool.acquire())
    await turns(2)
    await pool.release(busy)
    assert await caller is busy


async def test_a_check_cancelled_by_somebody_else_loses_nothing(make_pool):
    pool, connector = make_pool(max_size=1)
    await idle_for(pool, 1, 60.0)
    connector.checks.usual = slow(0.5)
    caller = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "aiopool-check":
            task.cancel()
    await caller
    assert pool.stats().size == 1


async def test_time_that_passed_while_the_loop_was_blocked_counts_as_idle(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    await pool.release(conn)
    asyncio.get_running_loop().block(60.0)
    assert await pool.acquire() is conn
    assert connector.checks.calls == 1


# ---- all at once ---------------------------------------------------------------------------------


async def test_a_recheck_checks_the_idle_at_once_and_the_lent_on_their_return(make_pool):
    pool, connector = make_pool()
    conns = await idle_for(pool, 3, 1.0)
    lent = await pool.acquire()
    pool._places.recheck()
    assert (pool.stats().checking, pool.stats().idle, pool.stats().lent) == (2, 0, 1)
    await asyncio.sleep(0.1)
    assert (pool.stats().checking, pool.stats().idle, connector.checks.calls) == (0, 2, 2)
    await pool.release(lent)
    assert pool.stats().checking == 1
    await asyncio.sleep(0.1)
    assert (pool.stats().idle, connector.checks.calls) == (3, 3)
    # And that was it.
    for conn in [await pool.acquire(timeout=0) for _ in conns]:
        await pool.release(conn)
    assert (pool.stats().idle, connector.checks.calls) == (3, 3)


async def test_a_recheck_while_one_is_checked_checks_it_again(make_pool):
    pool, connector = make_pool()
    await idle_for(pool, 1, 1.0)
    connector.checks.usual = slow(0.5)
    pool._places.recheck()
    await asyncio.sleep(0.2)
    pool._places.recheck()
    await asyncio.sleep(0.4)
    assert (pool.stats().checking, connector.checks.calls) == (1, 2)
    await asyncio.sleep(0.5)
    assert (pool.stats().idle, connector.checks.calls) == (1, 2)


async def test_a_connection_returned_to_be_checked_serves_the_first_in_line_after_it(make_pool):
    pool, connector = make_pool(max_size=1)
    conn = await pool.acquire()
    connector.checks.usual = slow(0.5)
    first, second = (asyncio.create_task(pool.acquire()) for _ in range(2))
    await turns(2)
    pool._places.recheck()
    await pool.release(conn)
    assert (pool.stats().checking, pool.stats().lent, pool.stats().waiting) == (1, 0, 2)
    assert await first is conn
    await pool.release(conn)
    assert await second is conn
    assert connector.checks.calls == 1


async def test_a_rechecked_connection_that_fails_is_closed_and_the_next_is_opened(make_pool):
    pool, connector = make_pool(max_size=1)
    conn = await pool.acquire()
    connector.checks.usual = fails()
    waiting = asyncio.create_task(pool.acquire())
    await turns(2)
    pool._places.recheck()
    await pool.release(conn)
    assert await waiting is not conn
    assert pool.stats().closed == {"check_failed": 1}


async def test_what_was_being_opened_at_a_recheck_is_checked_before_it_is_lent(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = slow(0.5)
    caller = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.2)
    pool._places.recheck()
    conn = await caller
    assert connector.checks.calls == 1
    await pool.release(conn)
    assert pool.stats().idle == 1
