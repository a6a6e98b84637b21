"""Maintenance notifications: the pool does what redis-py's part for them asks of it.

No free server sends them. So a real one stands behind a front that takes the request for them, and
announces what the test says in between the replies.
"""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError
from redis.maint_notifications import (
    MaintenanceState,
    MaintNotificationsConfig,
    NodeMovingNotification,
)
from servers import HIREDIS, PYTHON, STRICT, Server, eventually

from aiopool import RedisPool

OLD, NEW = "127.0.0.1", "localhost"  # the same machine, by another name


class Front:
    """Passes on what comes, and announces maintenance."""

    def __init__(self, server: Server) -> None:
        self._behind = server.port
        self._clients: list[asyncio.StreamWriter] = []
        self._relays: set[asyncio.Task[Any]] = set()
        self.asked = 0
        self.gate = asyncio.Event()  # for new connections and for checks of old ones
        self.gate.set()

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.gate.wait()
        from_server, to_server = await asyncio.open_connection(OLD, self._behind)
        self._clients.append(writer)
        answering = asyncio.create_task(self._answer(from_server, writer))
        try:
            while line := await reader.readline():
                command, words = line, []
                for _ in range(int(line[1:])):
                    size = await reader.readline()
                    words.append(await reader.readexactly(int(size[1:]) + 2))
                    command += size + words[-1]
                if words[0] == b"PING\r\n" and len(words) > 1:
                    await self.gate.wait()
                if words[:2] == [b"CLIENT\r\n", b"MAINT_NOTIFICATIONS\r\n"]:
                    self.asked += 1
                    writer.write(b"+OK\r\n")  # part of the handshake: nothing else is under way
                else:
                    to_server.write(command)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            answering.cancel()
            self._clients.remove(writer)
            to_server.transport.abort()
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    def announce(self, *words: str | int | None) -> None:
        message = f">{len(words)}\r\n"
        for word in words:
            message += {
                int: f":{word}\r\n",
                str: f"${len(str(word))}\r\n{word}\r\n",
                type(None): "_\r\n",
            }[type(word)]
        for writer in self._clients:
            writer.write(message.encode())


@pytest.fixture
async def front(server: Server):
    front = Front(server)
    tasks = set()

    async def relay(reader, writer) -> None:
        tasks.add(task := asyncio.current_task())
        await front.relay(reader, writer)
        tasks.discard(task)

    async with await asyncio.start_server(relay, OLD, 0) as listener:
        front.port = listener.sockets[0].getsockname()[1]
        yield front
        await eventually(lambda: not tasks, "all connections through the front are closed")


@asynccontextmanager
async def pool_at(front: Front, **options: Any):
    defaults = {"max_size": 3, "protocol": 3, "socket_timeout": 5.0, **STRICT}
    async with RedisPool(host=OLD, port=front.port, **(defaults | options)) as pool:
        yield pool


@pytest.fixture(params=[HIREDIS, PYTHON], ids=["hiredis", "python"])
def parser(request):
    return request.param


async def test_notifications_are_asked_for_where_redis_py_would(front: Front):
    for protocol, config, asked in [
        (None, None, 1),
        (3, None, 1),
        (3, MaintNotificationsConfig(enabled=True), 1),
        (3, MaintNotificationsConfig(enabled=False), 0),
        (2, None, 0),
    ]:
        front.asked = 0
        async with pool_at(front, protocol=protocol, maint_notifications_config=config) as pool:
            assert bool(pool.maint_notifications_enabled()) == bool(asked)
            assert await pool.client().ping()
        assert front.asked == asked


def test_notifications_over_a_unix_socket_are_refused_as_by_redis_py():
    for kind in (ConnectionPool, RedisPool):
        with pytest.raises(RedisError, match="not supported for Unix domain socket"):
            kind.from_url(
                "unix:///s", maint_notifications_config=MaintNotificationsConfig(enabled=True)
            )


