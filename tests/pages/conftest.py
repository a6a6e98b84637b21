"""What the pages need: real servers, on asyncio's own event loop."""

import asyncio
from collections.abc import Iterator

import pytest
from fleets import ClusterFleet, SentinelFleet
from servers import Server


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    server = Server()
    yield server
    server.destroy()


@pytest.fixture
def server(_server: Server) -> Server:
    """The server that all pages share, without data."""
    _server.run("FLUSHALL")
    return _server


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterFleet]:
    fleet = ClusterFleet()
    yield fleet
    fleet.destroy()


@pytest.fixture(scope="session")
def sentinels() -> Iterator[SentinelFleet]:
    fleet = SentinelFleet()
    yield fleet
    fleet.destroy()
