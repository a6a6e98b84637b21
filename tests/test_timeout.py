"""A deadline is a deadline, whatever hangs; and the error says what happened."""

import asyncio

import pytest
from clock import elsewhere, turns
from fakes import never, slow

from aiopool import PoolTimeout, TooManyWaiters


async def timed(acquiring) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    with pytest.raises(PoolTimeout):
        await acquiring
    return loop.time() - start


async def test_the_default_timeout_is_five_seconds_exactly(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    assert await timed(pool.acquire()) == 5.0


async def test_the_timeout_of_the_call_goes_before_that_of_the_pool(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0)
    await elsewhere(pool.acquire())
    assert await timed(pool.acquire(timeout=0.25)) == 0.25
    assert await timed(pool.acquire(timeout=3)) == 3.0
    assert await timed(pool.acquire()) == 1.0


async def test_the_timeout_holds_although_opening_never_ends(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = never
    assert await timed(pool.acquire()) == 5.0


async def test_the_timeout_holds_although_checks_never_end(make_pool):
    pool, connector = make_pool()
    conns = [await pool.acquire() for _ in range(10)]
    for conn in conns:
        await pool.release(conn)
    await asyncio.sleep(60)
    connector.checks.usual = connector.opens.usual = never
    assert await timed(pool.acquire()) == 5.0


async def test_a_timeout_of_zero_takes_what_is_there_and_does_not_wait(make_pool):
    pool, _ = make_pool()
    assert await timed(pool.acquire(timeout=0)) == 0.0
    await asyncio.sleep(1)  # the opening it caused
    await pool.acquire(timeout=0)


async def test_deadlines_are_kept_in_any_order_of_arrival(make_pool):
    pool, _ = make_pool(max_size=1)
    await pool.acquire()
    timeouts = [3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0]
    assert await asyncio.gather(*(timed(pool.acquire(timeout=t)) for t in timeouts)) == timeouts


async def test_the_error_says_who_has_the_connections_and_for_how_long(make_pool):
    pool, _ = make_pool(max_size=2)

    async def hold(seconds: float) -> None:
        async with pool.connection():
            await asyncio.sleep(seconds)

    report = asyncio.create_task(hold(100), name="report")
    await asyncio.sleep(7.3)
    export = asyncio.create_task(hold(100), name="export")
    await turns(5)
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire()
    assert str(caught.value) == (
        "no connection within 5 s (size=2/2, idle=0, lent=2, opening=0, waiting=0; "
        "longest lent 12.3 s by task 'report')"
    )
    report.cancel()
    export.cancel()
    await turns(2)


async def test_one_more_than_max_waiting_is_turned_away_at_once(make_pool):
    pool, _ = make_pool(max_size=1, max_waiting=2)
    conn = await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await turns(2)
    with pytest.raises(TooManyWaiters, match=r"max_waiting=2 .*size=1/1, idle=0, lent=1"):
        await pool.acquire()
    assert pool.stats().rejected == 1
    waiters[0].cancel()  # its place is free at once
    third = asyncio.create_task(pool.acquire())
    await turns(2)
    for waiter in (waiters[1], third):
        await pool.release(conn)
        assert await waiter is conn


async def test_with_max_waiting_zero_callers_get_a_new_connection_or_an_error(make_pool):
    pool, connector = make_pool(max_size=3, max_waiting=0)
    connector.opens.usual = slow(0.1)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await turns(2)
    with pytest.raises(TooManyWaiters):
        await pool.acquire()
    await asyncio.gather(*callers)
    with pytest.raises(TooManyWaiters):
        await pool.acquire()


async def test_who_is_turned_away_takes_no_idle_connection_along(make_pool):
    pool, connector = make_pool(max_size=2, max_waiting=0, check_after=10.0)
    connector.checks.usual = never
    conns = [await pool.acquire() for _ in range(2)]
    for conn in conns:
        await pool.release(conn)
    await asyncio.sleep(20)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await turns(2)
    with pytest.raises(TooManyWaiters):
        await pool.acquire()
    assert pool.stats().size == 2
    for caller in callers:
        caller.cancel()
    await turns(2)


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
async def test_a_timeout_out_of_range_is_refused_even_if_it_were_not_needed(make_pool, timeout):
    pool, _ = make_pool()
    await pool.release(await pool.acquire())
    with pytest.raises(
        ValueError, match=f"timeout={timeout} is out of range: it must be 0 or more"
    ):
        await pool.acquire(timeout=timeout)
    assert pool.stats().idle == 1


@pytest.mark.parametrize("timeout", ["5", True, [1]])
async def test_a_timeout_of_the_wrong_type_is_refused(make_pool, timeout):
    pool, _ = make_pool()
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None"):
        await pool.acquire(timeout=timeout)


async def test_asyncio_timeout_round_acquire_works_and_loses_nothing(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await elsewhere(pool.acquire())
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.5):
            await pool.acquire()
    assert not isinstance(caught.value, PoolTimeout)
    await pool.release(conn)
    assert await pool.acquire(timeout=0) is conn
