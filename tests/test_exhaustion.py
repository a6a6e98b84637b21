"""Who gets no connection is told why: who has them, since when, and whether the loop was blocked."""

import asyncio
import copy
import pickle
from threading import Lock

import pytest
from clock import elsewhere, turns
from fakes import fails

from aiopool import PoolTimeout, TooManyWaiters


async def rows(pool):
    return await pool.acquire()


async def exhausted(pool, error=PoolTimeout, **options):
    with pytest.raises(error) as caught:
        await pool.acquire(**options)
    return caught.value


async def test_the_error_knows_the_state_and_the_holders(make_pool):
    pool, _ = make_pool(max_size=2, leak_after=60.0, name="cache")
    for name in ("early", "late"):
        await asyncio.create_task(rows(pool), name=name)
        await asyncio.sleep(3.0)
    error = await exhausted(pool)
    assert (error.stats.lent, error.stats.size, error.stats.timed_out) == (2, 2, 1)
    assert [(holder.task, holder.age) for holder in error.holders] == [
        ("early", 11.0),
        ("late", 8.0),
    ]
    assert (error.waited, error.blocked, error.pool) == (5.0, 0.0, "Pool 'cache'")
    assert str(error) == (
        "no connection within 5 s (size=2/2, idle=0, lent=2, opening=0, waiting=0; longest lent 11.0 s"
        f" by task 'early' at {error.holders[0].where}; 2 lent to tasks that have ended)"
    )


async def test_who_is_turned_away_is_told_as_much(make_pool):
    pool, _ = make_pool(max_size=1, max_waiting=0)
    await asyncio.create_task(pool.acquire(), name="holder")
    await asyncio.sleep(2.0)
    error = await exhausted(pool, TooManyWaiters)
    assert (error.stats.lent, error.waited) == (1, 0.0)
    assert [(holder.task, holder.age) for holder in error.holders] == [("holder", 2.0)]


async def test_the_report_is_the_whole_picture(make_pool):
    pool, connector = make_pool(max_size=2, leak_after=60.0, name="cache")

    async def handle():
        conn = await pool.acquire()
        await asyncio.sleep(100)
        return conn

    task = asyncio.create_task(handle(), name="handler")
    await turns(5)
    connector.opens.usual = fails()
    error = await exhausted(pool)
    lines = error.report().splitlines()
    assert lines[0] == f"PoolTimeout: {error}"
    assert lines[1] == ("pool: Pool 'cache' (size=1/2, idle=0, lent=1, opening=0, waiting=0)")
    assert lines[2] == "waited: 5.000 s, of which the event loop was blocked for 0.000 s"
    assert lines[3] == "so far: 1 acquired, 1 timed out, 0 rejected"
    assert lines[4].startswith("connections: 1 opened, ")
    assert lines[5] == "last failed opening: ConnectionRefusedError"
    assert lines[6:8] == ["lent: 1", "  5.000 s by task 'handler'"]
    assert "test_exhaustion.py" in lines[8]
    assert lines[8].endswith(" in handle")
    task.cancel()
    await asyncio.wait([task])


async def test_an_error_knows_ten_holders_and_tells_of_how_many_there_are(make_pool):
    pool, _ = make_pool(max_size=25)
    for number in range(25):
        await asyncio.create_task(pool.acquire(), name=f"task {number}")
        await asyncio.sleep(1.0)
    error = await exhausted(pool)
    assert [holder.task for holder in error.holders] == [f"task {number}" for number in range(10)]
    assert error.report().splitlines()[-1] == "  and 15 others, not for so long"
    assert str(error).endswith(
        "; longest lent 30.0 s by task 'task 0'; 25 lent to tasks that have ended)"
    )


async def test_an_error_made_by_hand_has_a_report_too():
    assert PoolTimeout("mine").report() == "mine"


async def test_copies_of_an_error_know_as_much(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    error = await exhausted(pool)
    assert copy.copy(error).stats == error.stats
    error.holders.clear()  # of which the connections can't be pickled
    assert pickle.loads(pickle.dumps(error)).report() == error.report()  # noqa: S301 - its own


@pytest.mark.parametrize("blocked", [0.0, 0.045, 0.25, 3.0, 4.75])
async def test_a_blocked_event_loop_is_told_from_a_busy_pool(make_pool, blocked):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.1)
    asyncio.get_running_loop().block(blocked)
    error = (await asyncio.gather(waiter, return_exceptions=True))[0]
    # When it began is taken to be in the middle of a beat.
    assert error.blocked == pytest.approx(blocked, abs=1 / 64)
    assert ("the event loop was blocked" in str(error)) == (blocked > 0.05)  # not "for 0.0 s"
    assert pool.stats().blocked_seconds == error.blocked


