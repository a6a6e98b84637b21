"""A view lends a pool's connections under a ceiling of its own."""

import asyncio
import gc
import weakref

import pytest
from clock import elsewhere, turns
from fakes import FakeConnector

from aiopool import Listener, Pool, PoolClosed, PoolDeadlock, PoolTimeout, TooManyWaiters


async def test_a_view_never_takes_the_last_connection_from_the_others(make_pool):
    pool, _ = make_pool(max_size=5)
    view = view_of(pool, limit=2)
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(hold(view, 1.0))
        await asyncio.sleep(0.5)
        assert (view.stats().lent, view.stats().waiting) == (2, 8)
        others = [group.create_task(hold(pool, 0.25)) for _ in range(3)]
        await turns(3)
        assert pool.stats().lent == 5
        await asyncio.wait(others)
    assert view.stats().acquired == 10


def view_of(pool, **options):
    """Make a view that lives as long as the pool."""
    view = pool.view(**options)
    pool.keeps = view
    return view


async def hold(lender, seconds):
    async with lender.connection():
        await asyncio.sleep(seconds)


async def test_who_waits_for_a_view_is_served_in_the_order_of_arrival(make_pool):
    pool, _ = make_pool(max_size=5)
    view = view_of(pool, limit=1)
    served = []

    async def use(number):
        async with view.connection():
            served.append(number)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(use(number))
            if number == 10:
                await asyncio.sleep(0.35)
    assert served == list(range(20))


async def test_the_deadline_covers_both_lines(make_pool):
    pool, _ = make_pool(max_size=1)
    view = view_of(pool, limit=1, name="slow")
    start = asyncio.get_running_loop().time()
    holder = asyncio.create_task(hold(view, 3.0))
    await turns(3)
    others = asyncio.create_task(hold(pool, 60.0))  # next in the pool's line
    await turns(1)
    with pytest.raises(PoolTimeout, match="no connection within 1 s") as caught:
        await view.acquire(timeout=4.0)
    assert caught.value.waited == 4.0
    assert asyncio.get_running_loop().time() == start + 4.0
    await holder
    others.cancel()
    await asyncio.wait([others])


async def test_the_error_of_a_view_tells_the_state_of_the_view(make_pool):
    pool, _ = make_pool(max_size=5, name="cache")
    view = view_of(pool, limit=1, name="pubsub")
    await elsewhere(view.acquire())
    await asyncio.sleep(7)
    with pytest.raises(PoolTimeout) as caught:
        await view.acquire(timeout=2)
    error = caught.value
    assert "as 'pubsub of cache' has lent all that it may (size=1/1, idle=0, lent=1, " in str(error)
    assert "longest lent 9.0 s by task" in str(error)
    assert error.pool == "Pool 'pubsub of cache'"
    assert (error.stats.lent, error.waited, len(error.holders)) == (1, 2.0, 1)
    assert view.stats().timed_out == 1
    assert pool.stats().timed_out == 0
    assert "Pool 'pubsub of cache'" in error.report()


@pytest.mark.parametrize("how", ["view", "pool", "closing"])
async def test_a_connection_that_comes_back_in_any_way_makes_room_in_the_view(make_pool, how):
    pool, _ = make_pool(max_size=5)
    view = view_of(pool, limit=1)
    conn = await view.acquire()
    waiter = asyncio.create_task(view.acquire())
    await turns(2)
    if how == "closing":
        conn.broken = True
    await (view if how == "view" else pool).release(conn)
    await turns(3)
    assert (await waiter is conn) == (how != "closing")
    assert view.stats().lent == 1
    await view.release(waiter.result())
    assert view.stats().lent == 0


@pytest.mark.parametrize("turns_before", range(4))
@pytest.mark.parametrize("turns_between", range(3))
async def test_a_cancelled_caller_loses_no_permit(make_pool, turns_before, turns_between):
    pool, _ = make_pool(max_size=1)
    view = view_of(pool, limit=1)
    conn = await view.acquire()
    waiters = [asyncio.create_task(view.acquire()) for _ in range(3)]
    await turns(turns_before)
    await view.release(conn)
    await turns(turns_between)
    waiters[0].cancel()
    await asyncio.wait(waiters[:1])
    if not waiters[0].cancelled():
        await view.release(waiters[0].result())
    for waiter in waiters[1:]:
        await view.release(await waiter)
    assert view.stats().lent == view.stats().waiting == 0
    await view.release(await view.acquire(timeout=0))


async def test_a_failed_opening_loses_no_permit(make_pool):
    pool, connector = make_pool(max_size=3)
    view = view_of(pool, limit=1)

    async def fail():
        raise KeyError

    connector.opens.next.append(fail)
    with pytest.raises(KeyError):
        await view.acquire()
    await view.release(await view.acquire(timeout=1))


async def test_closing_the_pool_sends_away_who_waits_for_a_view(make_pool):
    pool, _ = make_pool(max_size=2)
    view = view_of(pool, limit=1)
    await elsewhere(view.acquire())
    waiter = asyncio.create_task(view.acquire(timeout=None))
    await turns(2)
    await pool.aclose(timeout=1.0)
    with pytest.raises(PoolClosed):
        await waiter
    assert view.stats().lent == 0


async def test_a_view_goes_on_when_its_pool_is_opened_again(make_pool):
    pool, _ = make_pool(max_size=2)
    view = view_of(pool, limit=1)
    await elsewhere(view.acquire())
    await pool.aclose(timeout=0)
    await pool.open()
    await view.release(await view.acquire(timeout=1))
    assert view.stats().acquired == 2


