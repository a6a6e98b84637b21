"""With `shed=True` callers who would be served too late are told so at once, and nobody else is."""

import asyncio

import pytest
from clock import elsewhere, turns
from fakes import slow

from aiopool import PoolTimeout, TooManyWaiters
from benchmarks.shedding import simulation
from benchmarks.shedding.simulation import CONSTANT, EXPONENTIAL, RULES, WITH, WITHOUT, at_load

# Seconds are fractions of two here, so that sums are exact.


async def use(pool, seconds, **options):
    async with pool.connection(**options):
        await asyncio.sleep(seconds)


async def used(pool, seconds, times=10):
    """Have it known how long connections are used."""
    for _ in range(times):
        await use(pool, seconds)


async def come(pool, number, seconds=0.25, **options):
    """Have so many callers come; give those who were let in, and how many were turned away."""
    tasks = [asyncio.create_task(use(pool, seconds, **options)) for _ in range(number)]
    await turns(5)
    away = [task.exception() for task in tasks if task.done()]
    assert all(isinstance(error, TooManyWaiters) for error in away)
    return [task for task in tasks if not task.done()], len(away)


# ---- who is turned away --------------------------------------------------------------------------


async def test_who_would_wait_for_too_long_is_told_at_once_why(make_pool):
    pool, _ = make_pool(max_size=1, timeout=2.5, shed=True)
    await used(pool, 0.25)
    holder = asyncio.create_task(use(pool, 0.25), name="report")
    await turns(1)
    let_in, away = await come(pool, 6)
    assert (len(let_in), away) == (6, 0)
    loop = asyncio.get_running_loop()
    now = loop.time()
    with pytest.raises(TooManyWaiters) as caught:  # in 7 uses it would have one, with room for 3
        await pool.acquire(timeout=2.25)
    assert loop.time() == now
    error = caught.value
    assert str(error) == (
        "a wait of 1.75 s is expected, which leaves less than the 0.75 s that a use may take of a timeout of 2.25 s (size=1/1, idle=0, lent=1, "
        "opening=0, waiting=6; longest lent 0.0 s by task 'report')"
    )
    assert (error.stats.waiting, error.waited, pool.stats().rejected) == (6, 0.0, 1)
    assert [each.task for each in error.holders] == ["report"]
    last, away = await come(pool, 2)  # in 2.5 s one fits, exactly
    assert (len(last), away) == (1, 1)
    await asyncio.gather(holder, *let_in, *last)
    assert pool.stats().timed_out == 0


async def test_room_for_a_use_is_never_more_than_half_of_the_timeout(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 0.25)
    let_in, away = await come(pool, 10)
    assert (len(let_in), away) == (3, 7)  # one has it, one is next, and one expects it in 0.5 s
    await asyncio.gather(*let_in)


async def test_nobody_is_turned_away_before_whom_nobody_waits(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 60.0)
    let_in, away = await come(pool, 3)
    assert (len(let_in), away) == (2, 1)
    await asyncio.gather(*let_in)


async def test_nobody_is_turned_away_who_has_no_limit(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 1.0)
    let_in, away = await come(pool, 100, timeout=None)
    assert (len(let_in), away) == (100, 0)
    await asyncio.gather(*let_in)


