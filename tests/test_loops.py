"""One pool on several event loops, one after the other; and in a forked child.

These run on loops of their own making, so they are no coroutines themselves.
"""

import asyncio
import os
import threading
import traceback

import pytest
from clock import JumpingLoop, turns
from fakes import Conn, FakeConnector, fails, never

from aiopool import NotLent, Pool, WrongLoop


async def lend_and_return(pool: Pool[Conn]) -> Conn:
    async with pool.connection() as conn:
        return conn


def make() -> tuple[Pool[Conn], FakeConnector]:
    connector = FakeConnector()
    return Pool(connector, max_size=2), connector


def test_after_its_loop_was_closed_a_pool_starts_afresh_on_the_next():
    pool, connector = make()
    first = asyncio.run(lend_and_return(pool))
    second = asyncio.run(lend_and_return(pool))
    assert second is not first
    assert connector.closed == [first]
    assert pool.stats().size == 1
    assert pool.stats().acquired == 2


def test_connections_lent_when_the_loop_was_closed_are_dropped_as_well():
    pool, connector = make()
    held = asyncio.run(pool.acquire())

    async def go_on() -> None:
        await lend_and_return(pool)
        assert connector.closed == [held]
        with pytest.raises(NotLent):
            await pool.release(held)

    asyncio.run(go_on())


def test_an_error_in_closing_what_a_dead_loop_left_reaches_no_caller(caplog):
    pool, connector = make()
    asyncio.run(lend_and_return(pool))
    connector.close_error = RuntimeError("Event loop is closed")
    asyncio.run(lend_and_return(pool))
    assert pool.stats().size == 1
    assert "Event loop is closed" in caplog.text


def test_what_was_under_way_when_the_loop_ended_is_not_under_way_on_the_next():
    pool, connector = make()
    connector.opens.next.extend([never, never])

    async def leave_waiting() -> None:
        waiters = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        await turns(2)
        assert pool.stats().waiting == len(waiters)

    asyncio.run(leave_waiting())
    assert (pool.stats().waiting, pool.stats().size, connector.opening) == (0, 0, 0)
    asyncio.run(lend_and_return(pool))


def test_a_pool_with_failing_openings_leaves_no_task_when_its_loop_ends():
    connector = FakeConnector()
    connector.opens.usual = fails()
    pool: Pool[Conn] = Pool(connector, min_size=2, timeout=0.01)

    async def try_it() -> None:
        with pytest.raises(TimeoutError):
            await pool.acquire()

    asyncio.run(try_it())


def test_a_second_running_loop_is_refused_by_everything_and_the_first_goes_on():
    pool, connector = make()
    with asyncio.Runner() as first:
        held = first.run(pool.acquire())
        with asyncio.Runner() as second:
            for use in (pool.acquire, pool.open, pool.aclose, lambda: pool.warm(1)):
                with pytest.raises(WrongLoop, match="in use on another event loop"):
                    second.run(use())
            with pytest.raises(WrongLoop, match="given back on another event loop"):
                second.run(pool.release(held))
        first.run(pool.release(held))
        assert first.run(lend_and_return(pool)) is held
        first.run(pool.aclose())
    assert connector.closed == [held]


def test_a_second_loop_in_a_second_thread_is_refused_too():
    pool, _ = make()
    caught: list[BaseException] = []

    def other_thread() -> None:
        try:
            asyncio.run(lend_and_return(pool))
        except WrongLoop as error:
            caught.append(error)

    async def first() -> None:
        async with pool.connection():
            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join()
        await pool.aclose()

    asyncio.run(first())
    assert len(caught) == 1


def test_a_closed_pool_may_be_opened_on_another_loop():
    pool, _ = make()
    with asyncio.Runner() as first:
        first.run(lend_and_return(pool))
        first.run(pool.aclose())
        with asyncio.Runner() as second:
            second.run(pool.open())
            second.run(lend_and_return(pool))
            second.run(pool.aclose())


def test_a_pool_whose_loop_is_closed_can_be_closed_on_another():
    pool, connector = make()
    conn = asyncio.run(lend_and_return(pool))
    asyncio.run(pool.aclose())
    assert connector.closed == [conn]
    assert "closed" in repr(pool)


def test_an_old_waiter_that_is_collected_late_does_not_disturb_the_new_life():
    pool, connector = make()
    connector.opens.next.append(never)
    runner = asyncio.Runner(loop_factory=JumpingLoop)
    waiting = pool.acquire()

    async def step() -> None:
        waiting.send(None)

    runner.run(step())
    runner.close()
    asyncio.run(lend_and_return(pool))
    waiting.close()  # GeneratorExit where it waited
    assert pool.stats().idle == 1


