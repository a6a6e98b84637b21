"""Closing ends, whatever is going on."""

import asyncio

import pytest
from clock import turns
from fakes import fails, never, slow, stubborn, unmoved

from aiopool import NotLent, PoolClosed


async def elapsed(awaitable) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await awaitable
    return loop.time() - start


async def test_a_pool_that_was_never_used_can_be_closed(make_pool):
    pool, _ = make_pool()
    await pool.aclose()
    with pytest.raises(PoolClosed):
        await pool.acquire()


async def test_idle_connections_are_closed_at_once(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    await pool.release(conn)
    assert await elapsed(pool.aclose()) == 0.0
    assert connector.closed == [conn]


async def test_waiters_get_pool_closed_at_once(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await turns(2)
    closing = asyncio.create_task(pool.aclose())
    await turns(3)
    for waiter in waiters:
        assert isinstance(waiter.exception(), PoolClosed)
    await pool.release(conn)
    await closing


async def test_lent_connections_have_the_grace_period_to_come_back(make_pool):
    pool, connector = make_pool()
    conns = [await pool.acquire() for _ in range(2)]
    closing = asyncio.create_task(elapsed(pool.aclose()))
    await asyncio.sleep(1.0)
    await pool.release(conns[0])
    assert connector.closed == [conns[0]]
    await asyncio.sleep(1.0)
    assert not closing.done()
    await pool.release(conns[1])
    assert await closing == 2.0


async def test_after_the_grace_period_lent_connections_are_closed_under_their_holders(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    assert await elapsed(pool.aclose()) == 5.0
    assert connector.closed == [conn]
    await pool.release(conn)  # the holder's `finally` must not fail for it
    with pytest.raises(NotLent):
        await pool.release(conn)


async def test_a_grace_of_zero_waits_for_nobody_and_of_none_for_everybody(make_pool):
    pool, _ = make_pool()
    await pool.acquire()
    assert await elapsed(pool.aclose(timeout=0)) == 0.0
    pool, _ = make_pool()
    conn = await pool.acquire()
    closing = asyncio.create_task(elapsed(pool.aclose(timeout=None)))
    await asyncio.sleep(100_000)
    await pool.release(conn)
    assert await closing == 100_000


async def test_openings_and_checks_under_way_are_ended(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    await pool.release(conn)
    await asyncio.sleep(60)
    connector.opens.usual = connector.checks.usual = never
    callers = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await turns(2)
    assert (pool.stats().opening, pool.stats().checking) == (2, 1)
    assert await elapsed(pool.aclose()) == 0.0
    assert connector.opening == 0
    assert connector.closed == [conn]
    for caller in callers:
        assert isinstance(caller.exception(), PoolClosed)


async def test_an_opening_that_succeeds_in_the_tick_of_closing_is_closed(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = slow(1.0)
    caller = asyncio.create_task(pool.acquire())
    await asyncio.sleep(1.0)
    await pool.aclose()
    assert not connector.live
    assert isinstance(caller.exception(), PoolClosed)


async def test_a_connector_that_ignores_its_cancellation_does_not_hold_up_closing(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = unmoved(60.0)
    caller = asyncio.create_task(pool.acquire())
    await turns(3)
    assert await elapsed(pool.aclose()) == 1.0
    assert isinstance(caller.exception(), PoolClosed)
    (left,) = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait([left])
    assert connector.opens.calls == len(connector.closed) == 1


async def test_an_opening_whose_cancellation_is_lost_is_cancelled_again_and_leaves_nothing(
    make_pool,
):
    pool, connector = make_pool()
    connector.opens.usual = stubborn
    caller = asyncio.create_task(pool.acquire())
    await turns(3)
    assert await elapsed(pool.aclose()) == 0.75
    assert isinstance(caller.exception(), PoolClosed)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_opening_that_succeeds_in_spite_of_its_cancellation_is_closed(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = unmoved(0.5)
    caller = asyncio.create_task(pool.acquire())
    await turns(3)
    await pool.aclose()
    assert connector.opens.calls == len(connector.closed) == 1
    assert isinstance(caller.exception(), PoolClosed)


async def test_an_error_in_close_does_not_hold_up_closing(make_pool, caplog):
    pool, connector = make_pool()
    conns = [await pool.acquire() for _ in range(3)]
    await pool.release(conns[0])
    connector.close_error = RuntimeError("close failed")
    await pool.aclose(timeout=0)
    assert set(connector.closed) == set(conns)
    assert "close failed" in caplog.text


async def test_closing_twice_is_closing_once(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    await pool.release(conn)
    await pool.aclose()
    await pool.aclose()
    assert connector.closed == [conn]


async def test_two_closings_at_once_both_wait_for_the_end(make_pool):
    pool, _ = make_pool()
    conn = await pool.acquire()
    closings = [asyncio.create_task(elapsed(pool.aclose(timeout=t))) for t in (None, 50.0)]
    await asyncio.sleep(10.0)
    await pool.release(conn)
    assert await asyncio.gather(*closings) == [10.0, 10.0]


async def test_a_closing_cancelled_half_way_is_finished_by_a_second(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(2.0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(PoolClosed):
        await pool.acquire()
    await pool.aclose(timeout=0)
    assert connector.closed == [conn]


async def test_if_a_closing_is_cancelled_the_grace_is_over(make_pool):
    pool, connector = make_pool()
    conns = []

    async def use():
        async with pool:
            conns.append(await pool.acquire())

    task = asyncio.create_task(use())
    await asyncio.sleep(2.0)
    assert not connector.closed
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connector.closed == conns
    await pool.release(conns[0])


async def test_nothing_is_opened_for_min_size_while_closing(make_pool):
    pool, connector = make_pool(min_size=3)
    await pool.open()
    conn = await pool.acquire()
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(1.0)
    assert connector.live == {conn}
    await pool.release(conn)
    await closing
    assert connector.opens.calls == 3


async def test_leaving_the_context_closes_the_pool(make_pool):
    pool, connector = make_pool(min_size=2)
    async with pool:
        assert pool.stats().idle == 2
    assert not connector.live
    with pytest.raises(PoolClosed):
        await pool.warm(1)


async def test_a_context_that_can_not_be_entered_leaves_nothing_behind(make_pool):
    pool, connector = make_pool(min_size=2)
    connector.opens.usual = fails(ValueError("a wrong option"))
    with pytest.raises(ValueError, match="a wrong option"):
        async with pool:
            pytest.fail("entered")
    with pytest.raises(PoolClosed):
        await pool.acquire()
    await asyncio.sleep(10)
    assert connector.opens.calls == 2


async def test_entering_the_context_can_be_cancelled(make_pool):
    pool, connector = make_pool(min_size=2)
    connector.opens.usual = never
    entering = asyncio.create_task(pool.__aenter__())
    await turns(3)
    entering.cancel()
    await asyncio.gather(entering, return_exceptions=True)
    assert entering.cancelled()
    assert connector.opening == 0


async def test_a_closed_pool_can_be_opened_again(make_pool):
    pool, connector = make_pool(min_size=1)
    async with pool:
        held = await pool.acquire()
        await pool.aclose(timeout=0)
    async with pool:
        conn = await pool.acquire()
        assert connector.live == {conn}
        await pool.release(held)  # of the former life
        await pool.release(conn)


async def test_a_pool_that_is_still_closing_can_not_be_opened(make_pool):
    pool, _ = make_pool()
    conn = await pool.acquire()
    closing = asyncio.create_task(pool.aclose())
    await turns(3)
    with pytest.raises(PoolClosed, match="still being closed"):
        await pool.open()
    await pool.release(conn)
    await closing
    await pool.open()


async def test_a_pool_whose_openings_are_still_ending_can_not_be_opened(make_pool):
    pool, connector = make_pool(max_size=2)
    connector.opens.usual = unmoved(0.5)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await turns(3)
    closing = asyncio.create_task(pool.aclose())
    await turns(3)
    with pytest.raises(PoolClosed, match="still being closed"):
        await pool.open()
    await closing
    await pool.open()
    assert connector.peak_opening == 2
    for caller in callers:
        assert isinstance(caller.exception(), PoolClosed)


async def test_what_was_severed_may_be_released_after_the_pool_was_opened_and_closed_again(
    make_pool,
):
    pool, _ = make_pool()
    conns = []
    for _ in range(10):
        await pool.open()
        conns += [await pool.acquire() for _ in range(5)]
        await pool.aclose(timeout=0)
        await pool.aclose(timeout=0)
    for conn in conns:
        await pool.release(conn)
    with pytest.raises(NotLent):
        await pool.release(conns[0])
    assert not pool._severed


async def test_of_what_is_severed_and_never_released_only_some_is_remembered(make_pool):
    pool, _ = make_pool(max_size=500)
    for _ in range(4):
        await pool.open()
        conns = [await pool.acquire() for _ in range(500)]
        await pool.aclose(timeout=0)
    assert len(pool._severed) == 1000
    await pool.release(conns[0])


async def test_who_opens_or_warms_a_pool_that_is_closed_meanwhile_gets_pool_closed(make_pool):
    pool, connector = make_pool(min_size=1)
    connector.opens.usual = slow(1.0)
    opening = asyncio.create_task(pool.open())
    warming = asyncio.create_task(pool.warm(5))
    await asyncio.sleep(0.5)
    await pool.aclose()
    for task in (opening, warming):
        with pytest.raises(PoolClosed):
            await task