async def test_nobody_is_turned_away_before_it_is_known_how_long_a_use_takes(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    let_in, away = await come(pool, 100)
    assert (len(let_in), away) == (100, 0)
    await asyncio.gather(*let_in, return_exceptions=True)
    assert pool.stats().timed_out > 90


async def test_nobody_is_turned_away_for_whom_a_connection_can_be_opened(make_pool):
    pool, connector = make_pool(max_size=10, max_opening=10, timeout=1.0, shed=True)
    await used(pool, 1.0)
    connector.opens.usual = slow(0.125)
    let_in, away = await come(pool, 11, timeout=0.25)
    # One takes what is idle, nine what is being opened, and one is the first to wait.
    assert (len(let_in), away) == (11, 0)
    _, away = await come(pool, 1, timeout=0.25)
    assert away == 1
    await asyncio.wait(let_in)
    assert isinstance(let_in[-1].exception(), PoolTimeout)
    await asyncio.gather(*let_in[:-1])


async def test_who_was_cancelled_keeps_nobody_out(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 0.25)
    let_in, _ = await come(pool, 10)
    for task in let_in[1:]:
        task.cancel()
    await turns(1)
    others, away = await come(pool, 10)
    assert (len(others), away) == (2, 8)
    await asyncio.gather(let_in[0], *others)


# ---- what is expected ----------------------------------------------------------------------------


async def test_the_larger_the_pool_the_longer_the_line(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 1 / 16)
    for size in (1, 4, 2):
        pool.resize(max_size=size)
        await pool.warm(size)
        let_in, away = await come(pool, 100, 1 / 16)
        assert (len(let_in), away) == (
            14 * size,
            100 - 14 * size,
        )  # those who have one, and 13 rounds
        await asyncio.gather(*let_in)


async def test_while_a_pool_shrinks_what_is_to_be_closed_keeps_nobody_out(make_pool):
    pool, _ = make_pool(max_size=10, timeout=1.0, shed=True)
    await used(pool, 0.25)
    await pool.warm(10)
    let_in, _ = await come(pool, 10)
    pool.resize(max_size=1)
    others, away = await come(pool, 10)
    assert (len(others), away) == (2, 8)
    await asyncio.gather(*let_in, *others)


async def test_who_takes_only_what_is_there_is_not_told_of_a_wait(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 0.25)
    let_in, _ = await come(pool, 3)
    with pytest.raises(PoolTimeout, match="no connection within 0 s"):
        await pool.acquire(timeout=0)
    await asyncio.gather(*let_in)


async def test_a_slow_beginning_turns_nobody_away(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    await used(pool, 0.9, times=1)
    let_in, away = await come(pool, 20, 1 / 64)
    assert (len(let_in), away) == (20, 0)
    await asyncio.gather(*let_in)


async def test_who_would_wait_too_long_for_a_view_is_turned_away_too(make_pool):
    pool, _ = make_pool(max_size=5, timeout=1.0, shed=True)
    pool.keeps = view = pool.view(limit=1)
    await used(view, 0.25)
    let_in, away = await come(view, 20)
    assert away == 20 - len(let_in) > 10
    assert (view.stats().rejected, pool.stats().rejected) == (away, 0)
    await asyncio.gather(*let_in)
    assert view.stats().timed_out == 0


async def test_one_use_of_a_minute_keeps_nobody_out(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)
    pool.resize(max_size=10)
    await pool.warm(10)
    await used(pool, 1 / 64, times=100)
    await used(pool, 60.0, times=1)
    let_in, away = await come(pool, 200, 1 / 64)
    assert (len(let_in), away) == (200, 0)
    await asyncio.gather(*let_in)


async def test_a_connection_that_is_kept_is_not_expected_back(make_pool):
    pool, _ = make_pool(max_size=3, timeout=1.0, shed=True)
    await used(pool, 0.25)
    kept = [await elsewhere(pool.acquire()) for _ in range(2)]
    let_in, away = await come(pool, 20)
    assert (len(let_in), away) == (
        7,
        13,
    )  # one has the third, and the last expects 6 returns of three
    await asyncio.wait(let_in)
    await asyncio.sleep(1.0)
    let_in, away = await come(pool, 20)
    assert (len(let_in), away) == (3, 17)  # and now of one
    await asyncio.wait(let_in)
    for conn in kept:
        await pool.release(conn)


async def test_if_all_are_kept_the_line_is_that_of_one(make_pool):
    pool, _ = make_pool(max_size=2, timeout=None, shed=True)
    await used(pool, 0.25)
    kept = [await elsewhere(pool.acquire()) for _ in range(2)]
    await asyncio.sleep(2.0)
    let_in, away = await come(pool, 20, timeout=1.0)
    assert (len(let_in), away) == (2, 18)
    for conn in kept:
        await pool.release(conn)
    await asyncio.gather(*let_in)


async def test_after_a_slow_spell_the_line_is_soon_as_long_as_before(make_pool):
    pool, _ = make_pool(max_size=1, timeout=1.0, shed=True)

    async def line():
        let_in, _ = await come(pool, 100, 1 / 64)
        for task in let_in[1:]:
            task.cancel()
        await asyncio.wait(let_in)
        return len(let_in) - 1

    await used(pool, 1 / 64)
    assert await line() == 61
    await used(pool, 1.0, times=100)
    assert await line() == 1  # though nobody has it for long any more
    await used(pool, 1 / 64, times=50)
    assert await line() > 40


# ---- what it is for ------------------------------------------------------------------------------


@pytest.fixture
def briefly(monkeypatch):
    monkeypatch.setattr(simulation, "WARM_UP", 1.5)
    monkeypatch.setattr(simulation, "LASTS", 1.5)


# Twice the requests that can be served, and each has a second in all, which is the pool's timeout.


def outcomes(uses, *rules):
    return [simulation.outcome(at_load(2.0), uses, rule, seed=1) for rule in rules]


@pytest.mark.usefixtures("briefly")
def test_twice_too_much_is_served_half_and_not_too_late():
    without, with_it = outcomes(CONSTANT, WITHOUT, WITH)
    assert without.goodput < 0.1
    assert with_it.goodput > 0.95
    assert (without.tally.told_after, with_it.tally.told_after) == (
        pytest.approx(1.0, abs=0.001),
        0,
    )
    assert with_it.opened == 10
    assert not without.tally.rejected


@pytest.mark.usefixtures("briefly")
def test_where_some_uses_are_longer_most_who_fail_are_told_at_once_all_the_same():
    without, with_it = outcomes(EXPONENTIAL, WITHOUT, WITH)
    assert with_it.goodput > 0.95
    assert with_it.tally.told_after < 0.3
    assert without.tally.told_after > 0.99
    assert with_it.opened < without.opened / 3


@pytest.mark.usefixtures("briefly")
def test_room_for_one_use_would_not_do():
    (one,) = outcomes(CONSTANT, next(rule for rule in RULES if rule.changes == {"ROOM": 1}))
    assert one.goodput < 0.9


async def test_nothing_is_lost_while_callers_are_turned_away_cut_off_and_out_of_time(make_pool):
    pool, connector = make_pool(max_size=5, timeout=0.3, shed=True)
    ends = []

    async def request():
        try:
            async with asyncio.timeout(0.35), pool.connection() as conn:
                try:
                    await asyncio.sleep(0.05)
                except asyncio.CancelledError:
                    conn.broken = True
                    raise
        except (TimeoutError, TooManyWaiters) as error:
            ends.append(type(error))
        else:
            ends.append(None)

    async with asyncio.TaskGroup() as group:
        for number in range(1000):
            group.create_task(request())
            if number % 10 == 0:
                await asyncio.sleep(0.02)
    stats = pool.stats()
    assert len(ends) == 1000
    assert ends.count(None) > 100
    assert ends.count(TooManyWaiters) == stats.rejected > 100
    assert (stats.lent, stats.waiting, stats.size) == (0, 0, len(connector.live))
    conns = [await elsewhere(pool.acquire(timeout=1.0)) for _ in range(5)]
    for conn in conns:
        await pool.release(conn)