async def test_before_a_node_moves_the_pool_reconnects_to_its_new_address(front: Front, parser):
    async with pool_at(front, **parser) as pool:
        client = pool.client()
        assert await pool.warm(3) == 3
        first, second = await pool.acquire(), await pool.acquire()
        front.announce("MOVING", 1, 60, f"{NEW}:{front.port}")
        await first.send_command("ECHO", "mine")
        assert await first.read_response() == b"mine"
        # The idle one is gone at once, the lent ones go when they come back.
        assert (pool.stats().idle, pool.stats().lent) == (0, 2)
        assert {first.maintenance_state, second.maintenance_state} == {MaintenanceState.MOVING}
        await second.send_command("ECHO", "yours")
        assert await second.read_response() == b"yours"
        await pool.release(first)
        await pool.release(second)
        assert pool.stats().size == 0
        async with pool.connection() as conn:
            assert (conn.host, conn.socket_timeout) == (NEW, 10)
        assert await client.ping()
        assert pool.stats().size == 1


async def test_what_opens_or_is_checked_while_a_node_moves_is_not_lent(front: Front):
    async with pool_at(front, check_after=0.0) as pool:
        assert await pool.warm(2) == 2
        front.gate.clear()
        waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        await eventually(
            lambda: (pool.stats().checking, pool.stats().opening) == (2, 1), "all are under way"
        )
        front.announce("MOVING", 1, 60, f"{NEW}:{front.port}")
        front.gate.set()
        for conn in await asyncio.gather(*waiting):
            assert conn.host == NEW
            await pool.release(conn)
        assert pool.stats().opened == 5


async def test_after_the_move_the_pool_is_as_before(front: Front, parser):
    async with pool_at(front, max_size=1, **parser) as pool:
        async with pool.connection() as conn:
            front.announce("MOVING", 1, 1, f"{NEW}:{front.port}")
            await conn.send_command("PING")
            assert await conn.read_response() == b"PONG"
        async with pool.connection() as conn:
            assert (conn.host, conn.socket_timeout) == (NEW, 10)
            await eventually(lambda: pool.connection_kwargs["host"] == OLD, "the move is over")
            assert (conn.host, conn.socket_timeout) == (OLD, 5)
            assert conn.maintenance_state is MaintenanceState.NONE


async def test_what_opens_while_a_move_ends_is_not_lent(front: Front):
    async with pool_at(front, max_size=1) as pool:
        moving = NodeMovingNotification(1, NEW, front.port, 60)
        await pool.apply_moving_notification(
            moving, MaintNotificationsConfig(), None, run_proactive_reconnect=True
        )
        front.gate.clear()
        waiting = asyncio.create_task(pool.acquire())
        await eventually(lambda: pool.stats().opening, "one is being opened")
        await pool.cleanup_moving_notification(
            hash(moving), reset_relaxed_timeout=True, reset_host_address=True
        )
        front.gate.set()
        conn = await waiting
        assert (conn.host, conn.socket_timeout, conn.maintenance_state) == (
            OLD,
            5,
            MaintenanceState.NONE,
        )
        await pool.release(conn)


async def test_a_move_of_another_address_changes_nothing(front: Front):
    async with pool_at(front) as pool:
        await pool.warm(3)
        lent = await pool.acquire()
        idle = pool._available_connections
        await pool.run_proactive_reconnect("10.0.0.1")
        await pool.release(lent)
        assert pool._available_connections == [*idle, lent]
        assert pool.stats().closed == {}


async def test_a_connection_under_check_is_told_of_maintenance_too(front: Front):
    async with pool_at(front, max_size=1, check_after=0.0) as pool:
        await pool.warm(1)
        front.gate.clear()
        waiting = asyncio.create_task(pool.acquire())
        await eventually(lambda: pool.stats().checking, "it is checked")
        await pool.update_connections_settings(relaxed_timeout=9.0)
        front.gate.set()
        conn = await waiting
        assert conn.socket_timeout == 9
        await pool.release(conn)
        assert pool.stats().opened == 1


