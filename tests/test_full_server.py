"""When there can be no more connections for now: the pool makes do with those it has."""

import asyncio
import errno
from itertools import pairwise

import pytest
from clock import turns
from fakes import Conn, fails, goes, never

from aiopool import PoolTimeout, TooManyWaiters
from aiopool._places import LOWERED_FOR
from aiopool._policy import Policy


class Server:
    """Takes so many connections at a time and no more."""

    def __init__(self, connector, room: int) -> None:
        self.connector = connector
        self.room = room
        self.refused: list[float] = []
        connector.opens.usual = self.open

    async def open(self) -> None:
        if len(self.connector.live) >= self.room:
            self.refused.append(asyncio.get_running_loop().time())
            raise OSError(errno.EMFILE, "Too many open files")


async def use(pool, seconds: float = 0.01) -> None:
    async with pool.connection():
        await asyncio.sleep(seconds)


async def test_callers_are_served_with_what_there_is_and_the_limit_is_tried_seldom(make_pool):
    pool, connector = make_pool(max_size=10)
    server = Server(connector, room=3)
    start = asyncio.get_running_loop().time()
    callers = [asyncio.create_task(use(pool, 1.0)) for _ in range(90)]
    await asyncio.sleep(0.5)
    assert pool.stats().size == 3
    for caller in callers[15:]:
        caller.cancel()
    assert await asyncio.gather(*callers[:15]) == [None] * 15
    callers = [asyncio.create_task(pool.acquire(timeout=None)) for _ in range(40)]
    await asyncio.sleep(60)
    refused = [at - start for at in server.refused if at > start + 1]
    assert 60 / LOWERED_FOR - 1 < len(refused) < 60 / (LOWERED_FOR / 2) + 1
    assert len({round(b - a, 6) for a, b in pairwise(refused)}) > 5, "jitter"
    for caller in callers:
        caller.cancel()
    for conn in [caller.result() for caller in callers if caller.done() and not caller.cancelled()]:
        await pool.release(conn)


async def test_once_there_is_room_the_pool_grows_again(make_pool):
    pool, connector = make_pool(max_size=8)
    server = Server(connector, room=2)
    callers = [asyncio.create_task(pool.acquire(timeout=None)) for _ in range(8)]
    await asyncio.sleep(1.0)
    assert pool.stats().lent == 2
    server.room = 100
    await asyncio.sleep(LOWERED_FOR)
    assert pool.stats().lent == 8
    for caller in callers:
        await pool.release(caller.result())


async def test_a_slot_that_comes_free_is_filled_at_once(make_pool):
    pool, connector = make_pool(max_size=4)
    server = Server(connector, room=2)
    callers = [asyncio.create_task(pool.acquire(timeout=None)) for _ in range(4)]
    await asyncio.sleep(0.5)
    refused = len(server.refused)
    broken = callers[0].result()
    broken.broken = True
    await pool.release(broken)
    await asyncio.sleep(0.02)  # the pause after the failures before
    assert callers[2].done()
    assert len(server.refused) == refused
    for caller in callers[1:3]:
        await pool.release(caller.result())
    await pool.release(await callers[3])


async def test_with_nothing_open_the_callers_get_the_error(make_pool):
    pool, connector = make_pool(max_size=4)
    Server(connector, room=0)
    start = asyncio.get_running_loop().time()
    callers = [asyncio.create_task(pool.acquire(timeout=60)) for _ in range(3)]
    for result in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(result, OSError)
        assert result.errno == errno.EMFILE
    assert asyncio.get_running_loop().time() - start < 5, "as after any failure"
    connector.opens.usual = goes
    conns = await asyncio.gather(*(pool.acquire() for _ in range(4)))
    for conn in conns:
        await pool.release(conn)


async def test_a_waiter_whose_time_is_up_is_told_what_the_limit_was(make_pool):
    pool, connector = make_pool(max_size=4)
    Server(connector, room=1)
    async with pool.connection():
        with pytest.raises(PoolTimeout, match=r"size=1/4, .*OSError: .*Too many open files"):
            await pool.acquire(timeout=8.0)


async def test_max_waiting_counts_from_the_lowered_ceiling(make_pool):
    pool, connector = make_pool(max_size=4, max_waiting=1)
    Server(connector, room=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.1)
    with pytest.raises(TooManyWaiters):
        await pool.acquire()
    await pool.release(conn)
    await pool.release(await waiter)


async def test_opening_by_hand_says_that_min_size_can_not_be_reached(make_pool):
    pool, connector = make_pool(max_size=4, min_size=3)
    Server(connector, room=2)
    start = asyncio.get_running_loop().time()
    with pytest.raises(OSError, match="Too many open files"):
        await pool.open()
    assert asyncio.get_running_loop().time() - start < 5, "as after any failure"
    assert await pool.warm(4) == 2


