"""The fixtures of aiopool.integrations.pytest, in test suites of their own."""

import asyncio
import sys

import anyio.pytest_plugin
import pytest
import pytest_asyncio.plugin

from aiopool import RedisPool
from aiopool.integrations import pytest as plugin

pytest_plugins = ["pytester"]

PRELUDE = """
import asyncio
import pytest
from aiopool import Pool, PoolTimeout, RedisPool
from fakes import FakeConnector

{mark}

async def take(pool):
    return await pool.acquire()

async def busy(pool):
    async with pool.connection():
        await asyncio.sleep(60)

async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
"""

ANYIO = """
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="{scope}")
def anyio_backend():
    return "asyncio"
"""

# anyio's loop lives as long as an async fixture does, and with it the task in which all tests run.
KEEP_THE_LOOP = """
@pytest.fixture(scope="module", autouse=True)
async def keep_the_loop(anyio_backend):
    yield
"""

MODES = {
    "strict": "pytestmark = pytest.mark.asyncio",
    "auto": "",
    "on the session's loop": "",
    "anyio": ANYIO.format(scope="function"),
    "anyio, on the module's loop": ANYIO.format(scope="module") + KEEP_THE_LOOP,
}


STRICT = {"strict", "anyio", "anyio, on the module's loop"}

# Of all that may be installed.
PLUGINS = [plugin, anyio.pytest_plugin, pytest_asyncio.plugin]


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a file of tests, in which nothing may warn; gives how they ended, and what was told."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source, mode="auto", ini="", conftest=""):
        pytester.makeini(
            "[pytest]\n"
            f"asyncio_default_fixture_loop_scope = {'session' if 'session' in mode else 'function'}\n"
            f"asyncio_default_test_loop_scope = {'session' if 'session' in mode else 'function'}\n"
            f"asyncio_mode = {'strict' if mode in STRICT else 'auto'}\n{ini}"
        )
        pytester.makeconftest(conftest)
        pytester.makepyfile(PRELUDE.format(mark=MODES[mode]) + source)
        done = pytester.runpytest_inprocess(
            "-W", "error", "-p", "no:cacheprovider", plugins=PLUGINS
        )
        return done.parseoutcomes(), done.stdout.str()

    return run


# ---- a pool ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_test_has_a_pool_without_data_on_whatever_loop_it_runs(run, mode):
    outcomes, said = run(
        """
@pytest.mark.parametrize("time", [1, 2])
async def test_async(redis_pool, time):
    client = redis_pool.client()
    assert await client.incr("number") == 1

class Test:
    async def test_in_a_class(self, redis_pool):
        assert await redis_pool.client().incr("number") == 1
""",
        mode=mode,
    )
    assert outcomes == {"passed": 3}, said


def test_tests_that_are_not_async_have_it_too(run):
    outcomes, said = run("""
def test_opened(redis_pool):
    async def main():
        async with redis_pool:
            return await redis_pool.client().incr("number")
    assert asyncio.run(main()) == 1

def test_left_open(redis_pool):
    assert asyncio.run(redis_pool.client().incr("number")) == 1

def test_unused(redis_pool):
    assert redis_pool.stats().opened == 0
""")
    assert outcomes == {"passed": 3}, said


def test_parametrised_loops_are_served(run):
    if sys.platform == "win32":
        loops = "{'asyncio': asyncio.SelectorEventLoop, 'other': asyncio.ProactorEventLoop}"
    else:
        loops = "{'asyncio': asyncio.new_event_loop, 'uvloop': __import__('uvloop').new_event_loop}"
    outcomes, said = run(
        """
async def test_async(redis_pool):
    assert await redis_pool.client().incr("number") == 1
""",
        conftest=f"""
import asyncio

def pytest_asyncio_loop_factories(config, item):
    return {loops}
""",
    )
    assert outcomes == {"passed": 2}, said


