"""Listeners hear what happens, each time after it has happened, and can break nothing."""

import asyncio
import logging
import os
import subprocess
import sys
from threading import Thread

import pytest
from clock import elsewhere, turns
from fakes import FakeConnector, fails, slow

from aiopool import Listener, Pool, PoolTimeout, TooManyWaiters
from aiopool._events import NAMES, everywhere


class Ear(Listener):
    """Writes down every event, with what the pool's gauges were then."""

    def __init__(self):
        self.heard = []
        self.untrue = []
        for name in NAMES:
            setattr(self, name, self._hear(name))

    def _hear(self, name):
        def hear(pool, *what):
            self.heard.append((name, *what))
            stats = pool.stats()
            if stats.size != stats.idle + stats.lent + stats.opening + stats.checking:
                self.untrue.append((name, stats))

        return hear

    @property
    def names(self):
        return [name for name, *_ in self.heard]


async def test_every_event_is_told_with_what_belongs_to_it(make_pool):
    pool, connector = make_pool(
        max_size=1, max_waiting=1, max_idle=100.0, check_after=50.0, leak_after=7.0
    )
    ear = Ear()
    pool.on(ear)
    error = ConnectionRefusedError("refused")
    connector.opens.next.append(fails(error))
    connector.opens.usual = slow(0.5)
    conn = await elsewhere(pool.acquire())
    (_, waited) = ear.heard.pop()[1:]
    assert 0.5 < waited < 0.6  # and a pause, which is random
    assert ear.heard == [("waiting",), ("open_failed", error, 1), ("opened", conn, 0.5)]
    ear.heard.clear()

    waiter = asyncio.create_task(pool.acquire(timeout=2.0))
    await turns(1)
    with pytest.raises(TooManyWaiters) as turned_away:
        await pool.acquire()
    with pytest.raises(PoolTimeout) as late:
        await waiter
    assert ear.heard == [
        ("waiting",),
        ("rejected", turned_away.value),
        ("timed_out", late.value),
    ]
    ear.heard.clear()

    await asyncio.sleep(6.0)
    await pool.release(conn)
    assert ear.names == ["leaked", "returned", "leak_returned"]
    assert ear.heard[1] == ("returned", conn, 8.0)
    ear.heard.clear()

    await asyncio.sleep(60.0)
    await pool.release(await pool.acquire())
    assert ear.names == ["waiting", "checked", "lent", "returned"]
    ear.heard.clear()

    await asyncio.sleep(101.0)
    assert ear.heard == [("closed", conn, "max_idle")]
    ear.heard.clear()

    pool.drain()
    assert ear.names == ["drained"]


async def test_what_was_handed_over_and_not_taken_is_neither_lent_nor_returned(make_pool):
    pool, _ = make_pool(max_size=1)
    conn = await elsewhere(pool.acquire())
    ear = Ear()
    pool.on(ear)
    waiter = asyncio.create_task(pool.acquire())
    await turns(2)
    await pool.release(conn)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert ear.heard == [("waiting",), ("returned", conn, 0.0), ("left",)]


@pytest.mark.parametrize("how", ["drain", "max_idle", "aclose", "check"])
async def test_the_numbers_are_true_in_each_of_many_events(make_pool, how):
    pool, connector = make_pool(max_size=5, max_idle=100.0, check_after=10.0)
    ear = Ear()
    pool.on(ear)
    conns = [await pool.acquire() for _ in range(5)]
    for conn in conns:
        await pool.release(conn)
    if how == "drain":
        pool.drain()
    elif how == "max_idle":
        await asyncio.sleep(101.0)
    elif how == "check":
        await asyncio.sleep(11.0)
        connector.checks.usual = fails()
        await pool.release(await pool.acquire())
    else:
        await elsewhere(pool.acquire())
        await elsewhere(pool.acquire())
        await pool.aclose(timeout=0)
    assert ear.names.count("closed") == 5
    assert not ear.untrue


async def test_a_listener_that_was_taken_off_hears_nothing(make_pool):
    pool, _ = make_pool()
    ear = Ear()
    off = pool.on(ear)
    await pool.release(await pool.acquire())
    assert ear.heard
    ear.heard.clear()
    off()
    off()
    await pool.release(await pool.acquire())
    assert not ear.heard