async def test_openings_of_before_that_fail_likewise_lower_it_further(make_pool):
    pool, connector = make_pool(max_size=8, max_opening=4)
    conn = await pool.acquire()
    connector.opens.usual = fails(OSError(errno.EMFILE, "Too many open files"), after=0.1)
    waiters = [asyncio.create_task(pool.acquire(timeout=None)) for _ in range(4)]
    await asyncio.sleep(0.1)
    await turns(2)
    calls = connector.opens.calls
    await asyncio.sleep(LOWERED_FOR / 2 - 0.001)
    assert connector.opens.calls == calls
    connector.opens.usual = goes
    await asyncio.gather(*waiters)
    await pool.release(conn)
    for waiter in waiters:
        await pool.release(waiter.result())


async def test_resizing_forgets_the_lowered_ceiling(make_pool):
    pool, connector = make_pool(max_size=4)
    server = Server(connector, room=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.1)
    server.room = 2
    pool.resize(max_size=3)
    await asyncio.sleep(0.02)
    assert waiter.done()
    await asyncio.sleep(LOWERED_FOR)
    pool.resize(max_size=3)
    assert pool._places.permits.total == 3
    await pool.release(conn)
    await pool.release(await waiter)


async def test_while_closing_nothing_is_tried_any_more(make_pool):
    pool, connector = make_pool(max_size=4)
    Server(connector, room=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire(timeout=None))
    await asyncio.sleep(0.1)
    calls = connector.opens.calls
    connector.opens.usual = never
    closing = asyncio.create_task(pool.aclose(timeout=60))
    await asyncio.sleep(LOWERED_FOR * 2)
    assert connector.opens.calls == calls
    await pool.release(conn)
    await closing
    await asyncio.gather(waiter, return_exceptions=True)


async def test_warming_tries_a_lowered_ceiling_at_once(make_pool):
    pool, connector = make_pool(max_size=4)
    server = Server(connector, room=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.1)
    assert await pool.warm(4) == 1, "in vain"
    server.room = 4
    assert await pool.warm(4) == 4
    await pool.release(conn)
    await pool.release(await waiter)


async def test_a_limit_met_after_shrinking_makes_room_for_nobody(make_pool):
    pool, connector = make_pool(max_size=4)
    conns = [await pool.acquire() for _ in range(3)]
    connector.opens.usual = fails(OSError(errno.EMFILE, "Too many open files"), after=0.1)
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    pool.resize(max_size=1)
    await asyncio.sleep(0.2)
    assert pool.stats().open_failed == 1
    for conn in conns[:2]:
        await pool.release(conn)
    assert not waiter.done()
    assert (pool.stats().size, pool.stats().closed) == (1, {"resized": 2})
    await pool.release(conns[2])
    await pool.release(await waiter)


async def test_one_dial_finds_out_whether_the_ceiling_may_be_raised(make_pool):
    pool, connector = make_pool(max_size=10, max_opening=4)
    server = Server(connector, room=2)
    callers = [asyncio.create_task(pool.acquire(timeout=None)) for _ in range(9)]
    await asyncio.sleep(0.5)
    callers[0].result().broken = True
    await pool.release(callers[0].result())
    await asyncio.sleep(0.1)
    assert callers[2].done(), "an opening has succeeded since"
    before = len(server.refused)
    await asyncio.sleep(LOWERED_FOR)
    refused = server.refused[before:]
    assert refused
    assert len(set(refused)) == len(refused)
    for caller in callers[3:]:
        caller.cancel()
    for caller in callers[1:3]:
        await pool.release(caller.result())


async def test_with_nothing_open_the_ceiling_stays(make_pool):
    pool, connector = make_pool(max_size=8, max_waiting=0)
    server = Server(connector, room=0)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(4)]
    await turns(6)
    assert len(server.refused) == 4
    server.room = 8
    callers.append(asyncio.create_task(pool.acquire()))  # not turned away
    await asyncio.sleep(0.2)
    assert all(caller.done() for caller in callers)
    for caller in callers:
        await pool.release(caller.result())


class Ended(Policy[Conn]):
    """As where the peer has ended whatever is lent."""

    def may_come_back(self, conn: Conn, /) -> bool:  # noqa: ARG002 - it's always the same
        return False


async def test_connections_that_will_not_come_back_lower_nothing(make_pool):
    pool, connector = make_pool(max_size=4)
    subscriber = await pool.acquire()
    pool._places._policy = Ended()
    Server(connector, room=1)
    start = asyncio.get_running_loop().time()
    with pytest.raises(OSError, match="Too many open files"):
        await pool.acquire(timeout=60)
    assert asyncio.get_running_loop().time() - start < 5, "as after any failure"
    await pool.release(subscriber)
