"""Fixtures for tests of code that uses pools. pytest finds them by itself where aiopool is installed.

`redis_pool` is a pool on a server without data. `no_leaked_connections` fails a test that does not give
back what it was lent. Both serve tests of any kind, `async` or not, on any number of event loops.
"""

import asyncio
import re
from collections.abc import Callable, Generator, Iterator
from inspect import unwrap
from threading import Thread
from typing import Any, NoReturn, cast
from urllib.parse import parse_qs, urlencode

import pytest
from redis import Redis
from redis.exceptions import RedisError

from aiopool import RedisPool

from ._watch import Watch

_OPTION = "--aiopool-redis-url"
_SHORT = "--redis-url"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the server's address."""
    parser.getgroup("aiopool").addoption(
        _OPTION,
        metavar="URL",
        help="the Redis server of the fixture redis_pool, with the number of a database that is empty, and is "
        "emptied before each test (default: fakeredis, in this process). With pytest-xdist, process N takes "
        f"the N-th after that, from 0. {_SHORT}=URL is the same, where nobody else has such an option.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Take the short name of the option as well, if nobody has taken it: a suite may have it itself."""
    result = yield
    _, unknown = parser.parse_known_and_unknown_args([f"{_SHORT}=redis://"])
    if unknown:
        # Not an option of its own, with which that of a conftest that is read later would clash.
        args[:] = [re.sub(f"^{_SHORT}(?==|$)", _OPTION, arg) for arg in args]
    return result


# ---- a pool ------------------------------------------------------------------------------------------


@pytest.fixture
def redis_pool_options() -> dict[str, Any]:
    """Give the keywords of `RedisPool` for `redis_pool`: none, until you override or parametrise it."""
    return {}


# A fixture of pytest-asyncio's: if it has it for an async test, it adds it as the last.
_LOOP = "_function_scoped_runner"
_PATIENCE = 10.0  # seconds for a loop in another thread to hear that it shall close the pool


@pytest.fixture
def redis_pool(
    request: pytest.FixtureRequest,
    _aiopool_database: Callable[[], str],
    redis_pool_options: dict[str, Any],
) -> Generator[RedisPool, None, None]:
    """Give a `RedisPool` on a database without data. It is closed after the test, whatever is lent still.

    The server is fakeredis, in this process, or that of the option `--aiopool-redis-url` or, where the suite
    has none of that name itself, `--redis-url`.
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
    if loop is None:
        # In a thread, since all may run inside of a loop: in a notebook.
        thread = Thread(target=lambda: asyncio.run(pool.aclose(timeout=0)))
        thread.start()
        thread.join()
    elif loop.is_running():
        closing = asyncio.run_coroutine_threadsafe(pool.aclose(timeout=0), loop)
        try:
            closing.result(_PATIENCE)
        except TimeoutError:
            pytest.fail(
                "redis_pool can't be closed: its event loop runs in another thread, and is blocked",
                pytrace=False,
            )
    else:
        loop.run_until_complete(pool.aclose(timeout=0))


# ---- its server --------------------------------------------------------------------------------------


_URL = re.compile(r"(rediss?://[^/?#]*(/[0-9]*)?|unix://[^?#]*)(\?[^#]*)?")
_LIKE = "it must be like redis://localhost:6379/9, and the password be percent-encoded"


@pytest.fixture(scope="session")
def _aiopool_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Give what empties the database of the tests of this process and tells its URL."""
    given: str | None = request.config.getoption(_OPTION)
    if given is None:
        yield from _fake()
        return
    worker: str = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    if (number := re.fullmatch(r"gw(\d+)", worker)) is None:
        _refuse(
            f"has a database for each process of pytest-xdist by its number, which {worker!r} has not: "
            "name none with id="
        )
    url = _of_worker(given, int(number[1]))
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
            f"({_SHORT}=redis://localhost:6379/9), or pip install 'aiopool[pytest]' for fakeredis",
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
    try:
        database: int = RedisPool(url).connection_kwargs.get("db", 0)
    except (ValueError, TypeError):  # which may tell of the password
        database = -1
    # What redis-py can't read of it, it passes over, and takes database 0.
    if database < 0 or _URL.fullmatch(url) is None:
        _refuse(f"can't read what {_OPTION} or {_SHORT} gives: {_LIKE}")
    address, _, query = url.partition("?")
    options: dict[str, list[str]] = parse_qs(query)
    return f"{address}?{urlencode(options | {'db': [str(database + number)]}, doseq=True)}"


def _refuse_data(url: str) -> None:
    """Leave a database alone that holds something, for it may be dear to somebody."""
    if keys := _run(url, "DBSIZE"):
        _refuse(
            f"empties its database before each test, but {RedisPool(url).name} holds {keys} keys. "
            f"Name another with {_SHORT}, or empty it yourself (FLUSHDB) if nobody needs them."
        )


def _run(url: str, command: str) -> int:
    try:
        client: Any = cast("Any", Redis).from_url(url)  # typed in parts
        with client:
            reply: int = client.execute_command(command)
    except (RedisError, TypeError, ValueError) as error:  # which know no password
        _refuse(f"can't use the database {RedisPool(url).name}: {error}")
    return reply


def _refuse(why: str) -> NoReturn:
    # Without a traceback, which would tell the URL, and so the password; nor what was before.
    msg = f"redis_pool {why}"
    raise pytest.fail.Exception(msg, pytrace=False) from None


# ---- leaks -------------------------------------------------------------------------------------------

_WATCH: pytest.StashKey[Watch] = pytest.StashKey()


@pytest.fixture
def no_leaked_connections(request: pytest.FixtureRequest) -> None:
    """Fail the test, at its very end, if connections that it was lent were not given back.

    It sees those of all pools, and says who took them and where. What was lent before is not looked at, nor
    what a fixture takes that outlives the test, nor what is lent to a task that is still at work, or was handed
    on to such a task, on an event loop that serves other tests as well.
    """
    request.config.stash[_WATCH] = Watch()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Tell the fixtures that end with the test from those that don't."""
    watch = request.config.stash.get(_WATCH, None)
    if watch is None:
        return (yield)
    if fixturedef.scope != "function":
        with watch.pardon():
            return (yield)
    watch.ends_with_the_test(unwrap(fixturedef.func))
    return (yield)


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
    stash = item.config.stash
    if _WATCH not in stash:
        return None
    watch = stash[_WATCH]
    del stash[_WATCH]
    watch.ends_with_the_test(getattr(item, "function", None))
    return watch.stop()