@pytest.mark.parametrize("mode", MODES)
def test_it_is_closed_at_the_end_of_a_test_that_failed_and_left_much_behind(run, mode):
    outcomes, said = run(
        """
pools = []

async def test_failing(redis_pool):
    pools.append(redis_pool)
    await take(redis_pool)
    tasks.add(asyncio.create_task(redis_pool.client().blpop("list", timeout=0)))
    await until(lambda: redis_pool.stats().lent == 2)
    raise ValueError

tasks = set()

async def test_next(redis_pool):
    assert pools[0].stats().size == 0
    await redis_pool.client().rpush("list", "mine")  # the other shall not get it
    assert await redis_pool.client().lrange("list", 0, -1) == [b"mine"]
    for task in tasks:
        if not task.get_loop().is_closed():
            task.cancel()
            await asyncio.wait([task])
""",
        mode=mode,
    )
    assert outcomes == {"passed": 1, "failed": 1}, said
    assert "ValueError" in said


def test_it_is_closed_even_if_its_loop_runs_on_in_a_thread(run):
    outcomes, said = run("""
from threading import Thread

pools = []

@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()

def test_in_a_thread(loop, redis_pool):
    pools.append(redis_pool)
    asyncio.run_coroutine_threadsafe(redis_pool.client().ping(), loop).result(10)
    assert redis_pool.stats().size == 1

def test_after():
    assert pools[0].stats().size == 0
""")
    assert outcomes == {"passed": 2}, said


def test_a_loop_that_is_blocked_does_not_hold_up_the_tests_for_ever(run, monkeypatch):
    monkeypatch.setattr(plugin, "_PATIENCE", 0.05)
    outcomes, said = run("""
from threading import Event, Thread

pools = []
gate = Event()

@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    gate.set()
    closed = until(lambda: not pools[0].stats().size)
    asyncio.run_coroutine_threadsafe(closed, loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()

def test_in_a_thread(loop, redis_pool):
    pools.append(redis_pool)
    asyncio.run_coroutine_threadsafe(redis_pool.client().ping(), loop).result(10)
    loop.call_soon_threadsafe(gate.wait)
""")
    assert outcomes == {"passed": 1, "errors": 1}, said
    assert "its event loop runs in another thread, and is blocked" in said


def test_all_may_run_inside_of_a_running_loop(run):
    async def main():
        return run("""
from threading import Thread

def test_unused(redis_pool):
    assert redis_pool.stats().opened == 0

def test_elsewhere(redis_pool):
    thread = Thread(target=lambda: asyncio.run(redis_pool.client().ping()))
    thread.start()
    thread.join()
    assert redis_pool.stats().opened == 1
""")

    outcomes, said = asyncio.run(main())
    assert outcomes == {"passed": 2}, said


def test_it_is_closed_without_grace(run, monkeypatch):
    graces = []
    aclose = RedisPool.aclose

    async def note(pool, timeout=...):
        graces.append(timeout)
        await aclose(pool, timeout)

    monkeypatch.setattr(RedisPool, "aclose", note)
    outcomes, said = run("""
from threading import Thread

async def test_async(redis_pool):
    await redis_pool.client().ping()

def test_not_async(redis_pool):
    asyncio.run(redis_pool.client().ping())

@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()

def test_in_a_thread(loop, redis_pool):
    asyncio.run_coroutine_threadsafe(redis_pool.client().ping(), loop).result(10)
""")
    assert outcomes == {"passed": 3}, said
    assert graces == [0, 0, 0]


def test_its_options_can_be_overridden_and_parametrised(run):
    outcomes, said = run("""
@pytest.fixture
def redis_pool_options():
    return {"decode_responses": True, "max_size": 3}

async def test_overridden(redis_pool):
    assert await redis_pool.client().echo("text") == "text"
    assert redis_pool.stats().max_size == 3

@pytest.mark.parametrize("redis_pool_options", [{"max_size": 1, "timeout": 0.01}])
async def test_parametrised(redis_pool):
    async with redis_pool.connection(timeout=10):
        with pytest.raises(PoolTimeout):
            async with asyncio.timeout(2):  # less than the usual timeout
                await asyncio.create_task(redis_pool.client().ping())
""")
    assert outcomes == {"passed": 2}, said


