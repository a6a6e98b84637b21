"""With `leak_after`, connections that don't come back are told of, and those of ended tasks at once."""

import asyncio
import gc
import logging
import weakref

import pytest
from clock import turns
from fakes import FakeConnector

from aiopool import Listener, Pool, PoolTimeout


class Ear(Listener):
    def __init__(self):
        self.leaked_ones = []
        self.back = []

    def leaked(self, _pool, holder):
        self.leaked_ones.append(holder)

    def leak_returned(self, _pool, holder):
        self.back.append(holder)


@pytest.fixture
def ear():
    return Ear()


async def use(pool, seconds):
    async with pool.connection():
        await asyncio.sleep(seconds)


async def test_what_is_lent_for_too_long_is_told_of_once_and_once_more_when_it_is_back(
    make_pool, ear
):
    pool, _ = make_pool(leak_after=10.0)
    pool.on(ear)
    task = asyncio.create_task(use(pool, 35.0), name="slow")
    await asyncio.sleep(9.99)
    assert not ear.leaked_ones
    await asyncio.sleep(0.02)
    (holder,) = ear.leaked_ones
    assert (holder.task, holder.age, holder.ended) == ("slow", 10.0, False)
    assert holder.where == holder.stack[0]
    assert holder.where.endswith(" in use")
    await task
    (back,) = ear.back
    assert (back.task, back.age) == ("slow", 35.0)
    assert len(ear.leaked_ones) == 1


async def test_the_stack_leads_from_the_acquisition_to_the_beginning_of_the_task(make_pool, ear):
    pool, _ = make_pool(leak_after=1.0)
    pool.on(ear)

    async def inner():
        return await pool.acquire()

    async def outer():
        conn = await inner()
        await asyncio.sleep(2.0)
        await pool.release(conn)

    await asyncio.create_task(outer())
    (holder,) = ear.leaked_ones
    assert [line.rpartition(" in ")[2] for line in holder.stack] == ["inner", "outer"]
    assert all("test_leaks.py:" in line for line in holder.stack)


async def test_each_lending_has_its_own_time(make_pool, ear):
    pool, _ = make_pool(leak_after=10.0)
    pool.on(ear)
    tasks = []
    for number in range(5):
        tasks.append(asyncio.create_task(use(pool, 11.0 if number % 2 else 9.0), name=str(number)))
        await asyncio.sleep(3.0)
    await asyncio.gather(*tasks)
    assert [(holder.task, holder.age) for holder in ear.leaked_ones] == [("1", 10.0), ("3", 10.0)]


async def test_a_line_of_the_log_says_all(make_pool, caplog):
    caplog.set_level(logging.INFO, "aiopool")
    pool, _ = make_pool(leak_after=10.0, name="cache")
    await asyncio.create_task(use(pool, 12.5), name="slow")
    lost, back = caplog.records
    assert (lost.levelname, back.levelname) == ("WARNING", "INFO")
    assert "'cache'" in lost.getMessage()
    assert "lent 10.0 s ago to task 'slow': " in lost.getMessage()
    assert "test_leaks.py:" in lost.getMessage()
    assert "after 12.5 s with task 'slow'" in back.getMessage()


async def lose(pool):
    await pool.acquire()


