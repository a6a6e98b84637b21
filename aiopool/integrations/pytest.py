"""Fixtures for tests of code that uses pools. pytest finds them by itself where aiopool is installed.

`redis_pool` is a pool on a server without data. `no_leaked_connections` fails a test that does not give
back what it was lent. Both serve tests of any kind, `async` or not, on any number of event loops.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import pytest
from redis import Redis
from redis.exceptions import RedisError

from aiopool import RedisPool

from ._watch import Watch

_OPTION = "--redis-url"
_DEST = "aiopool_redis_url"


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> Generator[None, None, None]:
    """Take the server's address, after all others have taken what they want: a suite may have this option itself."""
    yield
    _, unknown = parser.parse_known_and_unknown_args([f"{_OPTION}=redis://"])
    names = [_OPTION] if unknown else []
    parser.getgroup("aiopool").addoption(
        *names,
        "--aiopool-redis-url",
        dest=_DEST,
        metavar="URL",
        help="the Redis server of the fixture redis_pool, with the number of a database that is empty, and is "
        "emptied before each test (default: fakeredis, in this process). With pytest-xdist, process N takes "
        "the N-th after that, from 0.",
    )


# ---- a pool ------------------------------------------------------------------------------------------


@pytest.fixture
def redis_pool_options() -> dict[str, Any]:
    """Give the keywords of `RedisPool` for `redis_pool`: none, until you override or parametrise it."""
    return {}


# A fixture of pytest-asyncio's: if it has it for an async test, it adds it as the last.
_LOOP = "_function_scoped_runner"


@pytest.fixture
def redis_pool(
    request: pytest.FixtureRequest,
    _aiopool_database: Callable[[], str],
    redis_pool_options: dict[str, Any],
) -> Generator[RedisPool, None, None]:
    """Give a `RedisPool` on a database without data. It is closed after the test, whatever is lent still.

    The server is fakeredis, in this process, or that of the option `--redis-url`.
    """
    if _LOOP in request.fixturenames:
        # So that the pool is closed before the loop. After it would do but for uvloop's, which warns of
        # what is open still and, if that is an error, never ends.
        request.getfixturevalue(_LOOP)
    pool = RedisPool(_aiopool_database(), **redis_pool_options)
    yield pool
    _close(pool)


def _close(pool: RedisPool) -> None:
    """Close a pool where it lives: that loop may be closed, or one for many tests, or run in a thread."""
    loop: asyncio.AbstractEventLoop | None = getattr(pool, "_core").loop  # noqa: B009 - one thing in two files
    if loop is not None and loop.is_running():
        asyncio.run_coroutine_threadsafe(pool.aclose(timeout=0), loop).result()
    elif loop is not None:
        loop.run_until_complete(pool.aclose(timeout=0))
    else:
        new = asyncio.new_event_loop()
        try:
            new.run_until_complete(pool.aclose(timeout=0))
        finally:
            new.close()


# ---- its server --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _aiopool_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Give what empties the database of the tests of this process and tells its URL."""
    given: str | None = request.config.getoption(_DEST)
    if given is None:
        yield from _fake()
        return
    worker: str = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    url = _of_worker(given, int(worker.removeprefix("gw")))
    _refuse_data(url)

    def emptied() -> str:
        _run(url, "FLUSHDB")
        return url

    yield emptied
    emptied()


def _fake() -> Iterator[Callable[[], str]]:
    try:
        from aiopool._cli._server import Server, serving  # noqa: PLC0415 - it need not be installed
    except ModuleNotFoundError as error:
        if error.name != "fakeredis":
            raise
        pytest.fail(
            "redis_pool needs a Redis server: give it one with an empty database "
            f"({_OPTION}=redis://localhost:6379/9), or pip install 'aiopool[pytest]' for fakeredis",
            pytrace=False,
        )
    server = Server()
    server.daemon_threads = True  # one ends only when a blocking command of its client does

    def emptied() -> str:
        server.forget()
        return server.url

    with serving(server):
        yield emptied


def _of_worker(url: str, number: int) -> str:
    """Go so many databases further."""
    database: int = RedisPool(url).connection_kwargs.get("db", 0)
    address, _, query = url.partition("?")
    return f"{address}?{urlencode(dict(parse_qsl(query)) | {'db': database + number})}"


def _refuse_data(url: str) -> None:
    """Leave a database alone that holds something, for it may be dear to somebody."""
    where = RedisPool(url).name  # which has no password
    try:
        keys = _run(url, "DBSIZE")
    except RedisError as error:
        pytest.fail(f"redis_pool can't use the database {where}: {error}", pytrace=False)
    if keys:
        pytest.fail(
            f"redis_pool empties its database before each test, but {where} holds {keys} keys. "
            f"Name another with {_OPTION}, or empty it yourself (FLUSHDB) if nobody needs them.",
            pytrace=False,
        )


def _run(url: str, command: str) -> int:
    client: Any = cast("Any", Redis).from_url(url)  # typed in parts
    with client:
        reply: int = client.execute_command(command)
    return reply


# ---- leaks -------------------------------------------------------------------------------------------

_WATCH: pytest.StashKey[Watch] = pytest.StashKey()


@pytest.fixture
def no_leaked_connections(request: pytest.FixtureRequest) -> None:
    """Fail the test, at its very end, if connections that it was lent were not given back.

    It sees those of all pools, and says who took them and where. What was lent before is not looked at, nor
    what is lent to a task that is still at work, on an event loop that serves other tests as well.
    """
    request.node.stash[_WATCH] = Watch()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Look for leaks after all fixtures have ended, for they may give something back."""
    try:
        result = yield
    except BaseException as error:
        if (leaked := _leaked(item)) is not None:
            error.add_note(leaked)
        raise
    if (leaked := _leaked(item)) is not None:
        pytest.fail(leaked, pytrace=False)
    return result


def _leaked(item: pytest.Item) -> str | None:
    if _WATCH not in item.stash:
        return None
    watch = item.stash[_WATCH]
    del item.stash[_WATCH]
    test = getattr(item, "function", None)
    return watch.stop(getattr(test, "__code__", None))
