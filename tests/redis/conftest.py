"""Tests against real servers, on asyncio's event loop and on uvloop's.

A test with several cases runs each of them on one loop only, and on the next Python on the other: see
`pytest_collection_modifyitems`.
"""

import asyncio
import gc
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any
from zlib import crc32

import pytest
from fleets import ClusterFleet, SentinelFleet
from servers import STRICT, WIRES, Server, Talker, TlsFront, eventually
from surroundings import (  # fixtures among them
    LOOPS,
    empty_server,  # noqa: F401
    no_clients,
    no_clients_of,
    open_sockets,
    other_tasks,
    shared_server,  # noqa: F401
)

from aiopool import RedisPool


def _eager(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    loop = new_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


EAGER_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
if hasattr(asyncio, "eager_task_factory"):  # Python 3.12 is the first with eager tasks
    EAGER_LOOPS = {f"{name}-eager": partial(_eager, new_loop) for name, new_loop in LOOPS.items()}
    # From 3.13 on uvloop says more to a task factory than the first versions of 3.13 understand. (And
    # anyio knows an eager task factory by its code, so no other would do.)
    understands = "eager_start" in inspect.signature(asyncio.eager_task_factory).parameters
    if sys.version_info >= (3, 13) and not understands:
        EAGER_LOOPS.pop("uvloop-eager", None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "eager: run with eager tasks as well, where there are any")


def pytest_asyncio_loop_factories(config, item):  # noqa: ARG001 - the hook's signature
    return LOOPS | EAGER_LOOPS if item.get_closest_marker("eager") else LOOPS


LOOP_PARAMETERS = ("_asyncio_loop_factory", "loop")  # pytest-asyncio's, and that of `scripts`


@pytest.hookimpl(tryfirst=True)  # of all that there are, before any are chosen by their names
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out half of all pairs of a case and a loop, and on the next Python the other half.

    Numbers with an even and with an odd count of ones in binary make a chessboard in any number of
    dimensions. So where a test has 2 protocols and 2 parsers, any two of loop, protocol and parser meet in
    all ways. Tests differ in which half they begin with, so what is true of many is tried in both.
    """
    tests: dict[str, dict[tuple[int, ...], list[pytest.Item]]] = {}
    for item in items:
        others = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        loops = [others.pop(name) for name in LOOP_PARAMETERS if name in others]
        if loops and others:
            case = tuple(map(id, others.values()))  # which need not be hashable
            tests.setdefault(item.nodeid.partition("[")[0], {}).setdefault(case, []).append(item)
    left_out: set[pytest.Item] = set()
    for test, cases in tests.items():
        half = crc32(test.encode()) + sys.version_info.minor
        for number, its_loops in enumerate(cases.values()):
            if len(its_loops) > 1:  # else it is tied to this one
                left_out |= {
                    item
                    for loop, item in enumerate(its_loops)
                    if (half + number.bit_count() + loop.bit_count()) % 2
                }
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


# ---- servers -------------------------------------------------------------------------------------


@pytest.fixture
async def fresh_server() -> AsyncIterator[Server]:
    """A server to be stopped, restarted or reconfigured."""
    server = Server()
    yield server
    try:
        if server.running:
            await no_clients(server)
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def _locked_server() -> Iterator[Server]:
    server = Server(password="s3cret-of-default")  # noqa: S106 - not one that matters
    yield server
    server.destroy()


@pytest.fixture
async def locked_server(_locked_server: Server) -> AsyncIterator[Server]:
    """A server with a password."""
    yield _locked_server
    await no_clients(_locked_server)


@pytest.fixture(scope="session")
def _tls(_server: Server) -> Iterator[TlsFront]:
    front = TlsFront(_server.port)
    yield front
    front.destroy()


@pytest.fixture
def tls(server: Server, _tls: TlsFront) -> TlsFront:  # noqa: ARG001 - to empty the server
    """TLS in front of `server`."""
    return _tls


@pytest.fixture
def talker() -> Iterator[Talker]:
    talker = Talker()
    yield talker
    talker.destroy()


# ---- fleets --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _cluster() -> Iterator[ClusterFleet]:
    fleet = ClusterFleet(node_timeout=1.0)
    yield fleet
    fleet.destroy()


@pytest.fixture
async def cluster_fleet(_cluster: ClusterFleet) -> AsyncIterator[ClusterFleet]:
    """The cluster that all tests share, without data. Roles and slots may change, but all live on."""
    _cluster.flush()
    yield _cluster
    await no_clients_of(_cluster)
    _cluster.heal()


@pytest.fixture
async def fresh_cluster_fleet() -> AsyncIterator[ClusterFleet]:
    """A cluster whose nodes may be killed and frozen."""
    fleet = ClusterFleet()
    try:
        yield fleet
        await no_clients_of(fleet)
    finally:
        fleet.destroy()


@pytest.fixture(scope="session")
def _sentinels() -> Iterator[SentinelFleet]:
    fleet = SentinelFleet(down_after=5.0)  # it shall change only when it is told to
    yield fleet
    fleet.destroy()


@pytest.fixture
async def sentinel_fleet(_sentinels: SentinelFleet) -> AsyncIterator[SentinelFleet]:
    """The watched servers that all tests share, without data. Roles may change, but all live on."""
    _sentinels.flush()
    yield _sentinels
    await no_clients_of(_sentinels)
    _sentinels.heal()


@pytest.fixture
async def fresh_sentinel_fleet() -> AsyncIterator[SentinelFleet]:
    """Servers and Sentinels that may be killed and frozen."""
    fleet = SentinelFleet()
    try:
        yield fleet
        await no_clients_of(fleet)
    finally:
        fleet.destroy()


# ---- kinds of connections ------------------------------------------------------------------------


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Keywords of redis-py that choose protocol and parser."""
    return WIRES[request.param]


@pytest.fixture(params=["tcp", "unix"])
def url(request: pytest.FixtureRequest, server: Server) -> str:
    """An address of the server."""
    return server.url if request.param == "tcp" else server.unix_url


@pytest.fixture
async def pool(server: Server, wire: dict[str, Any]) -> AsyncIterator[RedisPool]:
    """A pool of four, on each kind of wire, which shows every error."""
    async with RedisPool(server.url, max_size=4, **STRICT, **wire) as pool:
        yield pool


# ---- nothing is left behind ----------------------------------------------------------------------


@pytest.fixture(autouse=True)
async def _nothing_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After each test: no task, no socket, no connection on the server."""
    gc.freeze()  # what was there before is not this test's, and would make its collection slow
    before = open_sockets()
    tasks = other_tasks()
    yield
    # Threads are no reason to be late; the loop's own last callbacks are.
    await eventually(
        lambda: other_tasks() <= tasks, lambda: f"no task is left: {other_tasks()}", within=2
    )
    gc.collect()
    await eventually(
        lambda: open_sockets() <= before,
        lambda: f"no more sockets are open than the {before} at first: {open_sockets()} are",
        within=2,
    )
    if "_server" in request.fixturenames:
        await no_clients(request.getfixturevalue("_server"))
