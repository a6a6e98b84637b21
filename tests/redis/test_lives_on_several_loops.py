"""One pool for the whole process: run after run, thread by thread, and across fork()."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from servers import STRICT, eventually

from aiopool import RedisPool, WrongLoop

LOOPS = ["asyncio"] + (["uvloop"] if sys.platform != "win32" else [])

PRELUDE = """
import asyncio, gc, logging, os, sys, traceback
import redis.asyncio
from aiopool import RedisPool

loop, url, authority = sys.argv[1:]
if loop == "uvloop":
    import uvloop as module
else:
    module = asyncio
# In its debug mode asyncio also tells what took long, which on a busy machine anything may.
logging.getLogger("asyncio").setLevel(logging.ERROR)
options = {"ssl_ca_data": authority} if authority else {}
pool = RedisPool(url, max_size=4, **options)
client = redis.asyncio.Redis(connection_pool=pool)

def run(coroutine):
    with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
        return runner.run(coroutine)
"""

TWICE = """
lent = []

async def use():
    assert await pool.warm(3) >= 3
    words = [str(number) for number in range(20)]
    assert await asyncio.gather(*map(client.echo, words)) == [word.encode() for word in words]
    assert pool.stats().idle >= 3
    # A TLS handshake that is cut off with its loop leaves asyncio with a socket it warns about.
    while pool.stats().opening:
        await asyncio.sleep(0.001)

async def use_and_keep_one():
    await use()
    lent.append(await pool.acquire())

async def use_and_close():
    await use()
    await pool.aclose()

run(use())
gc.collect()
run(use_and_keep_one())
gc.collect()
run(use())
run(use_and_close())
gc.collect()
assert pool.stats().size == 0
"""

FORK = """
async def who():
    return await client.client_id()

async def who_and_close():
    number = await who()
    await pool.aclose()
    return number

def in_child():
    # Everything of the parent's loop is inherited; whatever is dropped here must not reach it.
    assert run(who()) != before
    gc.collect()
    assert run(who_and_close()) != before
    gc.collect()

def fork():
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            in_child()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"

with asyncio.Runner(loop_factory=module.new_event_loop) as runner:
    before = runner.run(who())
    for _ in range(3):
        fork()
        assert runner.run(who()) == before
    assert pool.stats().opened == 1
    runner.run(pool.aclose())
"""


def run_script(folder: Path, script: str, *words: str) -> None:
    """Run a script that may not warn of anything."""
    # uvloop's close() warns of every transport that is still open, and if that is an error, it never
    # returns. Nothing but closing the pool in time could prevent that.
    strict = ["-W", "error", "-W", "ignore:unclosed resource:ResourceWarning"]
    done = subprocess.run(  # noqa: S603 - its own words
        [sys.executable, "-X", "dev", *strict, "-c", PRELUDE + script, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode or done.stderr:
        pytest.fail(f"exit status {done.returncode}:\n{done.stderr}")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_one_pool_serves_one_asyncio_run_after_the_other(server, tls, tmp_path, loop, kind):
    url = {"tcp": server.url, "tls": tls.url}[kind]
    run_script(tmp_path, TWICE, loop, url, tls.authority_pem if kind == "tls" else "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_forked_child_has_its_own_connections_and_leaves_the_parents_alone(
    server, tls, tmp_path, loop, kind
):
    url = {"tcp": server.url, "tls": tls.url}[kind]
    run_script(tmp_path, FORK, loop, url, tls.authority_pem if kind == "tls" else "")


async def test_another_event_loop_in_another_thread_is_refused_and_changes_nothing(server):
    async with RedisPool(server.url, max_size=2, **STRICT) as pool:
        client = pool.client()
        number = await client.client_id()
        lent = await pool.acquire()

        def elsewhere(attempt) -> None:
            async def run() -> None:
                await attempt()

            with pytest.raises(WrongLoop):
                asyncio.run(run())

        for attempt in (
            pool.acquire,
            pool.get_connection,
            pool.client().ping,
            pool.open,
            pool.aclose,
            lambda: pool.warm(1),
            lambda: pool.release(lent),
        ):
            await asyncio.to_thread(elsewhere, attempt)
        assert (pool.stats().lent, pool.stats().size) == (1, 1)
        await pool.release(lent)
        assert await client.client_id() == number


async def test_a_pool_whose_loop_has_ended_is_taken_over_by_another_thread(server):
    pool = RedisPool(server.url, max_size=2, **STRICT)

    def elsewhere() -> int:
        async def run() -> int:
            return await pool.client().client_id()

        return asyncio.run(run())

    numbers = [await asyncio.to_thread(elsewhere) for _ in range(3)]
    numbers.append(await pool.client().client_id())
    assert len(set(numbers)) == 4
    await eventually(lambda: len(server.clients()) == 1, "those of the ended loops are closed")
    await pool.aclose()
