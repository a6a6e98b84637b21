"""Lending and giving back, with nobody waiting."""

import asyncio

import pytest
from clock import elsewhere, turns
from fakes import Conn, FakeConnector

from aiopool import NotLent, Pool


async def test_a_connection_is_opened_at_the_first_acquire_and_not_before(make_pool):
    pool, connector = make_pool()
    assert connector.opens.calls == 0
    conn = await pool.acquire()
    assert connector.live == {conn}
    await pool.release(conn)


async def test_a_returned_connection_is_lent_again(make_pool):
    pool, connector = make_pool()
    first = await pool.acquire()
    await pool.release(first)
    assert await pool.acquire() is first
    assert connector.opens.calls == 1
    await pool.release(first)


async def test_the_connection_returned_last_is_lent_first(make_pool):
    pool, _ = make_pool()
    one, two = await pool.acquire(), await pool.acquire()
    await pool.release(one)
    await pool.release(two)
    assert await pool.acquire() is two
    assert await pool.acquire() is one


async def test_acquire_suspends_nowhere_while_an_idle_connection_is_usable(make_pool):
    pool, _ = make_pool()
    await pool.release(await pool.acquire())
    acquiring = pool.acquire()
    with pytest.raises(StopIteration) as stop:
        acquiring.send(None)
    await pool.release(stop.value.value)


async def test_acquire_has_one_suspension_point_when_it_must_wait(make_pool):
    pool, _ = make_pool()
    acquiring = pool.acquire()
    future = acquiring.send(None)
    while not future.done():
        future._asyncio_future_blocking = False  # as a task would do after the yield
        await asyncio.sleep(0)
    with pytest.raises(StopIteration) as stop:
        acquiring.send(None)
    await pool.release(stop.value.value)


async def test_release_suspends_nowhere_even_with_waiters_and_a_broken_connection(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    conn.broken = True
    with pytest.raises(StopIteration):
        pool.release(conn).send(None)
    await pool.release(await waiter)


async def test_connection_gives_back_at_the_end_of_the_block_and_after_an_error(make_pool):
    pool, _ = make_pool(max_size=1)
    async with pool.connection() as conn:
        assert pool.stats().lent == 1
    assert pool.stats().lent == 0

    async def fail() -> None:
        async with pool.connection() as again:
            assert again is conn
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert pool.stats().lent == 0


async def test_connection_takes_a_timeout_of_its_own(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    start = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with pool.connection(timeout=0.25):
            raise AssertionError("lent twice")
    assert asyncio.get_running_loop().time() == start + 0.25


async def test_a_block_can_be_entered_once(make_pool):
    pool, _ = make_pool()
    lending = pool.connection()
    async with lending:
        with pytest.raises(RuntimeError, match="entered before"):
            await lending.__aenter__()
    with pytest.raises(RuntimeError, match="entered before"):
        await lending.__aenter__()
    assert pool.stats().lent == 0


async def test_a_second_release_is_refused_and_changes_nothing(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    await pool.release(conn)
    with pytest.raises(NotLent, match="has not lent this Conn"):
        await pool.release(conn)
    assert pool.stats().idle == 1


async def test_a_second_release_is_refused_while_somebody_else_has_the_connection(make_pool):
    pool, _ = make_pool(max_size=2)
    conn = await pool.acquire()
    await pool.release(conn)
    other, _ = make_pool()
    theirs = await other.acquire()
    with pytest.raises(NotLent):
        await pool.release(theirs)
    assert other.stats().lent == 1
    await other.release(theirs)


async def test_a_foreign_object_is_refused_by_its_type_without_its_repr(make_pool):
    class Secret(Conn):
        def __repr__(self) -> str:
            return "Secret(password='hunter2')"

    pool, _ = make_pool()
    with pytest.raises(ValueError, match="has not lent this Secret") as caught:
        await pool.release(Secret(0))
    assert "hunter2" not in str(caught.value)


async def test_a_connection_that_broke_while_lent_is_closed_and_its_slot_free(make_pool):
    pool, connector = make_pool(max_size=1)
    conn = await pool.acquire()
    conn.broken = True
    await pool.release(conn)
    assert connector.closed == [conn]
    assert await pool.acquire() is not conn
    assert pool.stats().closed == {"unusable": 1}


async def test_a_connection_that_broke_while_idle_is_not_lent(make_pool):
    pool, connector = make_pool()
    conns = [await pool.acquire() for _ in range(3)]
    for conn in conns:
        await pool.release(conn)
    conns[2].broken = True
    assert await pool.acquire() is conns[1]
    assert connector.closed == [conns[2]]
    assert pool.stats().closed == {"lost": 1}


async def test_an_error_in_the_look_closes_the_connection_and_reaches_no_caller(make_pool, caplog):
    pool, connector = make_pool()
    conn = await pool.acquire()
    connector.look_error = RuntimeError("a bug in the connector")
    await pool.release(conn)
    assert connector.closed == [conn]
    assert "a bug in the connector" in caplog.text


async def test_an_error_in_close_loses_no_slot_and_reaches_no_caller(make_pool, caplog):
    pool, connector = make_pool(max_size=1)
    connector.close_error = RuntimeError("close failed")
    conn = await pool.acquire()
    conn.broken = True
    await pool.release(conn)
    assert await pool.acquire() is not conn
    assert "close failed" in caplog.text


async def test_never_more_than_max_size_connections_exist(make_pool):
    pool, connector = make_pool(max_size=3)

    async def use() -> None:
        async with pool.connection() as conn:
            await asyncio.sleep(0.01)
            conn.broken = conn.number % 4 == 0

    await asyncio.gather(*(use() for _ in range(100)))
    assert connector.peak == 3


class Careful(FakeConnector):
    """Sees less of a connection that is put aside: not that its peer has ended it."""

    def __init__(self) -> None:
        super().__init__()
        self.dirty: set[Conn] = set()
        self.looks: list[str] = []

    def is_usable(self, conn: Conn, /) -> bool:
        self.looks.append("usable")
        return super().is_usable(conn) and conn not in self.dirty

    def is_clean(self, conn: Conn, /) -> bool:
        self.looks.append("clean")
        return conn not in self.dirty


async def test_a_connection_is_put_aside_after_the_cheaper_look_and_lent_after_the_other():
    connector = Careful()
    async with Pool(connector, max_size=1) as pool:
        first = await pool.acquire()
        connector.looks.clear()
        first.broken = True
        await pool.release(first)
        assert connector.looks == ["clean"]
        assert pool.stats().idle == 1
        second = await pool.acquire()
        assert second is not first
        assert first not in connector.live
        connector.dirty.add(second)
        await pool.release(second)
        assert pool.stats().idle == 0
        assert pool.stats().closed == {"lost": 1, "unusable": 1}


async def test_a_connection_that_somebody_waits_for_is_looked_at_in_full():
    connector = Careful()
    async with Pool(connector, max_size=1) as pool:
        first = await pool.acquire()
        waiter = asyncio.create_task(pool.acquire())
        await turns(2)
        connector.looks.clear()
        first.broken = True
        await pool.release(first)
        assert connector.looks[0] == "usable"
        second = await waiter
        assert second is not first
        await pool.release(second)
