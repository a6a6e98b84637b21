"""First come, first served, whatever happens in between."""

import asyncio
import gc
from random import Random

import pytest
from clock import elsewhere, turns
from fakes import FakeConnector, slow

from aiopool import Pool, PoolTimeout


async def test_a_thousand_waiters_and_newcomers_are_served_in_the_order_of_arrival(make_pool):
    pool, _ = make_pool(max_size=10, timeout=None)
    arrived, served = [], []

    async def use(number: int) -> None:
        arrived.append(number)
        async with pool.connection():
            served.append(number)
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as group:
        for number in range(1000):
            group.create_task(use(number))
            if number > 500:  # the later ones come while connections come back all the time
                await asyncio.sleep(0.0001)
    assert served == arrived == list(range(1000))


async def test_a_hot_loop_does_not_starve_a_waiter(make_pool):
    pool, _ = make_pool(max_size=1)
    turn_of_waiter = None

    async def hot() -> None:
        nonlocal turn_of_waiter
        for number in range(1000):
            async with pool.connection():
                await asyncio.sleep(0)
            if turn_of_waiter is None and waiter.done():
                turn_of_waiter = number

    async def wait() -> None:
        async with pool.connection():
            pass

    hot_task = asyncio.create_task(hot())
    waiter = asyncio.create_task(wait())
    await hot_task
    assert turn_of_waiter is not None
    assert turn_of_waiter <= 1


async def test_a_newcomer_in_the_tick_of_a_release_does_not_overtake(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    await pool.release(conn)  # handed to the waiter, whose task has not run yet
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0)
    assert await waiter is conn


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("cancel_first", [False, True])
async def test_a_waiter_cancelled_near_its_hand_over_has_the_connection_or_passes_it_on(
    make_pool, before, after, cancel_first
):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    next_one = asyncio.create_task(pool.acquire())
    await turns(2)
    if cancel_first:
        waiter.cancel()
        await turns(before)
        await pool.release(conn)
    else:
        await pool.release(conn)
        await turns(before)
        waiter.cancel()
    await turns(after)
    result = (await asyncio.gather(waiter, return_exceptions=True))[0]
    if result is conn:
        assert not cancel_first
        assert before > 0
        assert not next_one.done()
        await pool.release(conn)
    else:
        assert isinstance(result, asyncio.CancelledError)
    assert await next_one is conn
    await pool.release(conn)
    assert pool.stats().idle == 1


async def test_a_cancelled_waiter_in_the_middle_changes_nothing_for_the_others(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(5)]
    await turns(2)
    waiters[1].cancel()
    waiters[3].cancel()
    await turns(2)
    assert pool.stats().waiting == 3
    for number in (0, 2, 4):
        await pool.release(conn)
        await turns(2)
        assert [waiter.done() for waiter in waiters[::2]].count(True) == number // 2 + 1
        assert waiters[number].result() is conn


async def test_a_waiter_that_times_out_leaves_its_place_to_nobody_else(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire(timeout=t)) for t in (3.0, 1.0, 2.0)]
    await asyncio.sleep(2.5)
    assert [waiter.done() for waiter in waiters] == [False, True, True]
    await pool.release(conn)
    assert await waiters[0] is conn
    for waiter in waiters[1:]:
        assert isinstance(waiter.exception(), PoolTimeout)


async def test_ten_thousand_cancelled_waiters_leave_nothing_behind(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(10_000)]
    await turns(2)
    assert pool.stats().waiting == 10_000
    for waiter in waiters:
        waiter.cancel()
    await turns(1)
    assert pool.stats().waiting == 0
    await turns(1)
    assert not pool._places.line.waiters
    last = asyncio.create_task(pool.acquire())
    await turns(2)
    await pool.release(conn)
    assert await last is conn


async def test_a_cancelled_waiter_is_passed_over_at_once(make_pool):
    pool, connector = make_pool(max_size=2)
    conns = [await pool.acquire(), await pool.acquire()]
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await turns(2)
    waiters[0].cancel()
    waiters[1].cancel()
    await pool.release(conns[0])
    await pool.release(conns[1])
    assert pool.stats().idle == 1
    assert await waiters[2] is conns[0]
    assert connector.opens.calls == 2