def test_a_pool_whose_closing_was_cut_off_with_its_loop_can_be_opened_on_the_next():
    pool, connector = make()

    async def begin_to_close() -> None:
        await pool.acquire()
        closing = asyncio.create_task(pool.aclose())
        await turns(3)
        assert not closing.done()

    asyncio.run(begin_to_close())

    async def open_again() -> None:
        await pool.open()
        await lend_and_return(pool)

    asyncio.run(open_again())
    assert len(connector.closed) == 1


def test_between_two_loops_a_pool_can_be_drained_and_resized():
    connector = FakeConnector()
    pool: Pool[Conn] = Pool(connector, max_size=3, min_size=1)
    first = asyncio.run(lend_and_return(pool))
    pool.drain()
    pool.resize(max_size=2)
    asyncio.run(lend_and_return(pool))
    assert connector.closed[0] is first
    assert (pool.stats().max_size, pool.stats().size) == (2, 1)


def test_a_connection_under_check_when_the_loop_was_closed_is_dropped_as_well():
    pool, connector = make()
    loop = JumpingLoop()
    conn = loop.run_until_complete(lend_and_return(pool))
    loop.run_until_complete(asyncio.sleep(60))
    connector.checks.usual = never
    acquiring = pool.acquire()

    async def step() -> None:
        acquiring.send(None)
        await turns(2)

    loop.run_until_complete(step())
    checks = asyncio.all_tasks(loop)
    assert pool.stats().checking == len(checks) == 1
    loop.close()
    acquiring.close()
    asyncio.run(lend_and_return(pool))
    assert conn in connector.closed
    for task in checks:
        task._log_destroy_pending = False  # it is this test that has left it


def test_a_waiter_that_a_dead_loop_left_with_a_connection_ends_without_a_word():
    pool, connector = make()
    loop = asyncio.new_event_loop()
    held = [loop.run_until_complete(pool.acquire()) for _ in range(2)]
    waiting = pool.acquire()

    async def hand_over() -> None:
        waiting.send(None)
        await pool.release(held[0])

    loop.run_until_complete(hand_over())
    loop.close()
    waiting.close()
    asyncio.run(lend_and_return(pool))
    assert set(connector.closed) == set(held)


def test_a_waiter_that_a_dead_loop_left_with_the_permit_of_a_view_ends_without_a_word():
    pool, connector = make()
    view = pool.view(limit=1)
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(view.acquire())
    waiting = view.acquire()
    others = []

    async def hand_over() -> None:
        waiting.send(None)
        others.append(asyncio.create_task(view.acquire()))
        await turns(2)
        await view.release(held)

    loop.run_until_complete(hand_over())
    loop.close()
    waiting.close()
    others[0]._log_destroy_pending = False  # it is this test that has left it
    asyncio.run(lend_and_return(view))
    assert connector.closed == [held]


def in_child(check) -> None:
    """Fork, run the check in the child, and fail if it failed there."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            check()
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the child must not return into pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_after_a_fork_the_child_starts_afresh_and_leaves_the_parents_connections_alone():
    pool, connector = make()
    with asyncio.Runner() as runner:
        idle, lent = runner.run(pool.acquire()), runner.run(pool.acquire())
        runner.run(pool.release(idle))

        def check() -> None:
            fresh = asyncio.run(lend_and_return(pool))
            assert fresh not in {idle, lent}
            assert connector.closed == []
            assert pool.stats().size == 1

        in_child(check)
        assert runner.run(lend_and_return(pool)) is idle
        runner.run(pool.release(lent))
        runner.run(pool.aclose())


def test_a_child_may_close_a_pool_that_it_never_used():
    pool, connector = make()
    with asyncio.Runner() as runner:
        runner.run(lend_and_return(pool))

        def check() -> None:
            asyncio.run(pool.aclose())
            assert connector.closed == []

        in_child(check)
        runner.run(pool.aclose())


def test_a_loop_that_has_moved_to_another_thread_is_still_told_from_others():
    pool = Pool(FakeConnector())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(pool.warm(1))
    busy, done = threading.Event(), threading.Event()

    async def block() -> None:
        async with pool.connection():
            busy.set()
            done.wait()  # so that a task of this loop is the current one

    async def intrude() -> None:
        with pytest.raises(WrongLoop):
            await pool.acquire()

    thread = threading.Thread(target=loop.run_until_complete, args=[block()])
    thread.start()
    try:
        busy.wait()
        asyncio.run(intrude())
    finally:
        done.set()
        thread.join()
    loop.run_until_complete(pool.aclose())
    loop.close()


def test_a_clock_put_into_the_loop_is_the_pools_clock_too():
    loop = asyncio.new_event_loop()
    loop.time = lambda: 42.0

    async def use() -> None:
        async with Pool(FakeConnector()) as pool, pool.connection():
            (holder,) = pool.holders()
            assert (holder.since, holder.age) == (42.0, 0.0)

    loop.run_until_complete(use())
    loop.close()
