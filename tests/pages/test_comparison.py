"""What the comparison says of redis-py's pools and of coredis's: one test for each of its cells.

Where a pool is said not to do a thing, the test is expected to fail on it. If it no longer does, that is
an error here, so that the page (docs/explanation/comparison.md) can be mended. More of redis-py's are in
`test_defects_of_redis_pys_pools.py`.
"""

import asyncio
import contextlib
import importlib
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import coredis.exceptions
import coredis.pool
import pytest
import redis.exceptions
from coredis.connection import TCPLocation
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from servers import Server, eventually, slow_port

from aiopool import RedisPool

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "comparison.md"
COREDIS = coredis.pool.ConnectionPool


class Lender:
    """A pool of any kind, in the same words."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    async def acquire(self) -> Any:
        return await self.pool.get_connection()

    async def release(self, conn: Any) -> None:
        released = self.pool.release(conn)
        if released is not None:
            await released

    async def call(self, conn: Any, *words: str) -> Any:
        if isinstance(self.pool, COREDIS):
            return await conn.create_request(words[0].encode(), *words[1:])
        await conn.send_command(*words)
        return await conn.read_response()


@contextlib.asynccontextmanager
async def lender(kind: type[Any], port: int, size: int, **options: Any) -> AsyncIterator[Lender]:
    if kind is COREDIS:
        pool = COREDIS(location=TCPLocation("127.0.0.1", port), max_connections=size, **options)
        try:
            async with pool:
                yield Lender(pool)
        except BaseExceptionGroup as group:  # of its tasks: what is of interest is the test's own
            raise group.exceptions[0] from None
        return
    pool = kind(host="127.0.0.1", port=port, max_connections=size, **options)
    try:
        yield Lender(pool)
    finally:
        await pool.disconnect()
        await pool.aclose()


def seen_to_have_ended(conn: Any) -> bool:
    return not conn.usable if hasattr(conn, "usable") else conn._reader.at_eof()


def all_kinds(**failing: type[BaseException]) -> Any:
    """Run the test on all pools that wait; on those that are named it fails, in this way."""
    kinds = {"blocking": BlockingConnectionPool, "coredis": COREDIS, "aiopool": RedisPool}
    marks = {
        name: [pytest.mark.xfail(strict=True, raises=error, reason="so the page says")]
        for name, error in failing.items()
    }
    return pytest.mark.parametrize(
        "kind", [pytest.param(kinds[n], marks=marks.get(n, ()), id=n) for n in kinds]
    )


@all_kinds(blocking=AssertionError)
async def test_nobody_is_overtaken(kind, server: Server):
    async with lender(kind, server.port, 1, timeout=5) as pool:
        turns = 0
        hot_by_now = asyncio.Event()

        async def hot_loop() -> None:
            nonlocal turns
            for turns in range(1, 301):  # noqa: B007 - told to the other one
                conn = await pool.acquire()
                await asyncio.sleep(0)
                await pool.release(conn)
                hot_by_now.set()

        hot = asyncio.create_task(hot_loop())
        await hot_by_now.wait()
        begun = turns
        conn = await pool.acquire()
        overtaken = turns - begun
        await pool.release(conn)
        await hot
        assert overtaken <= 2


@all_kinds(blocking=redis.exceptions.TimeoutError)
async def test_the_time_limit_includes_connecting(kind, silent_port: int):
    options = {} if kind is COREDIS else {"socket_timeout": 1.5}
    async with lender(kind, silent_port, 1, timeout=0.2, **options) as pool:
        with pytest.raises(TimeoutError):
            await pool.acquire()


@all_kinds(coredis=TimeoutError)
async def test_who_is_cancelled_while_it_connects_loses_no_slot(kind, server: Server):
    async with slow_port(server, 1) as port, lender(kind, port, 1, timeout=3) as pool:
        acquiring = asyncio.create_task(pool.acquire())
        await asyncio.wait([acquiring], timeout=0.1)
        acquiring.cancel()
        await asyncio.gather(acquiring, return_exceptions=True)
        await pool.release(await pool.acquire())


@all_kinds(blocking=AssertionError, coredis=AssertionError)
async def test_who_waits_is_served_by_what_comes_first(kind, server: Server):
    async with slow_port(server, 1) as port, lender(kind, port, 2, timeout=5) as pool:
        first = await pool.acquire()
        acquiring = asyncio.create_task(pool.acquire())
        await asyncio.wait([acquiring], timeout=0.1)
        await pool.release(first)
        second = await acquiring
        await pool.release(second)
        assert second is first


@all_kinds(blocking=AssertionError, coredis=AssertionError)
async def test_a_burst_does_not_open_a_connection_for_each_request(kind, server: Server):
    async with slow_port(server, 0.1) as port, lender(kind, port, 50, timeout=10) as pool:

        async def ask() -> None:
            conn = await pool.acquire()
            await pool.call(conn, "PING")
            await pool.release(conn)

        await asyncio.gather(*(ask() for _ in range(50)))
        assert len(server.clients()) <= 10


@all_kinds(blocking=redis.exceptions.ConnectionError, coredis=coredis.exceptions.ConnectionError)
async def test_one_that_the_server_has_just_closed_is_not_lent(kind, server: Server):
    async with lender(kind, server.port, 1, timeout=5) as pool:
        await pool.release(await pool.acquire())
        server.kill_clients()  # and the event loop does not run before it is lent
        conn = await pool.acquire()
        assert await pool.call(conn, "ECHO", "mine") == b"mine"
        await pool.release(conn)


@all_kinds(blocking=redis.exceptions.ConnectionError)
async def test_one_of_which_the_event_loop_knows_that_it_is_closed_is_not_lent(
    kind, server: Server
):
    async with lender(kind, server.port, 1, timeout=5) as pool:
        conn = await pool.acquire()
        await pool.release(conn)
        server.kill_clients()
        await eventually(lambda: seen_to_have_ended(conn), "the event loop knows")
        conn = await pool.acquire()
        assert await pool.call(conn, "ECHO", "mine") == b"mine"
        await pool.release(conn)


@all_kinds(blocking=AssertionError)
async def test_a_reply_that_was_left_unread_is_not_the_next_users(kind, server: Server):
    async with lender(kind, server.port, 1, timeout=5) as pool:
        conn = await pool.acquire()
        left = None
        if kind is COREDIS:
            left = conn.create_request(b"ECHO", "stale")
        else:
            await conn.send_command("ECHO", "stale")
        await pool.release(conn)
        conn = await pool.acquire()
        assert await pool.call(conn, "ECHO", "mine") == b"mine"
        await pool.release(conn)
        if left is not None:
            await left


@pytest.mark.parametrize("word", ["MULTI", "SELECT 3"])
@all_kinds(blocking=AssertionError, coredis=AssertionError)
async def test_what_one_has_done_to_the_session_does_not_meet_the_next(kind, word, server: Server):
    async with lender(kind, server.port, 1, timeout=5) as pool:
        conn = await pool.acquire()
        await pool.call(conn, *word.split())
        await pool.release(conn)
        conn = await pool.acquire()
        told = await pool.call(conn, "SET", "key", "value")
        await pool.release(conn)
        assert (told, server.run("GET", "key")) == (b"OK", "value")


@all_kinds(blocking=AssertionError, coredis=AssertionError)
async def test_who_waited_in_vain_is_told_why(kind, server: Server):
    async with lender(kind, server.port, 1, timeout=0.1) as pool:
        conn = await pool.acquire()
        try:
            await asyncio.create_task(pool.acquire())
        except (TimeoutError, redis.exceptions.ConnectionError) as error:
            told = str(error)
        await pool.release(conn)
        assert "longest lent" in told


@all_kinds(blocking=AssertionError)
async def test_idle_connections_are_closed_in_time(kind, server: Server):
    options = {RedisPool: {"max_idle": 1}, COREDIS: {"max_idle_time": 1}}.get(kind, {})
    async with lender(kind, server.port, 3, timeout=5, **options) as pool:
        for conn in [await pool.acquire() for _ in range(3)]:
            await pool.release(conn)
        assert len(server.clients()) == 3
        with contextlib.suppress(pytest.fail.Exception):
            await eventually(lambda: not server.clients(), "they are closed", within=2)
        assert server.clients() == []


@all_kinds(coredis=TimeoutError)
async def test_a_connection_that_waits_for_an_item_is_not_taken_for_an_idle_one(
    kind, server: Server
):
    options = {RedisPool: {"max_idle": 1}, COREDIS: {"max_idle_time": 1}}.get(kind, {})
    async with lender(kind, server.port, 1, timeout=5, **options) as pool:
        conn = await pool.acquire()
        told = await pool.call(conn, "BLPOP", "nothing-here", "1.5")
        await pool.release(conn)
        assert told is None


async def test_coredis_counts_connections_that_are_no_more(server: Server):
    async with lender(COREDIS, server.port, 1) as pool:
        for _ in range(3):
            conn = await pool.acquire()
            await pool.release(conn)
            server.kill_clients()
            await eventually(lambda: seen_to_have_ended(conn), "the event loop knows")  # noqa: B023
        assert server.clients() == []
        assert pool.pool.statistics.active_connections == 3


@pytest.mark.parametrize("kind", [BlockingConnectionPool, ConnectionPool])
async def test_redis_py_loses_slots_if_releases_are_cancelled(kind, server: Server):
    async with lender(kind, server.port, 3) as pool:
        conns = [await pool.acquire() for _ in range(3)]
        await pool.pool.update_active_connections_for_reconnect()
        releases = [asyncio.ensure_future(pool.release(conn)) for conn in conns]
        await asyncio.sleep(0)
        for release in releases:
            release.cancel()
        await asyncio.gather(*releases, return_exceptions=True)
        assert len(pool.pool._in_use_connections) > 0


# ---- the page itself -----------------------------------------------------------------------------

WHERE = {
    "aiopool": ["aiopool"],
    "redis-py": [
        "redis.asyncio",
        "redis.asyncio.connection",
        "redis.asyncio.retry",
        "redis.asyncio.sentinel",
        "redis.credentials",
        "redis.event",
    ],
    "coredis": ["coredis.pool", "coredis.connection", "coredis._concurrency"],
}
"""Where what the page names of each library is found, and in the classes there."""


def known(library: str) -> set[str]:
    """All names of modules, classes, methods and options, as the page may write them."""
    names: set[str] = set()
    for module in map(importlib.import_module, WHERE[library]):
        for name, thing in vars(module).items():
            names.add(name)
            if inspect.isclass(thing):
                for cls in thing.__mro__[:-1]:
                    names |= {*vars(cls)} | {f"{name}.{member}" for member in vars(cls)}
                with contextlib.suppress(ValueError):
                    names |= {*inspect.signature(thing).parameters}
    # What a pool keeps of its own is in no class; and ours has the options of redis-py's connections.
    own = {"statistics", "max_connections", "active_connections", "redis_connect_func"}
    return names | own | {"TimeoutError"}


def rows() -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each table: its heads, and its rows of cells."""
    for table in re.findall(r"(?:^\|.*\n)+", PAGE.read_text("utf-8"), re.MULTILINE):
        heads, _, *others = (
            [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
            for line in table.splitlines()
        )
        yield heads, others


def named(library: str) -> Iterator[str]:
    """What the page names, as code, of this library: below the tables, and in its columns."""
    words: list[str] = []
    for who, note in re.findall(
        r"^- \*\*([\w-]+).*?\*\*(.*?)(?=^\n|^- |\Z)",
        PAGE.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    ):
        words += [note] * (who == library)
    for heads, others in rows():
        for cells in others:
            words += [
                cell for head, cell in zip(heads, cells, strict=True) if head.startswith(library)
            ]
    for code in re.findall(r"`([^`]+)`", " ".join(words)):
        name = re.sub(r"\(.*|=.*", "", code)
        if not re.fullmatch(r"[A-Z ]+|\S+\.py", name):  # commands of Redis, files
            yield name


@pytest.mark.parametrize("library", WHERE)
def test_what_the_page_names_is_there(library):
    names = set(named(library))
    assert len(names) > 3
    assert names - known(library) == set()


def test_each_row_of_the_page_says_something_of_each_pool():
    tables = list(rows())
    assert len(tables) > 5
    for heads, others in tables[1:]:
        assert len(heads) == 7
        for cells in others:
            assert len(cells) == 7, cells
            assert all(cells), cells


# ---- places to connect to ------------------------------------------------------------------------


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """Where whoever connects is never answered."""
    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(
        lambda _, writer: writers.append(writer), "127.0.0.1", 0
    ) as listener:
        yield listener.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()
