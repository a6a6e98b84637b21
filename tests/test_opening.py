"""Openings: whom they serve, how many there are, and what happens when they fail."""

import asyncio
import contextvars
from itertools import pairwise

import pytest
from clock import turns
from fakes import Conn, fails, goes, never, slow

from aiopool import Pool, PoolTimeout
from aiopool._policy import Policy


async def test_an_opening_survives_its_caller_and_serves_another(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = slow(1.0)
    caller = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.sleep(0)
    start = asyncio.get_running_loop().time()
    await pool.acquire()
    assert asyncio.get_running_loop().time() == start + 0.5
    assert connector.opens.calls == 1


async def test_an_opening_whose_caller_left_ends_in_the_idle_queue(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = slow(1.0)
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0.1)
    await asyncio.sleep(1.0)
    assert pool.stats().idle == 1
    assert connector.opens.calls == 1


async def test_a_returned_connection_beats_a_new_one(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    connector.opens.usual = slow(1.0)
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.5)
    await pool.release(conn)
    await turns(1)
    assert waiter.result() is conn


async def test_a_new_connection_beats_a_late_return(make_pool):
    pool, connector = make_pool()
    first = await pool.acquire()
    connector.opens.usual = slow(1.0)
    second = await pool.acquire()
    assert second is not first


async def test_fifty_requests_with_slow_connects_and_short_uses_open_a_handful(make_pool):
    # HikariCP's measurement: 150 ms to connect, 2 ms of use. redis-py opens fifty.
    pool, connector = make_pool(max_size=50)
    connector.opens.usual = slow(0.15)

    async def use() -> None:
        async with pool.connection():
            await asyncio.sleep(0.002)

    await asyncio.gather(*(use() for _ in range(50)))
    await asyncio.sleep(1.0)
    assert connector.opens.calls <= 6


async def test_long_uses_do_get_as_many_connections_as_allowed(make_pool):
    pool, connector = make_pool(max_size=20)
    connector.opens.usual = slow(0.15)
    held = [asyncio.create_task(pool.acquire()) for _ in range(20)]
    await asyncio.gather(*held)
    assert pool.stats().lent == 20


@pytest.mark.parametrize("max_opening", [1, 4, 7])
async def test_at_most_max_opening_connects_are_under_way(make_pool, max_opening):
    pool, connector = make_pool(max_size=20, max_opening=max_opening, timeout=None)
    connector.opens.usual = slow(1.0)
    await asyncio.gather(*(pool.acquire() for _ in range(20)))
    assert connector.peak_opening == max_opening


async def test_nothing_is_opened_for_those_who_do_not_wait_any_more(make_pool):
    pool, connector = make_pool(max_size=20, max_opening=1)
    connector.opens.usual = slow(1.0)
    callers = [asyncio.create_task(pool.acquire()) for _ in range(20)]
    await asyncio.sleep(0.5)
    for caller in callers:
        caller.cancel()
    await asyncio.sleep(10)
    assert connector.opens.calls == 1


async def test_a_failed_opening_is_tried_again_for_the_same_caller(make_pool):
    pool, connector = make_pool()
    connector.opens.next.extend([fails(), fails()])
    await pool.acquire()
    assert connector.opens.calls == 3
    assert pool.stats().open_failed == 2


async def test_a_failed_opening_wakes_the_next(make_pool):
    pool, connector = make_pool(max_size=1)
    connector.opens.next.append(fails(after=1.0))
    first = asyncio.create_task(pool.acquire(timeout=0.5))
    second = asyncio.create_task(pool.acquire(timeout=5.0))
    conn = await second
    assert isinstance(first.exception(), PoolTimeout)
    assert connector.live == {conn}


async def test_a_broken_connection_coming_back_wakes_a_waiter(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    conn.broken = True
    await pool.release(conn)
    assert await waiter is not conn


async def test_a_server_that_stays_down_is_reported_as_itself_to_everybody_in_line(make_pool):
    pool, connector = make_pool()
    down = ConnectionRefusedError("no server there")
    connector.opens.usual = fails(down)
    results = await asyncio.gather(*(pool.acquire() for _ in range(100)), return_exceptions=True)
    assert {type(error) for error in results} == {ConnectionRefusedError}
    assert {str(error) for error in results} == {"no server there"}


async def test_callers_who_are_told_of_one_failure_get_an_error_each(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = fails(ValueError("a wrong option"))

    async def call(number: int) -> ValueError:
        try:
            {}[number]
        except KeyError:
            with pytest.raises(ValueError, match="a wrong option") as caught:
                await pool.acquire()
            return caught.value

    errors = await asyncio.gather(*(call(number) for number in range(5)))
    assert [error.__context__.args for error in errors] == [(number,) for number in range(5)]


async def test_an_error_that_can_not_be_copied_is_told_as_it_is(make_pool):
    class Choosy(Exception):
        def __init__(self, *, why: str) -> None:
            super().__init__(why)

    pool, connector = make_pool()
    connector.opens.usual = fails(Choosy(why="because"))
    results = await asyncio.gather(pool.acquire(), pool.acquire(), return_exceptions=True)
    assert [str(error) for error in results] == ["because", "because"]


async def test_a_short_outage_costs_waiting_callers_nothing_but_time(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = fails()
    callers = [asyncio.create_task(pool.acquire()) for _ in range(10)]
    await asyncio.sleep(1.5)
    connector.opens.usual = slow(0.01)
    await asyncio.gather(*callers)


async def test_a_timeout_during_an_outage_names_the_connect_error_as_its_cause(make_pool):
    pool, connector = make_pool()
    down = ConnectionRefusedError("no server there")
    connector.opens.usual = fails(down)
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire(timeout=0.5)
    assert caught.value.__cause__ is down
    message = "; the last opening failed: ConnectionRefusedError: no server there"
    assert str(caught.value).endswith(message)


class VaultError(OSError):
    """As another library has them."""


@pytest.mark.parametrize("kind", [ValueError, VaultError])
async def test_a_timeout_tells_only_the_class_of_an_error_that_may_know_secrets(make_pool, kind):
    pool, connector = make_pool()
    await pool.acquire()
    connector.opens.usual = fails(kind("wrong password: hunter2"))
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire(timeout=0.5)
    assert str(caught.value).endswith(f"; the last opening failed: {kind.__name__}")


async def test_an_error_that_no_second_try_mends_is_told_at_once(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = fails(ValueError("a wrong option"))
    start = asyncio.get_running_loop().time()
    with pytest.raises(ValueError, match="a wrong option"):
        await pool.acquire()
    assert asyncio.get_running_loop().time() == start
    assert connector.opens.calls == 1


async def test_callers_wait_on_for_a_lent_connection_though_openings_fail(make_pool):
    pool, connector = make_pool()
    conn = await pool.acquire()
    connector.opens.usual = fails(ValueError("a wrong option"))
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(4.0)
    await pool.release(conn)
    assert await waiter is conn


class Sceptical(Policy[Conn]):
    """Does not hope for broken connections to come back."""

    def may_come_back(self, conn: Conn, /) -> bool:
        return not conn.broken


async def test_callers_do_not_wait_for_lent_connections_that_are_seen_to_be_broken(make_pool):
    pool, connector = make_pool()
    pool._policy = Sceptical()
    conns = [await pool.acquire() for _ in range(2)]
    connector.opens.usual = fails(ValueError("a wrong option"))
    conns[0].broken = True
    waiter = asyncio.create_task(pool.acquire(timeout=60))
    await asyncio.sleep(1.0)
    assert not waiter.done()
    conns[1].broken = True
    with pytest.raises(ValueError, match="a wrong option"):
        await waiter
    for conn in conns:
        await pool.release(conn)
    assert pool.stats().size == 0


async def test_a_server_that_is_down_is_dialled_by_one_at_a_time_with_growing_pauses(make_pool):
    pool, connector = make_pool(max_size=50)
    connector.opens.usual = fails(after=0.001)

    async def call() -> None:
        with pytest.raises((PoolTimeout, ConnectionRefusedError)):
            await pool.acquire()

    start = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for _ in range(600):
            group.create_task(call())
            await asyncio.sleep(0.1)
    lasted = asyncio.get_running_loop().time() - start
    assert connector.opens.calls <= 4 + 10 + lasted / 0.5


async def test_pauses_between_failed_openings_double_with_jitter_up_to_a_second(make_pool):
    pool, connector = make_pool(min_size=1)
    loop = asyncio.get_running_loop()
    begun: list[float] = []

    async def fail() -> None:
        begun.append(loop.time())
        raise ConnectionRefusedError

    connector.opens.usual = fail
    with pytest.raises(ConnectionRefusedError):
        await pool.open()
    await asyncio.sleep(20)
    pauses = [after - before for before, after in pairwise(begun)]
    for number, pause in enumerate(pauses):
        longest = min(1.0, 0.01 * 2**number)
        assert longest / 2 <= pause + 1e-9
        assert pause - 1e-9 <= longest
    assert len({round(pause / min(1.0, 0.01 * 2**n), 3) for n, pause in enumerate(pauses)}) > 5


async def test_a_caller_in_a_hurry_sees_an_opening_begin_all_the_same(make_pool):
    pool, connector = make_pool(timeout=0.1)
    connector.opens.usual = fails()
    for _ in range(100):
        with pytest.raises((PoolTimeout, ConnectionRefusedError)):
            await pool.acquire()
    connector.opens.usual = goes
    await pool.acquire()


async def test_the_pause_after_an_opening_that_took_long_leaves_a_caller_time_for_the_next(
    make_pool,
):
    pool, connector = make_pool(timeout=0.5)
    connector.opens.next.append(slow(20.0))
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    await asyncio.sleep(19.6)
    await pool.acquire(timeout=0)
    await pool.acquire()


async def test_after_an_outage_the_pool_is_back_within_one_pause(make_pool):
    pool, connector = make_pool()
    connector.opens.usual = fails()
    with pytest.raises(ConnectionRefusedError):
        await pool.acquire()
    connector.opens.usual = slow(0.0)
    start = asyncio.get_running_loop().time()
    await pool.acquire()
    assert asyncio.get_running_loop().time() - start <= 1.0
    await asyncio.gather(*(pool.acquire() for _ in range(9)))


async def test_an_opening_that_never_ends_frees_its_slot_after_a_while(make_pool):
    pool, connector = make_pool(max_size=1)
    connector.opens.next.append(never)
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    await asyncio.sleep(30)
    assert await pool.acquire(timeout=0.1)
    assert connector.opens.calls == 2


async def test_an_opening_that_hangs_does_not_keep_others_from_being_tried(make_pool):
    pool, connector = make_pool()
    connector.opens.next.extend([never, fails()])
    callers = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await asyncio.sleep(0.5)
    assert [caller.done() for caller in callers] == [True, False]
    await asyncio.sleep(2.0)
    assert [caller.done() for caller in callers] == [True, True]
    assert connector.opens.calls == 4


async def test_a_probe_that_hangs_does_not_keep_others_from_being_tried(make_pool):
    pool, connector = make_pool()
    connector.opens.next.extend([fails(), never, never])
    await pool.acquire()
    assert connector.opens.calls == 4


async def test_a_new_connection_that_is_of_no_use_counts_as_a_failed_opening(make_pool):
    pool, connector = make_pool(min_size=1)

    async def broken() -> None:
        asyncio.get_running_loop().call_soon(break_all)

    def break_all() -> None:
        for conn in connector.live:
            conn.broken = True

    connector.opens.usual = broken
    with pytest.raises(ConnectionAbortedError, match="of no use as soon as it was open"):
        await pool.acquire()
    await asyncio.sleep(60)
    assert connector.opens.calls < 15 + 60 / 0.5
    assert pool.stats().open_failed == pool.stats().closed["unusable"] == connector.opens.calls
    connector.opens.usual = goes
    await pool.acquire()


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), BaseExceptionGroup("two", [asyncio.CancelledError()])]
)
async def test_an_opening_that_ends_with_no_plain_error_is_a_failed_opening_too(make_pool, error):
    pool, connector = make_pool()

    async def end() -> None:
        raise error

    connector.opens.usual = end
    with pytest.raises((ConnectionAbortedError, PoolTimeout)):
        await asyncio.gather(*(pool.acquire() for _ in range(8)))
    assert connector.opens.calls == pool.stats().open_failed <= 4 + 11


async def test_what_a_connector_awaits_to_clean_up_after_the_limit_is_left_in_peace(make_pool):
    pool, connector = make_pool()
    cleaned = []

    async def careful() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0.1)
            cleaned.append(True)

    connector.opens.usual = careful
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    await asyncio.sleep(40)
    assert len(cleaned) == connector.opens.calls > 0


async def test_openings_run_in_the_context_of_the_pools_maker_not_of_its_users(make_pool):
    whose = contextvars.ContextVar("whose", default="nobody's")
    seen = []

    async def look() -> None:
        seen.append(whose.get())

    whose.set("the maker's")
    pool, connector = make_pool()
    connector.opens.usual = connector.checks.usual = look

    async def request() -> None:
        whose.set("a request's")
        async with pool.connection():
            pass

    await asyncio.create_task(request())
    await asyncio.sleep(60)
    await asyncio.create_task(request())
    assert seen == ["the maker's", "the maker's"]


async def test_openings_cancelled_by_somebody_else_lose_nothing(make_pool):
    pool, connector = make_pool()
    connector.opens.next.append(slow(1.0))
    caller = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "aiopool-open":
            task.cancel()  # before its first step
    await caller
    assert pool.stats().size == 1


async def test_tasks_of_the_pool_are_named(make_pool):
    pool, connector = make_pool(check_after=10.0)
    connector.opens.usual = connector.checks.usual = slow(0.5)
    caller = asyncio.create_task(pool.acquire())
    await turns(2)
    assert "aiopool-open" in {task.get_name() for task in asyncio.all_tasks()}
    await pool.release(await caller)
    await asyncio.sleep(11)
    caller = asyncio.create_task(pool.acquire())
    await turns(2)
    assert "aiopool-check" in {task.get_name() for task in asyncio.all_tasks()}
    await caller


async def test_a_pool_without_limits_on_time_waits_for_ever_if_asked_to(make_pool):
    pool, _ = make_pool(max_size=1, timeout=None)
    conn = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await asyncio.sleep(1_000_000)
    await pool.release(conn)
    await waiter


TASK_FACTORIES = {"usual": None}
if hasattr(asyncio, "eager_task_factory"):  # Python 3.12 is the first with eager tasks
    TASK_FACTORIES["eager"] = asyncio.eager_task_factory


@pytest.mark.parametrize("factory", TASK_FACTORIES.values(), ids=TASK_FACTORIES)
async def test_tasks_that_open_or_check_in_no_time_are_kept_in_the_books(make_pool, factory):
    pool, connector = make_pool(max_size=3)
    asyncio.get_running_loop().set_task_factory(factory)
    for _ in range(2):  # first opened, then checked
        conns = await asyncio.gather(*(pool.acquire() for _ in range(3)))
        for conn in conns:
            await pool.release(conn)
        await asyncio.sleep(60)
    assert (connector.opens.calls, connector.checks.calls) == (3, 3)


def test_a_pool_can_be_made_with_no_loop_running():
    class Nothing:
        async def open(self) -> object:
            return object()

        async def check(self, conn: object, /) -> None: ...

        def is_usable(self, conn: object, /) -> bool:  # noqa: ARG002 - the protocol's
            return True

        def close(self, conn: object, /) -> None: ...

    pool = Pool(Nothing())
    assert pool.stats().size == 0
    assert pool.holders() == []
    pool.drain()
    pool.resize(max_size=3)
    assert "size=0/3" in repr(pool)
