"""The fixture `redis_pool` on a real server: data of others is safe, and nothing of the tests stays."""

import subprocess
import sys

import pytest
from redis import Redis
from servers import wait_blocking

from aiopool.integrations import pytest as plugin

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


@pytest.mark.parametrize(
    "end", ["/db9", "/9/3", "/9#x", "?db=nine", "/-1", "nine/9"], ids=lambda end: end.strip("/?")
)
def test_what_does_not_tell_a_database_is_refused_and_none_is_emptied(server, run, end):
    server.run("SET", "others", "data")
    result, said = run(server.url.replace("//", "//default:s3cret@") + end)
    assert "4 errors" in result, said
    assert "can't read what --aiopool-redis-url or --redis-url gives: it must be like" in said
    assert "s3cret" not in said
    assert server.run("GET", "others") == "data"


def test_that_it_may_not_empty_the_database_it_says_without_the_password(server, run):
    server.run("ACL", "SETUSER", "reader", "on", ">s3cret", "~*", "+@all", "-flushdb")
    try:
        result, said = run(server.url.replace("//", "//reader:s3cret@") + "/3")
    finally:
        server.run("ACL", "DELUSER", "reader")
    assert "5 errors" in result, said  # it can't at the end, either
    assert f"can't use the database 127.0.0.1:{server.port}/3: this user has no permissions" in said
    assert "During handling of" not in said
    assert "s3cret" not in said


def test_a_process_of_xdist_without_a_number_is_told_why_it_has_no_database(server, run):
    result, said = run(f"{server.url}/5", "--tx", "popen//id=mine", "--dist", "each")
    assert "4 errors" in result, said
    assert "by its number, which 'mine' has not" in said


def test_the_other_options_of_the_url_are_kept(server, run, tmp_path):
    (tmp_path / "test_it.py").write_text("""
import asyncio

def test_it(redis_pool):
    assert asyncio.run(redis_pool.client().client_getname()) == "its&his"
""")
    result, said = run(f"{server.url}/5?client_name=its%26his")
    assert "1 passed" in result, said


def test_its_own_connections_are_closed(server, monkeypatch):
    made = []
    from_url = Redis.from_url
    monkeypatch.setattr(Redis, "from_url", lambda url: made.append(from_url(url)) or made[-1])
    assert plugin._run(server.url, "DBSIZE") == 0
    assert len(made) == 1
    wait_blocking(lambda: not server.clients(), "its connection is closed")
