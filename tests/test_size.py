"""Opening ahead, draining, resizing."""

import asyncio

import pytest
from clock import turns
from fakes import fails, slow


async def test_open_opens_min_size_connections(make_pool):
    pool, connector = make_pool(min_size=4)
    await pool.open()
    assert len(connector.live) == pool.stats().idle == 4


async def test_open_raises_what_prevents_it(make_pool):
    pool, connector = make_pool(min_size=1)
    down = ConnectionRefusedError("no server there")
    connector.opens.usual = fails(down)
    with pytest.raises(ConnectionRefusedError) as caught:
        await pool.open()
    assert caught.value is down


async def test_warm_opens_until_so_many_exist_and_says_how_many_do(make_pool):
    pool, connector = make_pool(max_opening=3)
    connector.opens.usual = slow(0.1)
    conn = await pool.acquire()
    assert await pool.warm(8) == 8
    assert pool.stats().idle == 7
    assert connector.peak_opening == 3
    assert await pool.warm(2) == 8
    await pool.release(conn)


async def test_warm_says_how_many_exist_if_openings_go_on_failing(make_pool):
    pool, connector = make_pool()
    connector.opens.next.extend([slow(0.1)] * 4)
    connector.opens.usual = fails()
    assert await pool.warm(10) == 4


async def test_a_cancelled_warm_asks_for_no_more(make_pool):
    pool, connector = make_pool(max_opening=1)
    connector.opens.usual = slow(1.0)
    warming = asyncio.create_task(pool.warm(10))
    await asyncio.sleep(2.9)
    warming.cancel()
    await asyncio.sleep(100)
    assert connector.opens.calls == 3


@pytest.mark.parametrize("n", [-1, 11])
async def test_warm_refuses_what_can_not_exist(make_pool, n):
    pool, _ = make_pool()
    with pytest.raises(ValueError, match=f"n={n} is out of range: it must be from 0 to 10"):
        await pool.warm(n)


async def test_drain_closes_idle_connections_at_once_and_lent_ones_on_return(make_pool):
    pool, connector = make_pool()
    idle, lent = await pool.acquire(), await pool.acquire()
    await pool.release(idle)
    pool.drain()
    assert connector.closed == [idle]
    await pool.release(lent)
    assert connector.closed == [idle, lent]
    assert pool.stats().closed == {"drained": 2}


async def test_drain_discards_what_is_being_opened_or_checked(make_pool):
    pool, connector = make_pool()
    old = await pool.acquire()
    await pool.release(old)
    await asyncio.sleep(60)
    connector.opens.usual = connector.checks.usual = slow(1.0)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await asyncio.sleep(0.5)
    pool.drain()
    conns = await asyncio.gather(*callers)
    assert connector.live == set(conns)
    assert old not in conns
    assert connector.opens.calls == 5  # one of them, since the check took so long


async def test_a_drained_pool_serves_its_waiters_with_new_connections(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    pool.drain()
    await pool.release(conn)
    assert await waiter is not conn


async def test_drain_refills_min_size(make_pool):
    pool, connector = make_pool(min_size=3)
    await pool.open()
    old = set(connector.live)
    pool.drain()
    await asyncio.sleep(1)
    assert len(connector.live) == 3
    assert not connector.live & old


async def test_growing_serves_those_who_wait(make_pool):
    pool, _ = make_pool(max_size=1)
    await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await turns(2)
    pool.resize(max_size=3)
    await asyncio.sleep(1)
    assert [waiter.done() for waiter in waiters] == [True, True, False]
    pool.resize(max_size=4)
    await waiters[2]


async def test_shrinking_closes_idle_connections_at_once_and_lent_ones_on_return(make_pool):
    pool, connector = make_pool(max_size=5)
    conns = [await pool.acquire() for _ in range(5)]
    for conn in conns[3:]:
        await pool.release(conn)
    pool.resize(max_size=2)
    assert connector.closed == conns[3:]
    await pool.release(conns[0])
    assert connector.closed == [*conns[3:], conns[0]]
    await pool.release(conns[1])
    assert pool.stats().size == 2
    assert pool.stats().closed == {"resized": 3}


async def test_while_too_many_are_out_nobody_gets_one_and_then_the_line_goes_on(make_pool):
    pool, _ = make_pool(max_size=3)
    conns = [await pool.acquire() for _ in range(3)]
    pool.resize(max_size=1)
    waiter = asyncio.create_task(pool.acquire())
    for conn in conns[:2]:
        await pool.release(conn)
        await turns(3)
        assert not waiter.done()
    await pool.release(conns[2])
    assert await waiter is conns[2]


async def test_raising_min_size_opens_and_lowering_it_lets_the_reaper_close(make_pool):
    pool, _ = make_pool(max_lifetime=None)
    await pool.open()
    pool.resize(min_size=4)
    await asyncio.sleep(1000)
    assert pool.stats().idle == 4
    pool.resize(min_size=1)
    assert pool.stats().idle == 1


@pytest.mark.parametrize(
    ("sizes", "error"),
    [
        ({"max_size": 0}, ValueError),
        ({"min_size": 11}, ValueError),
        ({"max_size": 3, "min_size": 4}, ValueError),
        ({"max_size": "3"}, TypeError),
        ({"min_size": True}, TypeError),
    ],
)
async def test_a_wrong_size_is_refused_and_changes_nothing(make_pool, sizes, error):
    pool, _ = make_pool()
    before = pool.stats()
    with pytest.raises(error, match="_size"):
        pool.resize(**sizes)
    assert pool.stats() == before


async def test_a_closed_pool_can_be_resized_for_its_next_life(make_pool):
    pool, _ = make_pool()
    await pool.acquire()
    await pool.aclose(timeout=0)
    pool.resize(max_size=3, min_size=2)
    await pool.open()
    assert (pool.stats().max_size, pool.stats().idle) == (3, 2)
