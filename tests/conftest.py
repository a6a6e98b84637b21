"""Core tests: on the jumping clock, with the rules checked in every turn of the loop."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import pytest
from clock import JumpingLoop
from fakes import Conn, FakeConnector, check_rules

from aiopool import Pool

MakePool = Callable[..., tuple[Pool[Conn], FakeConnector]]


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return {"jumping": JumpingLoop}


@pytest.fixture
async def make_pool() -> AsyncIterator[MakePool]:
    """Make pools with fake connectors; afterwards nothing of them may be left."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    made: list[tuple[Pool[Conn], FakeConnector]] = []

    def make(**options: object) -> tuple[Pool[Conn], FakeConnector]:
        connector = FakeConnector()
        pool: Pool[Conn] = Pool(connector, **options)
        made.append((pool, connector))
        loop.watches.append(lambda: check_rules(pool, connector))
        return pool, connector

    yield make

    for pool, connector in made:
        check_rules(pool, connector)
        await pool.aclose(timeout=0)
        check_rules(pool, connector)
        stats = pool.stats()
        assert (stats.size, stats.waiting) == (0, 0), f"something is left: {stats}"
        assert not connector.live, "connections are left"
        assert not connector.opening, "an opening is left"
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert not tasks, f"tasks are left: {tasks}"
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]
    assert not timers, f"timers are left: {timers}"


@pytest.fixture(autouse=True)
def _collect_garbage():
    """Let what is dropped without being closed warn in the test that dropped it."""
    gc.freeze()  # what was there before is not this test's, and would make its collection slow
    yield
    gc.collect()