async def test_the_loop_counts_as_blocked_for_those_alone_who_waited_then(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    early = asyncio.create_task(pool.acquire(timeout=6.0))
    await asyncio.sleep(1.0)
    asyncio.get_running_loop().block(2.0)
    await asyncio.sleep(1.0)
    late = asyncio.create_task(pool.acquire(timeout=1.0))
    await asyncio.wait([early, late])
    assert early.exception().blocked > 1.5
    assert late.exception().blocked == 0


async def test_who_joins_the_line_after_the_loop_was_blocked_is_not_told_of_it(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    early = asyncio.create_task(pool.acquire(timeout=6.0))
    await asyncio.sleep(1.0)
    asyncio.get_running_loop().block(2.0)
    late = await exhausted(pool, timeout=1.0)
    await asyncio.wait([early])
    assert early.exception().blocked > 1.5
    assert late.blocked == 0


async def test_a_block_that_several_tasks_make_is_counted_once(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    loop = asyncio.get_running_loop()

    async def compute_and_acquire():
        loop.block(0.02)
        await pool.acquire(timeout=10.0)

    early = asyncio.create_task(pool.acquire(timeout=2.0))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(compute_and_acquire()) for _ in range(50)]
    await asyncio.wait([early])
    assert 0.9 < early.exception().blocked <= 1.0
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_nobody_is_told_of_a_longer_block_than_it_has_waited(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    early = asyncio.create_task(pool.acquire(timeout=10.0))
    await asyncio.sleep(1 / 32 - 0.001)  # to just before the next beat
    late = asyncio.create_task(pool.acquire(timeout=0.1))
    await asyncio.sleep(0)
    asyncio.get_running_loop().block(0.5)
    await asyncio.wait([early, late])
    assert late.exception().blocked == pytest.approx(0.5, abs=1 / 64)
    assert late.exception().blocked <= late.exception().waited


async def test_a_beat_for_somebody_who_has_left_is_not_counted_for_the_next(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    first = asyncio.create_task(pool.acquire())
    await asyncio.sleep(1 / 64)
    first.cancel()
    await asyncio.sleep(1 / 128)
    second = asyncio.create_task(pool.acquire())
    await turns(1)
    asyncio.get_running_loop().block(1.0)
    await asyncio.wait([first, second])
    assert pool.stats().blocked_seconds == 1.0


async def test_a_loop_that_nobody_waits_on_is_not_looked_at(make_pool):
    pool, _ = make_pool()
    conn = await pool.acquire()
    asyncio.get_running_loop().block(10.0)
    await asyncio.sleep(1.0)
    await pool.release(conn)
    assert pool.stats().blocked_seconds == 0


async def test_waiters_are_listed_in_the_order_of_arrival(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    tasks = []
    for name in ("first", "second", "third"):
        tasks.append(asyncio.create_task(pool.acquire(), name=name))
        await asyncio.sleep(1.0)
    tasks[1].cancel()
    await turns(2)
    assert [(waiting.task, waiting.age) for waiting in pool.waiters()] == [
        ("first", 3.0),
        ("third", 1.0),
    ]
    await asyncio.wait(tasks)


async def test_the_last_error_is_told_until_an_opening_succeeds(make_pool):
    pool, connector = make_pool(max_size=1)
    connector.opens.usual = fails()
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0.5)
    assert pool.last_error == "ConnectionRefusedError: refused"
    connector.opens.usual = fails(RuntimeError("with a password"))
    with pytest.raises((PoolTimeout, RuntimeError)):
        await pool.acquire(timeout=2.0)
    assert pool.last_error == "RuntimeError"
    connector.opens = type(connector.opens)()
    await pool.release(await pool.acquire())
    assert pool.last_error is None


async def test_an_error_can_go_to_another_process_without_the_connections(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await elsewhere(pool.acquire())
    conn.socket = Lock()  # which no pickle can have
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire(timeout=0)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own
    assert error.report() == caught.value.report()
    assert ([holder.conn for holder in error.holders], error.stats) == ([None], caught.value.stats)
    assert caught.value.holders[0].conn is conn