async def test_a_listener_put_on_twice_hears_everything_once(make_pool):
    pool, _ = make_pool()
    ear = Ear()
    pool.on(ear)
    pool.on(ear)
    await pool.release(await pool.acquire())
    assert ear.names == ["waiting", "opened", "lent", "returned"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), asyncio.CancelledError()])
@pytest.mark.parametrize("name", NAMES)
async def test_an_exception_in_a_listener_is_logged_and_breaks_nothing(
    make_pool, caplog, name, error
):
    pool, connector = make_pool(
        max_size=1, max_waiting=0, max_idle=10.0, check_after=5.0, leak_after=3.0
    )

    def fail(*_):
        raise error

    listener, ear = Listener(), Ear()
    setattr(listener, name, fail)
    pool.on(listener)
    pool.on(ear)
    connector.opens.next.append(fails())
    conn = await elsewhere(pool.acquire())
    with pytest.raises(TooManyWaiters):
        await pool.acquire()
    with pytest.raises(TooManyWaiters):
        await pool.acquire(timeout=1.0)
    await asyncio.sleep(4.0)
    await pool.release(conn)
    await asyncio.sleep(6.0)
    await pool.release(await pool.acquire())
    pool.resize(max_size=2)
    await elsewhere(pool.acquire())
    connector.opens.usual = slow(2.0)
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=1.0)
    await asyncio.sleep(1.5)
    pool.drain()
    waiter = asyncio.create_task(pool.acquire())
    await turns(1)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert name in ear.names
    told = [record for record in caplog.records if "a listener has failed" in record.message]
    assert {record.levelno for record in told} == {logging.ERROR}
    assert len(told) == ear.names.count(name)


async def test_a_listener_may_drain_and_resize_the_pool_in_any_event(make_pool):
    for name in NAMES:
        pool, connector = make_pool(
            max_size=4, min_size=1, max_waiting=1, max_idle=10.0, check_after=5.0, leak_after=3.0
        )
        calls = []

        def meddle(pool, *_, calls=calls):
            calls.append(1)
            if len(calls) < 5:
                pool.drain()
                pool.resize(max_size=4 + len(calls) % 2)
                pool.drain()

        listener = Listener()
        setattr(listener, name, meddle)
        pool.on(listener)
        connector.opens.next.append(fails())
        conns = [await elsewhere(pool.acquire()) for _ in range(4)]
        await asyncio.sleep(4.0)
        for conn in conns:
            conn.broken = conn is conns[2]
            await pool.release(conn)
        await asyncio.sleep(6.0)
        await pool.release(await pool.acquire())
        await asyncio.sleep(30.0)
        pool.drain()
        await asyncio.sleep(1.0)
        assert pool.stats().lent == 0
        assert pool.stats().size == 1
        for _ in range(pool.stats().max_size):
            await elsewhere(pool.acquire(timeout=1.0))


async def test_who_is_no_listener_is_refused(make_pool):
    pool, _ = make_pool()
    with pytest.raises(TypeError, match=r"listener must be an aiopool\.Listener, not 'me'"):
        pool.on("me")


async def test_a_listener_whose_methods_would_have_to_be_awaited_is_refused(make_pool):
    class Late(Listener):
        async def lent(self, pool, conn, waited):
            pass

    pool, _ = make_pool()
    with pytest.raises(
        TypeError, match=r"Late\.lent must be a plain function: nobody would await it"
    ):
        pool.on(Late())


@pytest.mark.parametrize("name", ["waiting", "lent", "returned"])
async def test_what_ends_the_program_in_a_listener_leaves_nobody_in_the_line(make_pool, name):
    pool, _ = make_pool(max_size=1)
    conn = await elsewhere(pool.acquire())

    def end(*_):
        raise SystemExit

    listener = Listener()
    setattr(listener, name, end)
    off = pool.on(listener)
    if name == "waiting":
        with pytest.raises(SystemExit):
            await pool.acquire()
        await pool.release(conn)
    else:
        with pytest.raises(SystemExit):
            await again(pool, conn)
    off()
    assert pool.stats().waiting == 0
    for holder in pool.holders():
        await pool.release(holder.conn)
    await pool.release(await pool.acquire(timeout=0))


