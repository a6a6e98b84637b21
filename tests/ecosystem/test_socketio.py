"""python-socketio: its manager's `_redis_connect` is overridden."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import socketio
from aiohttp import web
from servers import eventually, free_port
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


class PooledManager(socketio.AsyncRedisManager):
    def __init__(self, pool: RedisPool, **options) -> None:
        super().__init__(**options)
        self._pool = pool

    def _redis_connect(self) -> None:
        self.redis = self._pool.client()
        self.pubsub = self.redis.pubsub(ignore_subscribe_messages=True)
        self.connected = True


@asynccontextmanager
async def serving(pool: RedisPool):
    """Run a Socket.IO server whose manager listens through this pool, and give its address."""
    manager = PooledManager(pool)
    # Its pings go on for up to so many seconds after the end.
    server = socketio.AsyncServer(client_manager=manager, async_mode="aiohttp", ping_interval=0.2)

    @server.event
    async def enter(sid, room):
        await server.enter_room(sid, room)

    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.shutdown()
        await runner.cleanup()
        manager.thread.cancel()  # python-socketio lets it run until the process ends,
        await asyncio.wait([manager.thread])
        await manager.pubsub.aclose()  # and its subscription with it


def others(pool: RedisPool) -> PooledManager:
    """Make the manager of a process without clients."""
    return PooledManager(pool, write_only=True)


@asynccontextmanager
async def client_of(address: str, *, room: str):
    """Connect a client, have it enter a room, and give what it receives."""
    client = socketio.AsyncClient()
    received: list[int] = []
    client.on("news", received.append)
    await client.connect(address, transports=["websocket"])
    await client.call("enter", room, timeout=5)
    try:
        yield received
    finally:
        await client.disconnect()


# A manager holds a connection for what it subscribes to, and another for each message that it sends.
@pytest.fixture(params=[2, 3])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


async def test_what_others_emit_reaches_the_clients_of_a_server(
    pool: RedisPool, make_pool: MakePool
) -> None:
    another = others(make_pool(max_size=1))
    async with (
        serving(pool) as address,
        client_of(address, room="here") as here,
        client_of(address, room="there") as there,
    ):
        await eventually(lambda: pool.stats().lent, "the manager listens")
        await asyncio.gather(*(another.emit("news", number, room="here") for number in range(100)))
        await another.emit("news", -1)
        await eventually(
            lambda: (here[-1:], there) == ([-1], [-1]), lambda: f"all: {here}, {there}"
        )
    assert sorted(here) == [*range(-1, 100)]
    assert nobody_went_without(pool)


async def test_emits_that_are_cancelled_cost_the_others_nothing(
    pool: RedisPool, make_pool: MakePool
) -> None:
    another = others(make_pool(max_size=2))

    async def emitted(number: int) -> int:
        await another.emit("news", number, room="here")
        return number

    async with serving(pool) as address, client_of(address, room="here") as here:
        await eventually(lambda: pool.stats().lent, "the manager listens")
        numbers = await storm(emitted)
        await eventually(lambda: {*numbers} <= {*here}, lambda: f"all that were sent: {here}")
    assert len(numbers) >= 160
    assert nobody_went_without(pool)


async def test_on_one_connection_what_the_server_emits_is_lost_with_a_word_in_the_log(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    pool = make_pool(max_size=1, timeout=0.05)
    async with serving(pool) as address, client_of(address, room="here") as here:
        await eventually(lambda: pool.stats().lent, "the manager listens")
        await others(pool).emit("news", 1, room="here")
    assert here == []
    assert "Cannot publish to redis... giving up" in caplog.text
    told = [record.redis_exception for record in caplog.records if record.name == "socketio"]
    assert len(told) == 2
    assert all("no connection within 0.05 s (size=1/1, idle=0, lent=1" in text for text in told)
