"""When all connections are held by tasks that wait for one themselves, one of them is told at once."""

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest
from clock import elsewhere, turns
from fakes import slow

from aiopool import PoolDeadlock, PoolTimeout


async def hold_and_want(pool, meet, *, timeout=None):
    async with pool.connection(timeout=timeout):
        await meet.wait()
        async with pool.connection(timeout=timeout):
            pass


async def test_a_task_that_wants_a_second_one_of_one_is_told_at_once(make_pool):
    pool, _ = make_pool(max_size=1)
    start = asyncio.get_running_loop().time()
    async with pool.connection():
        with pytest.raises(PoolDeadlock) as caught:
            await pool.acquire(timeout=None)
    assert asyncio.get_running_loop().time() == start
    name = asyncio.current_task().get_name()
    assert (
        f"deadlock: all connections are lent to tasks that wait for one themselves: {name!r} ("
        in str(caught.value)
    )
    assert isinstance(caught.value, PoolTimeout)
    assert (caught.value.stats.lent, pool.stats().timed_out, pool.stats().waiting) == (1, 1, 0)


async def test_the_last_of_many_is_told_and_the_others_go_on(make_pool):
    pool, _ = make_pool(max_size=3)
    meet = asyncio.Event()
    tasks = [asyncio.create_task(hold_and_want(pool, meet), name=f"task {n}") for n in range(3)]
    await turns(5)
    meet.set()
    await asyncio.wait(tasks)
    ends = [task.exception() for task in tasks]
    assert [type(end) for end in ends] == [type(None), type(None), PoolDeadlock]
    for n in range(3):
        assert f"'task {n}'" in str(ends[2])
    assert pool.stats().lent == 0


async def test_a_task_that_has_several_is_named_once(make_pool):
    pool, _ = make_pool(max_size=2)
    async with pool.connection(), pool.connection():
        with pytest.raises(PoolDeadlock, match=r"themselves: '[^']+' \(2 of them\) \("):
            await pool.acquire()


async def test_while_one_holder_does_not_wait_everybody_waits_in_peace(make_pool):
    pool, _ = make_pool(max_size=3)
    meet = asyncio.Event()
    tasks = [asyncio.create_task(hold_and_want(pool, meet)) for _ in range(2)]
    async with pool.connection():
        meet.set()
        await asyncio.sleep(4.0)
    await asyncio.gather(*tasks)


async def test_a_newcomer_without_a_connection_is_never_told_so(make_pool):
    pool, _ = make_pool(max_size=1)
    await elsewhere(pool.acquire())
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire(timeout=1.0)
    assert type(caught.value) is PoolTimeout


async def test_who_gave_its_connection_to_another_task_may_wait_for_one(make_pool):
    pool, _ = make_pool(max_size=2)

    async def work(conn):
        await asyncio.sleep(1.0)
        await pool.release(conn)

    async with asyncio.TaskGroup() as workers:
        for _ in range(10):
            workers.create_task(work(await pool.acquire(timeout=None)))
    assert pool.stats().acquired == 10


async def test_what_ends_by_itself_within_a_second_is_no_deadlock(make_pool):
    """One tries for another connection, but not for long, and then goes on without."""
    pool, _ = make_pool(max_size=2)

    async def opportunist():
        async with pool.connection():
            for _ in range(10):
                try:
                    return await pool.acquire(timeout=0.05)
                except PoolTimeout:
                    continue
            return None

    trying = asyncio.create_task(opportunist())
    await turns(2)
    async with pool.connection():
        await turns(2)
        async with pool.connection():
            pass
    assert await trying is None


async def test_who_tries_for_less_than_a_second_is_told_when_its_time_is_up(make_pool):
    pool, _ = make_pool(max_size=1)
    start = asyncio.get_running_loop().time()
    async with pool.connection():
        with pytest.raises(PoolDeadlock) as caught:
            await pool.acquire(timeout=0.5)
    assert asyncio.get_running_loop().time() == start + 0.5
    assert caught.value.waited == 0.5


async def test_a_deadlock_right_after_a_false_alarm_is_told_a_second_later(make_pool):
    pool, _ = make_pool(max_size=1)

    async def work(conn):
        await asyncio.sleep(0.5)
        await pool.release(conn)

    worker = asyncio.create_task(work(await pool.acquire()))
    async with (
        pool.connection()
    ):  # waits for the worker, which looks like a deadlock at first sight
        with pytest.raises(PoolTimeout) as caught:
            await pool.acquire(timeout=0.25)
        assert type(caught.value) is PoolTimeout
        await asyncio.sleep(0.25)
        with pytest.raises(PoolDeadlock):
            await pool.acquire()
    await worker


async def test_a_connection_inside_of_an_object_of_another_task_counts_as_its(make_pool):
    pool, _ = make_pool(max_size=1)

    class Session:
        def __init__(self, conn):
            self.conns = [conn]

        async def end(self):
            await asyncio.sleep(1.0)
            await pool.release(self.conns.pop())

    async with asyncio.TaskGroup() as workers:
        for _ in range(3):
            workers.create_task(Session(await pool.acquire()).end())


