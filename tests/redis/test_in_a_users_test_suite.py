"""A module-level pool in somebody else's test suite, where each test has an event loop of its own."""

import pytest
from scripts import LOOPS, UVLOOP_S, run_python

CONFTEST = {
    "asyncio": "",
    "uvloop": """
import uvloop

def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
""",
}

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""

TESTS = """
import asyncio, os
import pytest
from redis.asyncio import Redis
from aiopool import RedisPool

pool = RedisPool(os.environ["REDIS_URL"], max_size=3, client_name="users")
client = Redis(connection_pool=pool)

@pytest.fixture
async def subscriber():
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("news")
        await pubsub.get_message(timeout=5)  # which says that it is done
        yield pubsub

async def test_get():
    await client.set("key", "value")
    assert await client.get("key") == b"value"

async def test_database_is_empty():
    assert await client.dbsize() == 0

async def test_many_at_once():
    words = [str(number) for number in range(50)]
    assert await asyncio.gather(*map(client.echo, words)) == [word.encode() for word in words]

@pytest.mark.parametrize("transaction", [True, False])
async def test_pipeline(transaction):
    async with client.pipeline(transaction=transaction) as pipe:
        assert await pipe.incr("number").incr("number").execute() == [1, 2]

async def test_news(subscriber):
    assert await client.publish("news", "hello") == 1
    assert (await subscriber.get_message(timeout=5))["data"] == b"hello"

async def test_that_leaves_a_task_behind():
    global left
    left = asyncio.create_task(client.blpop("list", timeout=0))
    left.add_done_callback(lambda task: task.cancelled() or task.exception())  # else asyncio complains
    while not any("b" in peer["flags"] for peer in await client.client_list()):
        pass

async def test_that_leaves_a_connection_behind():
    await pool.acquire()
    await client.ping()

class TestInAClass:
    async def test_lock(self):
        async with client.lock("lock", timeout=5):
            assert await client.exists("lock")

def test_without_a_loop():
    assert pool.stats().size <= 3

async def test_nothing_of_the_others_is_left_on_the_server():
    async with asyncio.timeout(10):
        while True:
            peers = [peer["name"] for peer in await client.client_list()]
            if peers.count("users") == pool.stats().size:
                break
            await asyncio.sleep(0.005)
"""

CLOSINGS = {
    "never": """
@pytest.fixture(autouse=True)
async def database():
    await client.flushdb()
    yield
    await client.flushdb()
""",
    "at the end": """
@pytest.fixture(scope="session", autouse=True)
def close():
    yield
    asyncio.run(pool.aclose())

@pytest.fixture(autouse=True)
async def database():
    await client.flushdb()
""",
    "after each test": """
@pytest.fixture(autouse=True)
async def database():
    async with pool:
        await client.flushdb()
        yield
        await pool.aclose(timeout=0)  # one test has left a connection lent
""",
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_pool_at_module_level_serves_all_tests_and_warns_of_nothing(
    server, tmp_path, monkeypatch, loop, closing
):
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "conftest.py").write_text(CONFTEST[loop])
    (tmp_path / "test_users.py").write_text(TESTS + CLOSINGS[closing])
    monkeypatch.setenv("REDIS_URL", server.url)
    strict = ["-W", "error"]
    if loop == "uvloop" and closing != "after each test":
        strict += ["-W", UVLOOP_S]
    said = run_python(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", *strict)
    assert " 11 passed in " in said
