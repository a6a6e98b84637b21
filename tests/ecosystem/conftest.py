"""Libraries that others have written for redis.asyncio, unmodified, on our pool and a real redis-server."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest
from servers import PAUSE, Server, eventually
from traffic import MakePool


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return {"asyncio": asyncio.new_event_loop}


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


@pytest.fixture(autouse=True)
async def _nothing_left(server: Server) -> AsyncIterator[None]:
    """After each test: no task, no connection on the server, no warning of what was dropped."""
    gc.freeze()  # what was there before is not this test's, and would make its collection slow
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await eventually(
        lambda: all(task.done() for task in others), lambda: f"tasks are left: {others}", 2
    )
    gc.collect()
    await eventually(
        lambda: not server.clients(), lambda: f"connections are left: {server.clients()}"
    )


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