async def test_a_nested_acquire_through_a_full_view_is_refused_at_once(make_pool):
    pool, _ = make_pool(max_size=5)
    view = view_of(pool, limit=1)
    start = asyncio.get_running_loop().time()
    async with view.connection():
        with pytest.raises(PoolDeadlock, match="all that 'view of pool' may lend"):
            await view.acquire()
    assert asyncio.get_running_loop().time() == start
    assert (view.stats().lent, view.stats().waiting) == (0, 0)


async def test_it_is_no_deadlock_while_another_of_the_view_waits_in_the_pools_line(make_pool):
    pool, _ = make_pool(max_size=2)
    view = view_of(pool, limit=2)
    other = await elsewhere(pool.acquire())
    async with view.connection():
        second = asyncio.create_task(hold(view, 1.0))
        await turns(2)

        async def give_back():
            await asyncio.sleep(1.0)
            await pool.release(other)

        giving = asyncio.create_task(give_back())
        async with view.connection():
            pass
        await asyncio.gather(second, giving)


async def test_max_waiting_counts_for_the_line_of_a_view_too(make_pool):
    pool, _ = make_pool(max_size=5, max_waiting=1)
    view = view_of(pool, limit=1)
    await elsewhere(view.acquire())
    waiter = asyncio.create_task(view.acquire())
    await turns(2)
    with pytest.raises(TooManyWaiters, match="max_waiting=1 callers wait already"):
        await view.acquire()
    assert view.stats().rejected == 1
    waiter.cancel()
    await asyncio.wait([waiter])


async def test_a_view_tells_of_its_own_lendings_only(make_pool):
    told = []

    class Ear(Listener):
        def lent(self, pool, _conn, waited):
            told.append((pool.name, "lent", waited))

        def returned(self, pool, _conn, used):
            told.append((pool.name, "returned", used))

        def waiting(self, pool):
            told.append((pool.name, "waiting"))

    pool, _ = make_pool(max_size=5)
    view = view_of(pool, limit=1, name="mine")
    view.on(Ear())
    await hold(pool, 1.0)
    holder = asyncio.create_task(hold(view, 2.0))
    await turns(1)
    await hold(view, 0.5)
    await holder
    name = "mine of pool"
    assert told == [
        (name, "lent", 0.0),
        (name, "waiting"),
        (name, "returned", 2.0),
        (name, "lent", 2.0),
        (name, "returned", 0.5),
    ]
    assert view.stats().use_seconds == 2.5


async def test_what_ends_in_the_line_of_a_view_is_logged_as_well_and_nothing_twice(
    make_pool, caplog
):
    pool, _ = make_pool(max_size=2, name="cache")
    view = view_of(pool, limit=1, name="mine")
    conn = await elsewhere(view.acquire())
    with pytest.raises(PoolTimeout):
        await view.acquire(timeout=1.0)
    await view.release(conn)
    for _ in range(2):
        await elsewhere(pool.acquire())
    await asyncio.sleep(60.0)  # or it would be one of those that are left out
    with pytest.raises(PoolTimeout):
        await view.acquire(timeout=1.0)
    ours, pools = caplog.messages
    assert ours.startswith("PoolTimeout of Pool 'mine of cache': no connection within 1 s")
    assert pools.startswith("PoolTimeout of Pool 'cache': no connection within 1 s")


async def test_a_dropped_view_leaves_nothing_in_the_pool(make_pool):
    pool, _ = make_pool()
    before = len(pool._events._listeners)
    view = pool.view(limit=1)
    await hold(view, 1.0)
    gone = weakref.ref(view)
    del view
    gc.collect()
    assert gone() is None
    assert len(pool._events._listeners) == before


async def test_a_pool_and_its_view_can_go_though_a_listener_knows_them():
    class Service(Listener):
        def lent(self, pool, conn, waited):
            pass

    service = Service()
    service.pool = Pool(FakeConnector())
    service.view = service.pool.view(limit=1)
    service.pool.on(service)
    await hold(service.view, 1.0)
    await service.pool.aclose()
    gone = weakref.ref(service.view)
    del service
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"limit": 0}, ValueError, "limit=0 is out of range: it must be from 1 to 10"),
        ({"limit": 11}, ValueError, "limit=11 is out of range: it must be from 1 to 10"),
        ({"limit": "3"}, TypeError, "limit must be an int, not '3' (str)"),
        ({"limit": 3, "name": 4}, TypeError, "name must be a str or None, not 4 (int)"),
    ],
)
async def test_a_bad_argument_is_named(make_pool, options, error, words):
    pool, _ = make_pool()
    with pytest.raises(error) as caught:
        pool.view(**options)
    assert str(caught.value) == words


async def test_what_was_lent_outside_of_any_task_is_missed_no_more_when_it_is_back(make_pool):
    pool, _ = make_pool(max_size=2)
    view = view_of(pool, limit=1)
    async with pool.connection():
        pass  # so that one is idle
    lent = asyncio.get_running_loop().create_future()

    def callback():
        with pytest.raises(StopIteration) as caught:
            view.acquire().send(None)
        lent.set_result(caught.value.value)

    asyncio.get_running_loop().call_soon(callback)
    await pool.release(await lent)
    assert view.stats().lent == 0
    async with view.connection():
        pass


async def test_who_was_let_through_as_the_pool_was_closed_and_opened_again_is_sent_away(make_pool):
    pool, _ = make_pool(max_size=2)
    view = view_of(pool, limit=1)
    conn = await view.acquire()
    waiter = asyncio.create_task(view.acquire())
    await turns(1)
    await view.release(conn)
    await pool.aclose()
    await pool.open()
    with pytest.raises(PoolClosed):
        await waiter
    assert (pool.stats().lent, view.stats().lent) == (0, 0)
    async with view.connection():
        pass