async def test_a_move_without_an_address_is_followed_halfway_through_its_time(front: Front):
    async with pool_at(front, max_size=2) as pool:
        await pool.warm(2)
        async with pool.connection() as conn:
            front.announce("MOVING", 1, 1, None)
            await conn.send_command("PING")
            assert await conn.read_response() == b"PONG"
            assert pool.stats().idle == 1
            await eventually(lambda: pool.stats().idle == 0, "the idle one is closed")
            assert conn.should_reconnect()
        assert pool.stats().size == 0


async def test_moves_announced_on_every_connection_at_once_are_one_and_cost_no_command(
    front: Front, parser
):
    async with pool_at(front, **parser) as pool:
        client = pool.client()

        async def ask(number: int) -> None:
            for turn in range(30):
                word = f"{number}.{turn}".encode()
                assert await client.echo(word) == word
                if number == 0 and turn % 10 == 5:
                    front.announce("MOVING", turn, 60, f"{NEW}:{front.port}")

        await asyncio.gather(*(ask(number) for number in range(8)))
        assert len(pool._maint_notifications_pool_handler._processed_notifications) == 3
        assert pool.stats().lent == 0


async def test_while_a_node_migrates_its_connections_have_more_time(front: Front, parser):
    async with pool_at(front, max_size=1, **parser) as pool, pool.connection() as conn:
        for begin, end in [("MIGRATING", "MIGRATED"), ("FAILING_OVER", "FAILED_OVER")]:
            front.announce(begin, 1, 10, "shards")
            await conn.send_command("PING")
            assert await conn.read_response() == b"PONG"
            assert (conn.socket_timeout, conn.maintenance_state) == (
                10,
                MaintenanceState.MAINTENANCE,
            )
            front.announce(end, 2, "shards")
            await conn.send_command("PING")
            assert await conn.read_response() == b"PONG"
            assert (conn.socket_timeout, conn.maintenance_state) == (5, MaintenanceState.NONE)


async def test_notifications_that_wait_on_an_idle_connection_keep_it_from_nobody(
    front: Front, parser
):
    async with pool_at(front, max_size=1, **parser) as pool:
        client = pool.client()
        number = await client.client_id()
        front.announce("MIGRATING", 1, 10, "shards")
        await asyncio.sleep(0)
        assert await client.client_id() == number
        front.announce("MIGRATED", 2, "shards")
        assert await client.client_id() == number


async def test_notifications_can_be_turned_on_later(front: Front):
    off = MaintNotificationsConfig(enabled=False)
    async with pool_at(front, max_size=2, maint_notifications_config=off) as pool:
        await pool.warm(2)
        lent = await pool.acquire()
        await pool.update_maint_notifications_config(MaintNotificationsConfig())
        assert (pool.stats().idle, pool.stats().lent, front.asked) == (0, 1, 0)
        await pool.release(lent)
        assert pool.stats().size == 0
        assert await pool.client().ping()
        assert front.asked == 1


async def test_a_pool_that_is_closed_or_left_with_its_loop_leaves_no_task_behind(front: Front):
    async with pool_at(front) as pool:
        async with pool.connection() as conn:
            front.announce("MOVING", 1, 60, f"{NEW}:{front.port}")
            await conn.send_command("PING")
            assert await conn.read_response() == b"PONG"
        handler = pool._maint_notifications_pool_handler
        assert handler._scheduled_tasks
    assert not handler._scheduled_tasks


async def test_redis_pys_part_takes_the_pools_lock_but_never_waits_with_it(front: Front):
    # That is why lending and returning need not take it.
    async with pool_at(front) as pool:
        await pool.warm(3)
        lent = await pool.acquire()
        for working in (
            pool.run_proactive_reconnect(),
            pool.update_connections_settings(relaxed_timeout=1.0),
            pool.update_maint_notifications_config(MaintNotificationsConfig()),
        ):
            with pytest.raises(StopIteration):
                working.send(None)
        assert (pool.stats().idle, pool.stats().lent) == (0, 1)
        await pool.release(lent)