async def test_no_deadlock_is_seen_where_another_can_be_opened(make_pool):
    pool, connector = make_pool(max_size=2)
    connector.opens.usual = slow(1.0)
    async with pool.connection(), pool.connection():
        pass


async def test_no_deadlock_is_seen_while_the_server_takes_no_more_for_now(make_pool):
    pool, _ = make_pool(max_size=2)
    async with pool.connection():
        pool._places.permits.total = 1  # as after a refusal; it is raised again later
        waiter = asyncio.create_task(asyncio.sleep(1.0))
        with pytest.raises(PoolTimeout) as caught:
            await pool.acquire(timeout=1.0)
        await waiter
        assert type(caught.value) is PoolTimeout
        pool._places.permits.total = 2


async def test_ten_thousand_who_wait_for_the_deadlocked_are_served_afterwards(make_pool):
    pool, _ = make_pool(max_size=2)
    meet = asyncio.Event()
    tasks = [asyncio.create_task(hold_and_want(pool, meet)) for _ in range(2)]
    await turns(5)

    async def use():
        async with pool.connection(timeout=None):
            pass

    others = [asyncio.create_task(use()) for _ in range(1000)]
    await turns(1)
    meet.set()
    await asyncio.gather(*others)
    await asyncio.wait(tasks)
    assert sorted(type(task.exception()).__name__ for task in tasks) == ["NoneType", "PoolDeadlock"]


async def test_a_rival_that_is_cancelled_while_it_waits_gives_back_what_it_has(make_pool):
    pool, _ = make_pool(max_size=2)
    meet = asyncio.Event()
    async with pool.connection():
        rival = asyncio.create_task(hold_and_want(pool, meet))
        await turns(5)
        meet.set()
        await turns(2)
        assert pool.stats().waiting == 1
        rival.cancel()
        async with pool.connection():
            pass
    await asyncio.wait([rival])


@pytest.mark.parametrize("how", ["entered", "called back"])
async def test_a_connection_in_an_exit_stack_of_another_task_counts_as_its(make_pool, how):
    pool, _ = make_pool(max_size=1)

    async def close(stack):
        await asyncio.sleep(1.0)
        await stack.aclose()

    stack = AsyncExitStack()
    if how == "entered":
        await stack.enter_async_context(pool.connection())
    else:
        stack.push_async_callback(pool.release, await pool.acquire())
    closer = asyncio.create_task(close(stack))
    async with pool.connection():
        assert closer.done()


async def test_a_connection_that_a_callback_of_another_task_gives_back_counts_as_its(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    releases = []
    work = asyncio.create_task(asyncio.sleep(1.0))
    work.add_done_callback(lambda _: releases.append(asyncio.create_task(pool.release(conn))))
    async with pool.connection():
        assert work.done()


@pytest.mark.parametrize("levels", range(1, 8))
async def test_what_is_far_from_one_variable_may_be_near_another(make_pool, levels):
    pool, _ = make_pool(max_size=1)

    async def work(far, near, farther):
        await asyncio.sleep(1.0)
        await pool.release(near[0][0])
        del far, farther

    near = [[await pool.acquire()]]
    far = near
    for _ in range(levels):
        far = [far]
    worker = asyncio.create_task(work(far, near, far))
    async with pool.connection():
        assert worker.done()


async def test_a_search_asks_objects_nothing(make_pool):
    class Lazy:
        @property
        def __class__(self):
            raise RuntimeError("outside of a request")

    async def look_on(_lazy):
        await asyncio.sleep(1.0)

    pool, _ = make_pool(max_size=1)
    other = asyncio.create_task(look_on(Lazy()))
    await turns(1)
    async with pool.connection():
        with pytest.raises(PoolDeadlock):
            await pool.acquire()
    await other


async def test_a_search_ends_after_so_many_references_of_all_tasks(make_pool, monkeypatch):
    monkeypatch.setattr("aiopool._reach.MOST", 1000)

    async def look_on(things):
        await asyncio.sleep(10.0)
        del things

    pool, _ = make_pool(max_size=1)
    others = [asyncio.create_task(look_on([object() for _ in range(20)])) for _ in range(100)]
    await turns(1)
    async with pool.connection():
        with pytest.raises(PoolTimeout) as caught:
            await pool.acquire(timeout=1.0)
    assert type(caught.value) is PoolTimeout
    await asyncio.wait(others)


async def test_however_many_holders_wait_a_newcomer_looks_at_one(make_pool):
    pool, _ = make_pool(max_size=100)
    meet = asyncio.Event()
    holders = [asyncio.create_task(hold_and_want(pool, meet)) for _ in range(99)]
    await turns(20)
    looks = 0

    def count(frame, event, called):
        nonlocal looks
        looks += event == "c_call" and called is getattr and frame.f_code.co_name == "acquire"

    async with pool.connection():
        meet.set()
        sys.setprofile(count)
        try:
            await turns(2)
        finally:
            sys.setprofile(None)
        assert (pool.stats().waiting, looks) == (99, 99)
    await asyncio.wait(holders)