async def test_nothing_is_opened_for_a_cancelled_waiter(make_pool):
    pool, connector = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    waiter.cancel()
    conn.broken = True
    await pool.release(conn)
    await turns(5)
    assert pool.stats().size == 0
    assert connector.opens.calls == 1


async def test_a_cancelled_waiter_is_out_of_the_line_when_its_task_has_run(make_pool):
    pool, _ = make_pool(max_size=1, max_waiting=1)
    await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    waiter.cancel()
    await turns(1)
    assert pool.stats().waiting == 0


async def test_a_cancelled_waiter_keeps_nobody_out(make_pool):
    pool, _ = make_pool(max_size=1, max_waiting=1)
    conn = await elsewhere(pool.acquire())
    waiters = [asyncio.create_task(pool.acquire())]
    await turns(2)
    waiters[0].cancel()
    acquiring = pool.acquire()
    acquiring.send(None)  # before the cancelled one has heard of it
    acquiring.close()
    await turns(2)
    await pool.release(conn)


async def test_who_waits_is_kept_alive_by_the_line_alone():
    ended = []

    async def wait_on_a_pool_of_its_own() -> None:
        connector = FakeConnector()
        pool = Pool(connector, max_size=1)
        await pool.acquire()
        try:
            await pool.acquire()
        except PoolTimeout:
            ended.append("timed out")
        await pool.aclose(timeout=0)

    task = asyncio.create_task(wait_on_a_pool_of_its_own())
    await turns(5)
    del task
    gc.collect()
    await asyncio.sleep(10)
    assert ended == ["timed out"]


async def test_deadlines_of_waiters_that_have_left_do_not_pile_up(make_pool):
    pool, _ = make_pool(max_size=1, timeout=3600.0)
    for _ in range(1000):
        conn = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        await turns(2)
        await pool.release(conn)
        await pool.release(await waiter)
    assert not pool._places.line.waiters
    assert not pool._places.line._early


async def test_early_deadlines_of_waiters_that_have_left_do_not_pile_up(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    patient = asyncio.create_task(pool.acquire(timeout=None))
    await turns(2)
    for _ in range(1000):
        waiter = asyncio.create_task(pool.acquire(timeout=3600.0))
        await turns(2)
        waiter.cancel()
        await turns(2)
    assert len(pool._places.line._early) < 100
    await pool.release(conn)
    assert await patient is conn


@pytest.mark.parametrize("seed", range(20))
async def test_deadlines_in_any_order_are_kept_to_the_moment(make_pool, seed):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    loop, random = asyncio.get_running_loop(), Random(seed)

    async def wait(timeout: float | None) -> None:
        start = loop.time()
        try:
            await pool.acquire(timeout=timeout)
        except PoolTimeout:
            assert loop.time() == pytest.approx(start + timeout)
        else:
            raise AssertionError

    timeouts = [random.choice([1.0, 2.0, 5.0, 5.0, 5.0, None]) for _ in range(30)]
    tasks = []
    for timeout in timeouts:
        tasks.append(asyncio.create_task(wait(timeout)))
        await asyncio.sleep(random.choice([0.0, 0.0, 0.1, 1.0]))
    await asyncio.sleep(10)
    for timeout, task in zip(timeouts, tasks, strict=True):
        assert task.done() == (timeout is not None)
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)
    await pool.release(conn)


async def test_every_waiter_of_a_burst_is_served_though_connections_break(make_pool):
    pool, connector = make_pool(max_size=5)
    connector.opens.usual = slow(0.01)
    served = 0

    async def use(number: int) -> None:
        nonlocal served
        async with pool.connection() as conn:
            served += 1
            await asyncio.sleep(0.001)
            conn.broken = number % 3 == 0

    await asyncio.gather(*(use(number) for number in range(300)))
    assert served == 300
