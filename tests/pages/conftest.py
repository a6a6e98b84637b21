"""What the pages need: real servers, on asyncio's own event loop."""

import asyncio
from collections.abc import Iterator

import pytest
from fleets import ClusterFleet, SentinelFleet
from surroundings import empty_server, shared_server  # noqa: F401 - fixtures


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return {"asyncio": asyncio.new_event_loop}


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