async def again(pool, conn):
    await pool.release(conn)
    await pool.acquire()


async def test_closing_under_holders_is_told_with_their_names_unless_no_grace_was_given(
    make_pool, caplog
):
    pool, _ = make_pool(name="cache")
    await asyncio.create_task(pool.acquire(), name="slow")
    await pool.aclose(timeout=2.0)
    await pool.open()
    await elsewhere(pool.acquire())
    await pool.aclose(timeout=0)
    (message,) = caplog.messages
    assert message.endswith(
        "has closed connections under their holders, after 2 s of grace: 'slow'"
    )


async def test_a_warning_in_the_log_means_look_and_the_rest_is_for_those_who_debug(
    make_pool, caplog
):
    caplog.set_level(logging.DEBUG, "aiopool")
    pool, connector = make_pool(max_size=1, name="cache", max_idle=10.0, leak_after=60.0)
    connector.opens.next.extend([fails()] * 3)
    conn = await elsewhere(pool.acquire())
    for _ in range(5):
        with pytest.raises(PoolTimeout):
            await pool.acquire(timeout=1.0)
    await asyncio.sleep(6.0)
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=1.0)
    await asyncio.sleep(100.0)
    await pool.release(conn)
    await asyncio.sleep(11.0)
    pool.drain()
    lines = [
        (record.levelname, record.getMessage().partition(" (size=")[0], record.getMessage())
        for record in caplog.records
    ]
    assert all("\n" not in message for _, _, message in lines)
    assert [(level, beginning) for level, beginning, _ in lines] == [
        ("WARNING", "<Pool 'cache'"),
        ("DEBUG", "<Pool 'cache'"),
        ("DEBUG", "<Pool 'cache'"),
        ("INFO", "<Pool 'cache'"),
        ("WARNING", "PoolTimeout of Pool 'cache': no connection within 1 s"),
        ("WARNING", "PoolTimeout of Pool 'cache': no connection within 1 s"),
        ("WARNING", "<Pool 'cache'"),
        ("INFO", "<Pool 'cache'"),
        ("DEBUG", "<Pool 'cache'"),
        ("INFO", "<Pool 'cache'"),
    ]
    messages = [message for _, _, message in lines]
    assert messages[0].endswith("(failures in a row: 1): ConnectionRefusedError: refused")
    assert messages[3].endswith("has opened a connection, after 3 failures in a row")
    assert messages[5].endswith("(and 4 times since the last warning)")
    assert "misses a connection, lent 60.0 s ago to task" in messages[6]
    assert "has the connection back that it missed, after 112.0 s" in messages[7]
    assert messages[8].endswith("has closed a connection: max_idle")
    assert messages[9].endswith("was drained")


def test_who_listens_everywhere_does_not_mind_threads_that_make_pools():
    made, errors, enough = [], [], []

    def make():
        connector = FakeConnector()
        try:
            while not enough:
                made.append(Pool(connector))
        except RuntimeError as error:
            errors.append(error)

    threads = [Thread(target=make) for _ in range(2)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            everywhere(Ear())()
    finally:
        enough.append(True)
        for thread in threads:
            thread.join()
        sys.setswitchinterval(usual)
    assert not errors
    assert not any(pool._events.lent for pool in made)


FORK_WHILE_A_THREAD_MAKES_A_POOL = """
import os, threading, warnings
from aiopool import RedisPool
from aiopool import _events

warnings.simplefilter("ignore")  # that a process with threads forks: that is what is tried
held, enough = threading.Event(), threading.Event()

def hold():
    with _events._registry:
        held.set()
        enough.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
if (child := os.fork()) == 0:
    RedisPool()
    os._exit(7)
enough.set()
thread.join()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_makes_pools_although_a_thread_was_making_one():
    words = [sys.executable, "-c", FORK_WHILE_A_THREAD_MAKES_A_POOL]
    done = subprocess.run(words, timeout=20, check=False)  # noqa: S603 - its own words
    assert done.returncode == 7
