"""A server in trouble while many use it: what callers see, what it costs, and that it ends.

How long something takes is bounded loosely here, for slow machines. `python troubles.py` measures it.
"""

import asyncio
import errno
import re
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import STRICT, Server, eventually
from troubles import (
    CALLERS,
    FEWER,
    KILLED_EVERY,
    SIZE,
    Dial,
    Load,
    Report,
    descriptors_left,
    lendable,
    make_pool,
    suffer,
    troubled_server,
)

from aiopool import RedisPool

# The pool's pauses, and how many openings it begins before it knows of a failure.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
MAX_OPENING = 4

# Enough retries for an outage of any length that these tests have.
PATIENT = {"retry": Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.5), 100)}


@pytest.fixture
async def troubled() -> AsyncIterator[Server]:
    """A server for one test, that can be had in any trouble."""
    server = await asyncio.to_thread(troubled_server)
    try:
        yield server
        await eventually(lambda: not server.clients(), "no connection is left")
    finally:
        server.destroy()


async def endured(name: str, server: Server, **options) -> Report:
    """Go through a trouble, with what is promised for every one."""
    report = await suffer(name, server, RedisPool, timeout=30.0, **options)
    assert report.wrong == []
    assert report.stuck == 0
    assert report.recovered_after is not None
    # By the longest pause, and what a slow machine adds.
    assert report.recovered_after < LONGEST_PAUSE + 2
    assert report.slots == SIZE
    return report


def most_dials(seconds: float) -> int:
    """Say how often a pool may try in an outage: several times at once, then after shortest pauses."""
    dials, pause, spent = MAX_OPENING, FIRST_PAUSE, 0.0
    while spent < seconds:
        spent += pause / 2
        pause = min(2 * pause, LONGEST_PAUSE)
        dials += 1
    return dials


def no_storm(report: Report) -> None:
    by_pool = [dial for dial in report.dials if dial.by_pool]
    assert len(by_pool) <= most_dials(report.lasted) + SIZE, "SIZE: those that succeeded at the end"


# ---- the server ends, and comes back -------------------------------------------------------------


async def test_a_crash_costs_what_fails_meanwhile_a_connection_error_and_no_storm(troubled, wire):
    report = await endured("killed", troubled, **STRICT, **wire)
    assert set(report.errors) == {RedisConnectionError}
    assert report.peak == SIZE
    assert all(dial.by_pool for dial in report.dials)
    no_storm(report)


async def test_a_crash_costs_callers_who_try_again_no_error(troubled):
    report = await endured("killed", troubled, **PATIENT)
    assert not report.errors
    assert report.peak == SIZE
    no_storm(report)


async def test_a_shutdown_is_like_a_crash(troubled):
    report = await endured("shut_down", troubled, **STRICT)
    assert set(report.errors) == {RedisConnectionError}
    assert report.peak == SIZE
    no_storm(report)


@pytest.mark.parametrize("seen", [True, False])
async def test_after_a_crash_one_connection_is_opened_alone_before_the_rest(troubled, seen):
    dials: list[Dial] = []
    pool = make_pool(RedisPool, troubled, dials, max_connections=10, timeout=30.0, **STRICT)
    async with pool, Load(pool, callers=30) as load:
        assert await lendable(pool) == 10
        await eventually(lambda: load.recovered_after(0) is not None, "all goes well")
        dials.clear()
        if seen:
            await asyncio.to_thread(troubled.kill)
            await eventually(lambda: any(not dial.well for dial in dials), "it was tried in vain")
            await asyncio.to_thread(troubled.start)
        else:  # by no event loop
            troubled.kill()
            troubled.start()
        # The server knows of a connection before the dial has ended.
        await eventually(
            lambda: len(troubled.clients()) == 10 and sum(dial.well for dial in dials) >= 10,
            "all are back",
        )
    first = min(dial.ended for dial in dials if dial.well)
    alone = [dial for dial in dials if dial.begun <= first]
    for one, following in pairwise(alone):
        assert one.ended <= following.begun
    assert sum(dial.well for dial in dials) == 10