@pytest.mark.parametrize("reclaim", [False, True])
@pytest.mark.parametrize("how", ["returns", "fails", "is cancelled"])
async def test_what_a_task_that_has_ended_has_left_is_told_of_at_once(make_pool, ear, reclaim, how):
    pool, connector = make_pool(max_size=1, leak_after=60.0, reclaim=reclaim)
    pool.on(ear)

    async def handle():
        conn = await pool.acquire()
        if how == "fails":
            raise ValueError(conn)
        if how == "is cancelled":
            await asyncio.sleep(1000)

    task = asyncio.create_task(handle(), name="careless")
    await turns(5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await turns(1)
    (holder,) = ear.leaked_ones
    assert (holder.task, holder.ended, holder.age) == ("careless", True, 0.0)
    if reclaim:
        assert pool.stats().closed == {"reclaimed": 1}
        assert not connector.live
        await use(pool, 1.0)
        await pool.release(holder.conn)  # which its holder could do all the same
    else:
        with pytest.raises(PoolTimeout, match="1 lent to tasks that have ended"):
            await pool.acquire()
        await pool.release(holder.conn)
        assert [holder.task for holder in ear.back] == ["careless"]


async def test_a_waiter_gets_the_place_of_what_is_reclaimed(make_pool):
    pool, _ = make_pool(max_size=1, leak_after=60.0, reclaim=True)
    start = asyncio.get_running_loop().time()
    task = asyncio.create_task(lose(pool))
    await turns(3)
    await use(pool, 0.0)
    assert asyncio.get_running_loop().time() == start
    await task


async def test_the_error_of_a_careless_task_is_still_reported_by_asyncio(make_pool):
    pool, _ = make_pool(leak_after=60.0)
    loop = asyncio.get_running_loop()
    reported = []
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    async def fail():
        await pool.acquire()
        raise KeyError

    task = asyncio.create_task(fail())
    await turns(5)
    del task
    await pool.release(pool.holders()[0].conn)
    gc.collect()
    assert [type(error) for error in reported] == [KeyError]


@pytest.mark.parametrize("reclaim", [False, True])
async def test_what_was_handed_on_is_no_leak(make_pool, ear, reclaim):
    pool, connector = make_pool(leak_after=60.0, reclaim=reclaim)
    pool.on(ear)
    conn = await asyncio.wait_for(pool.acquire(), 3.0)  # a task of its own, before CPython 3.12
    other = await asyncio.create_task(pool.acquire())

    async def work(conn):
        await asyncio.sleep(5.0)
        await pool.release(conn)

    async def hand_on():
        asyncio.create_task(work(await pool.acquire()), name="worker").add_done_callback(print)

    await asyncio.create_task(hand_on())
    await asyncio.sleep(1.0)
    assert len(connector.live) == 3
    await asyncio.sleep(5.0)
    assert not ear.leaked_ones
    for each in (conn, other):
        await pool.release(each)
    assert pool.stats().closed == {}


async def test_what_was_handed_on_to_nobody_is_reclaimed_when_it_is_overdue(make_pool, ear):
    pool, connector = make_pool(leak_after=10.0, reclaim=True)
    pool.on(ear)
    task = asyncio.create_task(pool.acquire(), name="first")  # of which nobody takes the result
    await asyncio.sleep(9.0)
    assert connector.live
    del task
    await asyncio.sleep(2.0)
    assert [(holder.task, holder.ended) for holder in ear.leaked_ones] == [("first", True)]
    assert not connector.live
    assert pool.stats().closed == {"reclaimed": 1}


async def test_a_task_without_code_of_the_users_has_no_stack(make_pool, ear, caplog):
    pool, _ = make_pool(leak_after=10.0)
    pool.on(ear)
    conn = await asyncio.create_task(pool.acquire())
    await asyncio.sleep(11.0)
    (holder,) = ear.leaked_ones
    assert (holder.where, holder.stack) == (None, ())
    assert caplog.messages[0].endswith(", which has ended: no code of yours")
    await pool.release(conn)


@pytest.mark.parametrize("reclaim", [False, True])
async def test_what_is_handed_on_and_kept_too_long_is_told_of_all_the_same(make_pool, ear, reclaim):
    pool, _ = make_pool(leak_after=10.0, reclaim=reclaim)
    pool.on(ear)
    conn = await asyncio.create_task(pool.acquire(), name="first")
    await asyncio.sleep(11.0)
    assert [(holder.task, holder.ended) for holder in ear.leaked_ones] == [("first", True)]
    await pool.release(conn)
    assert len(ear.back) == 1


async def test_a_closed_pool_looks_for_nothing(make_pool, ear):
    pool, _ = make_pool(leak_after=10.0)
    pool.on(ear)
    task = asyncio.create_task(use(pool, 100.0))
    await turns(3)
    await pool.aclose(timeout=0)
    await task
    assert not ear.leaked_ones
    await pool.open()
    before = len(pool._events._listeners)
    for _ in range(3):
        await use(pool, 1.0)
        await pool.aclose()
        await pool.open()
    assert len(pool._events._listeners) == before


async def test_reclaim_needs_leak_after():
    with pytest.raises(ValueError, match="reclaim=True needs leak_after"):
        Pool(FakeConnector(), reclaim=True)
    with pytest.raises(TypeError, match=r"reclaim must be a bool, not 1 \(int\)"):
        Pool(FakeConnector(), reclaim=1, leak_after=1.0)


async def test_a_long_task_keeps_nothing_of_a_pool_that_was_closed():
    pool = Pool(FakeConnector(), leak_after=1.0)
    async with pool, pool.connection():
        hear = weakref.ref(pool._places.leaks._hear)
    assert hear() is None


async def test_a_long_task_keeps_no_pool_alive_that_it_has_used():
    pools = [Pool(FakeConnector(), leak_after=60.0)]
    await use(pools[0], 1.0)  # in this task
    await pools[0].aclose()
    gone = weakref.ref(pools[0])
    pools.clear()
    gc.collect()
    assert gone() is None


async def test_a_pool_that_is_dropped_open_says_where_it_was_made():
    pools = [Pool(FakeConnector(), name="forgotten")]
    await use(pools[0], 1.0)
    with pytest.warns(ResourceWarning) as warned:
        pools.clear()
    (warning,) = warned
    message = str(warning.message)
    assert message.startswith("<Pool 'forgotten' (size=1/10, idle=1, ")
    assert "was dropped without aclose(); it was made at " in message
    assert "test_leaks.py:" in message


@pytest.mark.parametrize("state", ["never used", "closed", "empty"])
async def test_a_pool_that_is_dropped_with_nothing_open_says_nothing(state):
    pools = [Pool(FakeConnector(), max_idle=1.0)]
    if state != "never used":
        await use(pools[0], 1.0)
    if state == "closed":
        await pools[0].aclose()
    await asyncio.sleep(2.0)
    pools.clear()  # a warning would fail the test


async def test_what_a_task_had_that_failed_is_forgotten_with_the_connection_it_left(make_pool):
    class Request:
        pass

    pool, _ = make_pool(leak_after=60.0, reclaim=True)
    requests = []

    async def handle():
        request = Request()
        requests.append(weakref.ref(request))
        await pool.acquire()
        raise ValueError

    await asyncio.gather(handle(), return_exceptions=True)
    await turns(2)
    assert pool.stats().closed == {"reclaimed": 1}
    gc.collect()
    assert requests[0]() is None
