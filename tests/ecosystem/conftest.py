"""Libraries that others have written for redis.asyncio, unmodified, on our pool and a real redis-server."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from servers import PAUSE, Server
from surroundings import empty_server, leaves_nothing, shared_server  # noqa: F401 - fixtures
from traffic import MakePool


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def _nothing_left(server, nothing_left) -> None:
    pass


@pytest.fixture
async def make_pool(server: Server) -> AsyncIterator[MakePool]:
    """Make pools for a library.

    While they are in use no more clients are on the server than the pools may open. In the end they have
    opened all connections that the server has seen, and nothing is lent: whatever the library did went
    through them.
    """
    most = 0
    received = server.run("INFO", "stats")["total_connections_received"]

    async def count_clients() -> None:
        nonlocal most
        while True:
            most = max(most, len(server.clients()))
            await asyncio.sleep(PAUSE)

    make_pool = MakePool(server)
    counting = asyncio.create_task(count_clients())
    yield make_pool
    counting.cancel()

    pools = make_pool.pools
    before = [pool.stats() for pool in pools]
    for pool in pools:
        await pool.aclose(timeout=0)
    assert pools, "the test has made no pool"
    for stats in before:
        assert stats.acquired > 0
        assert (stats.lent, stats.waiting, stats.open_failed) == (0, 0, 0), f"left: {stats}"
    assert most <= sum(stats.max_size for stats in before)
    opened = sum(stats.opened for stats in before)
    assert opened == server.run("INFO", "stats")["total_connections_received"] - received
