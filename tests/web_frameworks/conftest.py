"""Tests in the real frameworks, served by real servers over loopback, with a real redis-server behind."""

import sys
from zlib import crc32

import pytest
from servers import STRICT, Server
from surroundings import LOOPS, empty_server, leaves_nothing, shared_server  # noqa: F401 - fixtures

from aiopool import RedisPool


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_loops: run on asyncio's event loop and on uvloop's")


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    """Run half of the tests on each loop, and on the next Python on the other."""
    if item.get_closest_marker("both_loops"):
        return LOOPS
    number = crc32(item.name.partition("[")[0].encode()) + sys.version_info.minor
    name = list(LOOPS)[number % len(LOOPS)]
    return {name: LOOPS[name]}


@pytest.fixture
def pool(server: Server) -> RedisPool:
    """A pool of one, not opened, from which nobody gets a connection later than at once."""
    return RedisPool(server.url, max_size=1, timeout=5.0, **STRICT)


@pytest.fixture(autouse=True)
def _nothing_left(nothing_left) -> None:
    pass
