"""What all tests with real servers have round them: event loops, a server, and nothing that is left behind."""

import asyncio
import gc
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fleets import Fleet
from servers import Server, eventually

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
try:
    import uvloop
except ImportError:  # there is none for Windows
    pass
else:
    LOOPS["uvloop"] = uvloop.new_event_loop

# For a test that takes long: on the next Python it is another loop.
ONE_LOOP = pytest.mark.asyncio(loop_factories=[list(LOOPS)[sys.version_info.minor % len(LOOPS)]])


# ---- a server ------------------------------------------------------------------------------------


@pytest.fixture(name="_server", scope="session")
def shared_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.destroy()


@pytest.fixture(name="server")
def empty_server(_server: Server) -> Server:
    """The server that all tests share, without data. For tests that do it no harm."""
    _server.run("FLUSHALL")
    return _server


# ---- nothing is left behind ----------------------------------------------------------------------


def open_sockets() -> int:
    """Count the descriptors of this process that are sockets.

    Which ones they are says nothing: uvloop has a pair of its own that is another in every run.
    """
    found = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - names are all that is wanted
        try:
            found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
        except OSError:  # the one that listed them
            continue
    return found


def other_tasks() -> set["asyncio.Task[Any]"]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def no_clients(server: Server) -> None:
    await eventually(
        lambda: not server.clients(), lambda: f"no connection is left: {server.clients()}"
    )


async def no_clients_of(fleet: Fleet) -> None:
    await eventually(
        lambda: not any(fleet.clients().values()),
        lambda: f"no connection is left: {fleet.clients()}",
    )


@pytest.fixture(name="nothing_left")
async def leaves_nothing(_server: Server) -> AsyncIterator[None]:
    """After the test: no task, no connection on the server, no warning of what was dropped."""
    gc.freeze()  # what was there before is not this test's, and would make its collection slow
    before = other_tasks()
    yield
    await eventually(
        lambda: other_tasks() <= before, lambda: f"no task is left: {other_tasks()}", within=2
    )
    gc.collect()
    await no_clients(_server)
