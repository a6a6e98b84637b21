"""Idle and old connections go away by themselves, down to `min_size`, which is kept filled."""

import asyncio
import weakref

import pytest
from fakes import FakeConnector, fails, goes

from aiopool import Pool


async def use(pool, number: int) -> list:
    conns = [await pool.acquire() for _ in range(number)]
    for conn in conns:
        await pool.release(conn)
    return conns


async def test_idle_connections_are_closed_at_max_idle_without_any_traffic(make_pool):
    pool, _ = make_pool(max_lifetime=None)
    await use(pool, 10)
    await asyncio.sleep(299.9)
    assert pool.stats().idle == 10
    await asyncio.sleep(0.1)
    assert pool.stats().size == 0
    assert pool.stats().closed == {"max_idle": 10}


async def test_min_size_connections_are_kept_however_idle(make_pool):
    pool, _ = make_pool(min_size=3, max_lifetime=None)
    await use(pool, 10)
    await asyncio.sleep(10_000)
    assert pool.stats().idle == 3


async def test_what_was_kept_for_min_size_goes_when_another_is_open(make_pool):
    pool, connector = make_pool(min_size=1, max_lifetime=None)
    (conn,) = await use(pool, 1)
    await asyncio.sleep(1000)
    await pool.warm(2)
    await asyncio.sleep(0.1)
    assert connector.closed == [conn]
    assert pool.stats().idle == 1


async def test_those_idle_the_longest_are_closed_first(make_pool):
    pool, connector = make_pool(min_size=1, max_lifetime=None)
    conns = await use(pool, 3)
    await asyncio.sleep(1000)
    assert connector.closed == conns[:2]


async def test_a_connection_in_use_now_and_then_stays_while_the_others_go(make_pool):
    pool, connector = make_pool(max_lifetime=None)
    conns = await use(pool, 3)
    for _ in range(10):
        await asyncio.sleep(100)
        (kept,) = await use(pool, 1)
        assert kept is conns[2]
    assert connector.live == {kept}


async def test_min_size_is_filled_at_the_first_use(make_pool):
    pool, _ = make_pool(min_size=4)
    await use(pool, 1)
    await asyncio.sleep(1)
    assert pool.stats().idle == 4


async def test_min_size_is_filled_again_when_idle_ones_are_found_broken(make_pool):
    pool, connector = make_pool(min_size=3)
    await pool.open()
    for conn in connector.live:
        conn.broken = True
    await use(pool, 1)
    await asyncio.sleep(1)
    assert pool.stats().idle == 3
    assert not any(conn.broken for conn in connector.live)


async def test_min_size_is_filled_when_the_server_is_back(make_pool):
    pool, connector = make_pool(min_size=2)
    connector.opens.usual = fails()
    with pytest.raises(ConnectionRefusedError):
        await pool.acquire()
    await asyncio.sleep(60)
    connector.opens.usual = goes
    await asyncio.sleep(1)
    assert pool.stats().idle == 2


async def test_an_idle_connection_is_closed_at_its_lifetime_and_replaced_for_min_size(make_pool):
    pool, connector = make_pool(min_size=1, max_idle=None)
    (conn,) = await use(pool, 1)
    await asyncio.sleep(3239)
    assert connector.live == {conn}
    await asyncio.sleep(362)
    assert connector.closed == [conn]
    assert pool.stats().idle == 1
    assert pool.stats().closed == {"max_lifetime": 1}


async def test_a_hot_connection_is_replaced_at_its_lifetime(make_pool):
    pool, connector = make_pool(max_size=1)
    start = asyncio.get_running_loop().time()
    first = await pool.acquire()
    conn = first
    while conn is first:
        await asyncio.sleep(0.5)
        await pool.release(conn)
        conn = await pool.acquire()
    assert connector.closed == [first]
    assert 3240 <= asyncio.get_running_loop().time() - start <= 3601


@pytest.mark.parametrize("check_after", [30.0, None])
async def test_a_connection_whose_time_ran_out_while_the_loop_was_blocked_is_not_lent(
    make_pool, check_after
):
    pool, connector = make_pool(check_after=check_after, max_idle=None)
    (conn,) = await use(pool, 1)
    asyncio.get_running_loop().block(3600.0)
    assert await pool.acquire() is not conn
    assert connector.closed == [conn]
    assert connector.checks.calls == 0


async def test_lifetimes_differ_by_up_to_a_tenth(make_pool):
    pool, connector = make_pool(max_size=100, max_idle=None)
    await use_at_once(pool, 100)
    await asyncio.sleep(3239.9)
    assert len(connector.live) == 100
    await asyncio.sleep(180)
    assert 20 < len(connector.live) < 80
    await asyncio.sleep(180.2)
    assert not connector.live


async def use_at_once(pool, number: int) -> None:
    conns = await asyncio.gather(*(pool.acquire() for _ in range(number)))
    for conn in conns:
        await pool.release(conn)


async def test_without_limits_nothing_is_ever_closed(make_pool):
    pool, connector = make_pool(max_idle=None, max_lifetime=None)
    await use(pool, 5)
    await asyncio.sleep(10_000_000)
    assert len(connector.live) == 5


async def test_an_error_in_close_does_not_stop_the_upkeep(make_pool, caplog):
    pool, connector = make_pool()
    connector.close_error = RuntimeError("close failed")
    await use(pool, 3)
    await asyncio.sleep(301)
    assert pool.stats().size == 0
    await use(pool, 2)
    await asyncio.sleep(301)
    assert pool.stats().size == 0
    assert caplog.text.count("close failed") == 5


async def test_a_pool_that_is_dropped_open_can_be_collected_although_its_timer_runs():
    pools = [Pool(FakeConnector())]
    await pools[0].release(await pools[0].acquire())
    await asyncio.sleep(0)
    gone = weakref.ref(pools[0])
    with pytest.warns(ResourceWarning, match="dropped without aclose"):
        pools.clear()
    assert gone() is None


async def test_the_expiry_of_a_connection_is_kept_though_it_was_lent_when_the_reaper_looked(
    make_pool,
):
    pool, connector = make_pool(max_idle=None)
    first = await pool.acquire()
    await asyncio.sleep(1000)  # lifetimes differ by 360 at most
    second = await pool.acquire()
    await pool.release(first)
    await asyncio.sleep(2600)
    assert connector.live == {second}
    await pool.release(second)
    assert pool.stats().idle == 1
    await asyncio.sleep(1000)
    assert pool.stats().closed == {"max_lifetime": 2}


async def test_a_connection_returned_when_nothing_was_idle_goes_at_max_idle(make_pool):
    pool, _ = make_pool(max_lifetime=None)
    for _ in range(3):
        conn = await pool.acquire()
        await asyncio.sleep(1000)
        await pool.release(conn)
        await asyncio.sleep(299.9)
        assert pool.stats().idle == 1
        await asyncio.sleep(0.2)
        assert pool.stats().size == 0