def test_without_fakeredis_it_says_what_to_do(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "fakeredis", None)
    monkeypatch.delitem(sys.modules, "aiopool._cli._server", raising=False)
    outcomes, said = run("async def test(redis_pool): pass")
    assert outcomes == {"errors": 1}
    assert "pip install 'aiopool[pytest]'" in said
    assert "--redis-url=redis://localhost:6379/9" in said


# ---- leaks -------------------------------------------------------------------------------------------

# So that loops for more than one test live on when the first has ended.
NEXT = """
async def test_next():
    pass
"""

LEAKS = {
    "in a pool at module level": """
pool = Pool(FakeConnector(), name="mine")

@pytest.fixture(scope="module", autouse=True)
def close():
    yield
    if not loops[0].is_closed():
        loops[0].run_until_complete(pool.aclose(timeout=0))

loops = []

async def test_it(no_leaked_connections):
    loops.append(asyncio.get_running_loop())
    await take(pool)
""",
    "in a pool that a fixture closes": """
@pytest.fixture
async def pool():
    pool = Pool(FakeConnector(), name="mine")
    yield pool
    await pool.aclose(timeout=0)

async def test_it(no_leaked_connections, pool):
    await take(pool)
""",
    "in a pool that the test closes": """
async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), name="mine")
    await take(pool)
    await pool.aclose(timeout=0)
""",
    "in a pool that reclaims": """
async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), name="mine", leak_after=60, reclaim=True)
    await asyncio.create_task(hand_on(pool))
    await until(lambda: pool.stats().closed.get("reclaimed"))
    await pool.aclose()

async def hand_on(pool):
    await take(pool)
""",
    "in a task that has ended": """
tasks = []

async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), name="mine")
    tasks.append(asyncio.create_task(hand_on(pool)))
    await tasks[0]
    await pool.aclose(timeout=0)

async def hand_on(pool):
    await take(pool)
""",
    "through a view": """
async def test_it(no_leaked_connections):
    async with Pool(FakeConnector(), name="mine") as pool:
        await take(pool.view(limit=1))
        await pool.aclose(timeout=0)
""",
    "on loops of its own": """
def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), name="mine")
    asyncio.run(hand_on(pool))
    asyncio.run(pool.aclose())

async def hand_on(pool):
    await take(pool)
""",
    "in a task whose loop was closed": """
tasks = []

def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), name="mine")
    loop = asyncio.new_event_loop()
    tasks.append(loop.create_task(hand_on(pool)))
    loop.run_until_complete(until(lambda: pool.stats().lent))
    loop.close()
    asyncio.run(pool.aclose())

async def hand_on(pool):
    await take(pool)
    await asyncio.sleep(60)
""",
    "in a fixture": """
@pytest.fixture
async def fixture():
    pool = Pool(FakeConnector(), name="mine")
    await hand_on(pool)
    yield
    await pool.aclose(timeout=0)

async def test_it(no_leaked_connections, fixture):
    pass

async def hand_on(pool):
    await take(pool)
""",
    "at the end of a fixture": """
@pytest.fixture
async def fixture():
    yield
    pool = Pool(FakeConnector(), name="mine")
    await hand_on(pool)
    await pool.aclose(timeout=0)

async def test_it(no_leaked_connections, fixture):
    pass

async def hand_on(pool):
    await take(pool)
""",
    "in a test that fails": """
async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), name="mine")
    await take(pool)
    await pool.aclose(timeout=0)
    assert False
""",
}