async def test_pauses_between_attempts_grow_up_to_a_limit_and_are_never_in_step(troubled):
    dials: list[list[Dial]] = [[] for _ in range(6)]
    retry = Retry(NoBackoff(), 1000)
    pools = [
        make_pool(RedisPool, troubled, each, timeout=30.0, max_connections=1, retry=retry)
        for each in dials
    ]
    troubled.kill()
    waiting = [asyncio.create_task(pool.get_connection()) for pool in pools]
    begun = time.monotonic()
    await asyncio.sleep(1.0)
    lasted = time.monotonic() - begun
    shares = []
    for each in dials:
        assert all(dial.by_pool for dial in each)
        assert 3 < len(each) <= most_dials(lasted)
        for failures, (one, following) in enumerate(pairwise(each)):
            full = min(FIRST_PAUSE * 2**failures, LONGEST_PAUSE)
            shares.append((following.begun - one.ended) / full)
            # Timers of uvloop's are some milliseconds off.
            assert following.begun - one.ended > full / 2 - 0.005
    assert min(shares) < 0.9, "each is cut by up to a half, at random"
    await asyncio.to_thread(troubled.start)
    back = time.monotonic()
    for pool, conn in zip(pools, await asyncio.gather(*waiting), strict=True):
        await pool.release(conn)
        await pool.aclose()
    assert time.monotonic() - back < LONGEST_PAUSE + 2


# ---- the server hangs ----------------------------------------------------------------------------


async def test_a_server_that_hangs_is_a_timeout_error_and_no_storm(troubled):
    # What the server counts is no measure here: it hears too late of those that were given up.
    report = await endured("frozen", troubled, **STRICT)
    assert set(report.errors) == {RedisTimeoutError}
    no_storm(report)


@pytest.mark.parametrize("name", ["paused", "asleep"])
async def test_a_server_that_is_slow_for_less_than_the_timeout_is_waited_for(troubled, name):
    report = await endured(name, troubled, **STRICT)
    assert not report.errors
    assert report.dials == []
    assert report.peak == SIZE
    assert report.longest > report.lasted / 2, "it was slow"


# ---- the server closes connections ---------------------------------------------------------------


async def test_repeated_kills_cost_at_most_the_commands_under_way_and_one_dial_each(troubled, wire):
    report = await endured("clients_killed", troubled, **STRICT, **wire)
    # None if the server has answered all it was asked before each of the kills.
    assert set(report.errors) <= {RedisConnectionError}
    assert report.peak == SIZE
    kills = report.lasted / KILLED_EVERY + 2
    assert report.errors.total() <= kills * CALLERS
    assert SIZE <= len(report.dials) <= kills * SIZE


async def test_repeated_kills_cost_callers_who_try_again_no_error(troubled):
    report = await endured("clients_killed", troubled, **PATIENT)
    assert not report.errors
    assert report.peak == SIZE


async def test_idle_connections_that_the_server_has_closed_are_not_lent(troubled):
    report = await endured("idle_ones_closed", troubled, **STRICT)
    assert not report.errors
    assert sum(dial.well for dial in report.dials) == len(report.dials) == SIZE - 1
    assert report.peak == SIZE


# ---- no more connections -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["too_many_clients", "out_of_descriptors"])
async def test_where_there_can_be_few_connections_callers_take_turns_until_there_can_be_more(
    troubled, name
):
    report = await endured(name, troubled, **STRICT)
    assert not report.errors
    assert report.peak_meanwhile == FEWER
    # Those that can be, those that fail before there is any (which takes no longer than the longest
    # request) or were begun with the last, and one more for each second.
    assert len(report.dials) <= FEWER + most_dials(report.longest) + report.lasted
    assert report.grown_after is not None
    assert report.grown_after < 6


async def test_without_descriptors_callers_get_the_connect_error_only_if_nothing_is_lent(troubled):
    pool = make_pool(RedisPool, troubled, [], max_connections=2, timeout=30.0, **STRICT)
    words = re.escape(f"Error {errno.EMFILE} connecting to 127.0.0.1:{troubled.port}.")
    async with pool:
        with descriptors_left(0), pytest.raises(RedisConnectionError, match=words):
            await pool.get_connection()
        conn = await pool.get_connection()
        with descriptors_left(0):
            waiting = asyncio.create_task(pool.get_connection())
            await eventually(lambda: pool.stats().open_failed >= 2, "it was tried in vain")
            assert not waiting.done()
            await pool.release(conn)
            await pool.release(await waiting)
        assert await lendable(pool) == 2


# ---- the server refuses commands -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"), [("out_of_memory", OutOfMemoryError), ("read_only", ReadOnlyError)]
)
async def test_refused_writes_cost_no_connection(troubled, name, error):
    report = await endured(name, troubled, **STRICT)
    assert set(report.errors) == {error}
    assert report.dials == []
    assert report.peak == SIZE
