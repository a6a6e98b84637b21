"""Tests in the real frameworks, served by real servers over loopback, with a real redis-server behind."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from zlib import crc32

import pytest
from servers import STRICT, Server, eventually

from aiopool import RedisPool

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
try:
    import uvloop
except ImportError:  # there is none for Windows
    pass
else:
    LOOPS["uvloop"] = uvloop.new_event_loop  # on which uvicorn runs where it is installed


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_loops: run on asyncio's event loop and on uvloop's")


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    """Run half of the tests on each loop, and on the next Python on the other."""
    if item.get_closest_marker("both_loops"):
        return LOOPS
    number = crc32(item.name.partition("[")[0].encode()) + sys.version_info.minor
    name = list(LOOPS)[number % len(LOOPS)]
    return {name: LOOPS[name]}


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    server = Server()
    yield server
    server.destroy()


@pytest.fixture
def server(_server: Server) -> Server:
    """The server that all tests share, without data."""
    _server.run("FLUSHALL")
    return _server


@pytest.fixture
def pool(server: Server) -> RedisPool:
    """A pool of one, not opened, from which nobody gets a connection later than at once."""
    return RedisPool(server.url, max_size=1, timeout=5.0, **STRICT)


@pytest.fixture(autouse=True)
async def _nothing_left(_server: Server) -> AsyncIterator[None]:
    """After each test: no task, no connection on the Redis server, no warning of what was dropped."""
    gc.freeze()  # what was there before is not this test's, and would make its collection slow
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await eventually(
        lambda: all(task.done() for task in others), lambda: f"tasks left: {others}", 2
    )
    gc.collect()
    await eventually(lambda: not _server.clients(), lambda: f"left: {_server.clients()}")