@pytest.mark.parametrize("mode", ["auto", "on the session's loop", "anyio, on the module's loop"])
@pytest.mark.parametrize("leak", LEAKS)
def test_a_test_that_leaks_a_connection_does_not_pass(run, mode, leak):
    outcomes, said = run(LEAKS[leak] + NEXT, mode=mode)
    assert outcomes.get("errors") == 1, said
    assert outcomes.get("failed", 0) == (leak == "in a test that fails")
    assert "a connection was not given back:\n  pool 'mine' lent it to task " in said
    assert " in take\n" in said
    assert " in test_it\n" in said or " in hand_on\n" in said


# After the test; and ends with its suite.
A_TASK_GOES_ON = """
pool = Pool(FakeConnector())
tasks = []

@pytest.fixture(scope="module", autouse=True)
def close():
    yield
    async def end():
        tasks[0].cancel()
        await asyncio.wait(tasks)
        await pool.aclose()
    loop = tasks[0].get_loop()
    if not loop.is_closed():
        loop.run_until_complete(end())
"""

NO_LEAKS = {
    "given back": """
async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), max_size=1)
    for _ in range(3):
        await pool.release(await take(pool))
    async with pool.view(limit=1).connection():
        pass
    await pool.aclose()
""",
    "given back in a fixture, whichever was first": """
@pytest.fixture(autouse=True)
async def pool():
    pool = Pool(FakeConnector(), max_size=1)
    yield pool
    while taken:
        await pool.release(taken.pop())
    await pool.aclose()

taken = []

async def test_it(no_leaked_connections, pool):
    taken.append(await take(pool))
""",
    "lent before": """
@pytest.fixture(autouse=True)
async def pool():
    pool = Pool(FakeConnector(), max_size=1)
    await take(pool)
    yield pool
    await pool.aclose(timeout=0)

async def test_it(no_leaked_connections):
    pass
""",
    "given back after the pool was closed": """
async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector(), max_size=1)
    taken = await take(pool)
    await pool.aclose(timeout=0)
    await pool.release(taken)
""",
    "lent to a task that is still at work, or cancelled at the end": A_TASK_GOES_ON
    + """
async def test_it(no_leaked_connections):
    tasks.append(asyncio.create_task(busy(pool)))
    await until(lambda: pool.stats().lent)
""",
    "handed on to a task that is still at work": A_TASK_GOES_ON
    + """
async def work():
    conn = await asyncio.create_task(take(pool))
    try:
        await asyncio.sleep(60)
    finally:
        await pool.release(conn)

async def test_it(no_leaked_connections):
    tasks.append(asyncio.create_task(work()))
    await until(lambda: pool.stats().lent)
    await asyncio.sleep(0)
""",
    "taken by a fixture that outlives the test": """
@pytest.fixture(scope="module")
def shared():
    loop = asyncio.new_event_loop()
    pool = Pool(FakeConnector())
    conn = loop.run_until_complete(take(pool))
    yield
    loop.run_until_complete(pool.release(conn))
    loop.run_until_complete(pool.aclose())
    loop.close()

@pytest.fixture
def only_now(request):
    return request.getfixturevalue("shared")

async def test_it(no_leaked_connections, only_now):
    pass
""",
    "shared by commands": """
async def test_it(redis_pool, no_leaked_connections):
    assert await redis_pool.pipelined().echo("mine") == b"mine"
""",
}


@pytest.mark.parametrize("mode", ["auto", "on the session's loop", "anyio, on the module's loop"])
@pytest.mark.parametrize("case", NO_LEAKS)
def test_what_is_given_back_or_still_at_work_is_no_leak(run, mode, case):
    outcomes, said = run(NO_LEAKS[case] + NEXT, mode=mode)
    assert outcomes == {"passed": 2}, said


ALL_LEAK = """
async def test_it():
    pool = Pool(FakeConnector(), name="mine")
    await take(pool)
    await pool.aclose(timeout=0)

def test_other():
    pass
"""


