"""The fixture `redis_pool` on a real server: data of others is safe, and nothing of the tests stays."""

import subprocess
import sys

import pytest

TESTS = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.parametrize("time", [1, 2, 3, 4])
async def test_it(redis_pool, time):
    client = redis_pool.client()
    assert await client.dbsize() == 0
    await client.set("key", time)
    assert (await client.info("server"))["redis_mode"] == "standalone"  # fakeredis has no such command
"""


@pytest.fixture
def run(tmp_path):
    """Run these tests on a database; gives the last line of what was told, and all of it."""
    (tmp_path / "test_it.py").write_text(TESTS)

    def run(url, *words):
        others = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:asyncio"]
        options = ["-W", "error", *others, "--redis-url", url, *words]
        done = subprocess.run(  # noqa: S603 - its own words
            [sys.executable, "-m", "pytest", *options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.splitlines()[-1], done.stdout

    return run


def databases(server):
    """Which databases hold data."""
    return set(server.run("INFO", "keyspace"))


@pytest.mark.parametrize("query", ["/3", "?db=3"])
def test_its_database_is_emptied_before_each_test_and_at_the_end_and_no_other(server, run, query):
    server.run("SET", "others", "data")
    result, said = run(server.url + query)
    assert "4 passed" in result, said
    assert databases(server) == {"db0"}


def test_a_database_that_holds_data_is_left_alone(server, run):
    server.run("SET", "others", "data")
    result, said = run(server.unix_url)
    assert "4 errors" in result, said
    assert "/0 holds 1 keys. Name another with --redis-url, or empty it" in said
    assert server.run("GET", "others") == "data"


def test_processes_of_xdist_have_a_database_each(server, run):
    result, said = run(f"{server.url}/5", "-n", "2", "--dist", "each")
    assert "8 passed" in result, said
    assert not databases(server)
    server.run("SWAPDB", "0", "6")
    server.run("SET", "others", "data")
    server.run("SWAPDB", "0", "6")
    result, said = run(f"{server.url}/5", "-n", "2", "--dist", "each")
    assert "4 passed, 4 errors" in result, said
    assert databases(server) == {"db6"}


def test_what_it_can_not_use_it_says_without_the_password(locked_server, run):
    result, said = run(locked_server.url.replace("//", "//default:guessed@"))
    assert "4 errors" in result, said
    assert f"can't use the database 127.0.0.1:{locked_server.port}/0: invalid username" in said
    assert "guessed" not in said