def test_it_can_be_asked_for_in_the_ini_file_a_conftest_or_a_mark(run):
    asked = {"passed": 2, "errors": 1}
    assert run(ALL_LEAK)[0] == {"passed": 2}
    assert run(ALL_LEAK, ini="usefixtures = no_leaked_connections")[0] == asked
    autouse = (
        "import pytest\n@pytest.fixture(autouse=True)\ndef _strict(no_leaked_connections): pass"
    )
    assert run(ALL_LEAK, conftest=autouse)[0] == asked
    mark = "\npytestmark = pytest.mark.usefixtures('no_leaked_connections')"
    assert run(ALL_LEAK + mark)[0] == asked


def test_another_error_at_the_end_of_the_test_is_told_as_well(run):
    outcomes, said = run("""
@pytest.fixture
def other():
    yield
    raise ValueError("another")

async def test_it(no_leaked_connections, other):
    pool = Pool(FakeConnector(), name="mine")
    await take(pool)
    await pool.aclose(timeout=0)
""")
    assert outcomes == {"passed": 1, "errors": 1}
    assert "ValueError: another" in said
    assert "a connection was not given back:" in said


def test_who_gives_back_in_a_hook_after_the_fixtures_is_in_time(run):
    outcomes, said = run(
        """
from conftest import taken

async def test_it(no_leaked_connections):
    pool = Pool(FakeConnector())
    taken.append((pool, await take(pool)))
    await pool.aclose(timeout=0)
""",
        conftest="""
import asyncio
import pytest

taken = []

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    result = yield
    while taken:
        pool, conn = taken.pop()
        pool._severed.pop(id(conn))
    return result
""",
    )
    assert outcomes == {"passed": 1}, said


def test_after_the_test_nobody_is_told_of_pools_any_more(run):
    outcomes, said = run("""
import aiopool._events as events

async def test_it(no_leaked_connections):
    assert events._everywhere

def test_after():
    assert not events._everywhere
    assert not Pool(FakeConnector())._events.lent
""")
    assert outcomes == {"passed": 2}, said


@pytest.mark.parametrize("where", ["conftest.py", "its_plugin.py"])
def test_a_suite_keeps_an_option_of_the_same_name(pytester, where):
    (pytester.path / where).write_text("""
def pytest_addoption(parser):
    parser.addoption("--redis-url")
""")
    pytester.makepyfile("""
def test_it(pytestconfig):
    assert pytestconfig.getoption("redis_url") == "its"
    assert pytestconfig.getoption("aiopool_redis_url") == "ours"
""")
    others = ["-p", "no:hypothesispytest", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    others += ["-p", "its_plugin"] if where == "its_plugin.py" else []
    urls = ["--redis-url=its", "--aiopool-redis-url=ours"]
    pytester.syspathinsert()
    done = pytester.runpytest_subprocess("-W", "error", *urls, *others)
    assert done.parseoutcomes() == {"passed": 1}, done.stdout.str()


OTHERS = ["-W", "error", "-p", "no:hypothesispytest", "-p", "no:asyncio", "-p", "no:cacheprovider"]


def test_a_suite_may_have_that_option_where_it_is_read_late(pytester):
    pytester.makepyfile(
        **{
            "first/test_first.py": "def test_it(): pass",
            "later/conftest.py": "def pytest_addoption(parser): parser.addoption('--redis-url', default='its')",
            "later/test_later.py": """
def test_it(pytestconfig):
    assert pytestconfig.getoption("redis_url") == "its"
    assert pytestconfig.getoption("aiopool_redis_url") == "ours"
""",
        }
    )
    done = pytester.runpytest_subprocess(*OTHERS, "--redis-url=ours", ".")
    assert done.parseoutcomes() == {"passed": 2}, done.stdout.str()


def test_it_serves_where_a_conftest_names_it(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest("pytest_plugins = ['aiopool.integrations.pytest']")
    pytester.makepyfile("""
import asyncio

def test_it(redis_pool, pytestconfig):
    assert pytestconfig.getoption("aiopool_redis_url") is None
    assert asyncio.run(redis_pool.client().ping())
""")
    done = pytester.runpytest_subprocess(*OTHERS)
    assert done.parseoutcomes() == {"passed": 1}, done.stdout.str()
