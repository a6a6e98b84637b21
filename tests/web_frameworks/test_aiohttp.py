"""aiohttp's server: the pool lives with the app, and nothing that a request does costs a slot."""

import asyncio

import pytest
from aiohttp import ClientPayloadError, WSCloseCode, WSMsgType, WSServerHandshakeError, web
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import STRICT, eventually, free_port
from serving import TOLD, Numbers, aiohttp_serving, silent_redis

from aiopool import Pool, PoolTimeout, RedisPool, TooManyWaiters
from aiopool.integrations.aiohttp import POOL, cleanup_ctx, unavailable

SECOND = web.AppKey("second", RedisPool)


def application(pool, *routes):
    app = web.Application(middlewares=[unavailable])
    app.cleanup_ctx.append(cleanup_ctx(pool))
    app.add_routes(routes)
    return app


async def lent(pool, number):
    await eventually(lambda: pool.stats().lent == number, lambda: f"{number} are lent: {pool}")


async def ping(request):
    return web.json_response(await request.config_dict[POOL].client().ping())


async def wait_for_a_job(request):
    _, job = await request.app[POOL].client().blpop("jobs", 0)
    return web.Response(body=job)


async def begin(request):
    """Answer, the second half with a connection."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    async with request.app[POOL].connection():
        await response.write(b"ended")
    return response


async def echo(request):
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    client = request.app[POOL].client()
    try:
        async for message in websocket:
            await websocket.send_bytes(await client.echo(message.data))
    except (PoolTimeout, TooManyWaiters):
        await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER)
    return websocket


async def shake(request):
    """Have a connection before there is a WebSocket."""
    async with request.app[POOL].connection():
        return await echo(request)


# ---- lifetime ----------------------------------------------------------------------------------------


@pytest.mark.both_loops
async def test_an_app_opens_its_pools_in_order_and_closes_them_in_reverse(server):
    entries = []

    class Tell(RedisPool):
        async def __aenter__(self):
            entries.append(f"open {self.name}")
            return await super().__aenter__()

        async def aclose(self, timeout=...):
            entries.append(f"close {self.name}")
            await super().aclose(timeout)

    first, second = (
        Tell(server.url, min_size=1, name=name, **STRICT) for name in ("first", "second")
    )
    app = application(first)
    app.cleanup_ctx.append(cleanup_ctx(second, SECOND))
    async with aiohttp_serving(app):
        assert app[POOL] is first
        assert app[SECOND] is second
        assert [pool.stats().idle for pool in (first, second)] == [1, 1]
        assert entries == ["open first", "open second"]
    assert entries[2:] == ["close second", "close first"]
    assert [pool.stats().size for pool in (first, second)] == [0, 0]


def with_a_second_that_fails(server):
    first = RedisPool(server.url, min_size=1, **STRICT)
    app = application(first)
    lost = RedisPool(f"redis://127.0.0.1:{free_port()}", min_size=1, **STRICT)
    app.cleanup_ctx.append(cleanup_ctx(lost, SECOND))
    return app, first


async def test_an_app_does_not_start_without_its_server(server):
    app, first = with_a_second_that_fails(server)
    with pytest.raises(RedisConnectionError):
        async with aiohttp_serving(app):
            pass
    assert first.stats().closed == {"pool_closed": 1}


def test_nor_does_it_with_run_app(server):
    app, first = with_a_second_that_fails(server)
    with pytest.raises(RedisConnectionError):
        web.run_app(app, port=0, handle_signals=False)
    assert first.stats().closed == {"pool_closed": 1}


async def test_if_starting_is_cancelled_what_was_opened_is_closed(server):
    async with silent_redis() as (url, heard):
        first = RedisPool(server.url, min_size=1, **STRICT)
        mute = RedisPool(url, min_size=1, **STRICT)
        app = application(first)
        app.cleanup_ctx.append(cleanup_ctx(mute, SECOND))
        runner = web.AppRunner(app)
        task = asyncio.create_task(runner.setup())
        await eventually(heard.is_set, "the second is being opened")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await runner.cleanup()
    assert [pool.stats().size for pool in (first, mute)] == [0, 0]


async def test_an_app_can_be_started_again(pool):
    app = application(pool, web.get("/", ping))
    for _ in range(2):
        async with aiohttp_serving(app) as service:
            assert await service.get() == (200, None, True)
        assert pool.stats().size == 0


@pytest.mark.both_loops
async def test_the_pool_is_closed_after_the_last_request(pool, server):
    app = application(pool, web.get("/", wait_for_a_job))
    async with aiohttp_serving(app) as service, service.asking() as answer:
        await lent(pool, 1)
        stopping = asyncio.create_task(service.stop())
        await eventually(lambda: not service.listening(), "nobody new is let in")
        server.run("RPUSH", "jobs", "last")
        assert (await answer)[0] == 200
        await stopping
        assert (pool.stats().size, pool.stats().closed) == (0, {"pool_closed": 1})


async def test_what_is_lent_at_the_end_has_so_long_to_come_back(pool):
    app = web.Application()
    app.cleanup_ctx.append(cleanup_ctx(pool, timeout=0))
    async with aiohttp_serving(app) as service:
        conn = await pool.acquire()
        async with asyncio.timeout(2):
            await service.stop()
        assert not conn.is_connected
        await pool.release(conn)


async def test_if_its_end_is_cancelled_the_pool_is_closed_at_once(pool):
    app = web.Application()
    app.cleanup_ctx.append(cleanup_ctx(pool, timeout=60))
    runner = web.AppRunner(app)
    await runner.setup()
    conn = await pool.acquire()
    task = asyncio.create_task(runner.cleanup())
    await eventually(lambda: "closed" in repr(pool), "the pool is being closed")
    assert conn.is_connected
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await task
    assert not conn.is_connected
    await pool.release(conn)


async def test_two_pools_at_one_key_are_refused(pool, server):
    app = application(pool)
    second = RedisPool(server.url, min_size=1, **STRICT)
    app.cleanup_ctx.append(cleanup_ctx(second))
    with pytest.raises(ValueError, match=r"has another pool at .*aiopool.*key of its own"):
        async with aiohttp_serving(app):
            pass
    assert app[POOL] is pool
    assert second.stats().opened == 0


# ---- requests ----------------------------------------------------------------------------------------


async def test_a_sub_app_finds_the_pool(pool):
    app = application(pool, web.get("/", ping))
    inner = web.Application()
    inner.add_routes([web.get("/", ping)])
    app.add_subapp("/inner", inner)
    async with aiohttp_serving(app) as service:
        assert await service.get("/inner/") == (200, None, True)


async def test_a_sub_app_may_have_a_pool_of_its_own(pool, server):
    own = RedisPool(server.url, **STRICT)
    inner = application(own, web.get("/", ping))
    app = application(pool)
    app.add_subapp("/inner", inner)
    async with aiohttp_serving(app) as service:
        assert await service.get("/inner/") == (200, None, True)
        assert (own.stats().opened, pool.stats().opened) == (1, 0)
    assert own.stats().size == 0


async def test_a_pool_of_anything_has_a_key_of_its_own():
    key = web.AppKey("numbers", Pool)

    async def endpoint(request):
        async with request.app[key].connection() as number:
            return web.json_response(number)

    app = web.Application()
    app.cleanup_ctx.append(cleanup_ctx(Pool(Numbers()), key))
    app.add_routes([web.get("/", endpoint)])
    async with aiohttp_serving(app) as service:
        assert await service.get() == (200, None, 7)


async def test_a_handler_that_fails_gives_its_connection_back(pool):
    async def fail(request):
        async with request.app[POOL].connection():
            raise ZeroDivisionError

    async with aiohttp_serving(application(pool, web.get("/", fail))) as service:
        assert (await service.get())[0] == 500
        assert (pool.stats().lent, pool.stats().idle) == (0, 1)


@pytest.mark.both_loops
@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_client_that_leaves_costs_no_slot(pool, server, cancelled):
    app = application(pool, web.get("/", wait_for_a_job))
    async with aiohttp_serving(app, handler_cancellation=cancelled) as service:
        async with service.asking():
            await lent(pool, 1)
        if not cancelled:
            server.run("RPUSH", "jobs", "nobody's")
        await lent(pool, 0)
        assert await pool.client().ping()
        assert service.complaints == []


# ---- no connection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/crowded", "/deadlock", "/inner/"])
async def test_without_a_connection_a_request_is_told_when_to_come_back(server, path):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    crowded = RedisPool(server.url, max_size=1, max_waiting=0, **STRICT)

    async def one_too_many(_request):
        await crowded.client().ping()

    async def two(_request):
        async with crowded.connection(timeout=None):
            await crowded.client().ping()

    app = application(
        pool, web.get("/", ping), web.get("/crowded", one_too_many), web.get("/deadlock", two)
    )
    app.cleanup_ctx.append(cleanup_ctx(crowded, SECOND))
    inner = web.Application()
    inner.add_routes([web.get("/", ping)])
    app.add_subapp("/inner", inner)
    async with aiohttp_serving(app) as service, pool.connection(timeout=5):
        conn = await crowded.acquire()
        if path == "/deadlock":
            await crowded.release(conn)
        assert await service.get(path) == (503, "1", TOLD)
        if path != "/deadlock":
            await crowded.release(conn)
        assert service.complaints == []


@pytest.mark.parametrize("mixed", [False, True])
async def test_a_task_group_without_a_connection_is_answered_so_unless_there_is_another_error(
    server, mixed
):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)

    async def fail():
        raise ZeroDivisionError

    async def endpoint(_request):
        async with asyncio.TaskGroup() as group:
            group.create_task(pool.client().ping())
            if mixed:
                group.create_task(fail())

    async with (
        aiohttp_serving(application(pool, web.get("/", endpoint))) as service,
        pool.connection(timeout=5),
    ):
        answer = await service.get()
        assert answer[0] == 500 if mixed else answer == (503, "1", TOLD)
        assert len(service.complaints) == mixed


async def test_after_the_beginning_of_a_response_it_is_cut_off_and_costs_no_slot(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    async with aiohttp_serving(application(pool, web.get("/", begin))) as service:
        async with pool.connection(timeout=5):
            with pytest.raises(ClientPayloadError):
                await service.get()
        assert len(service.complaints) == 1
        assert (await service.get())[0] == 200
        assert pool.stats().lent == 0


async def test_the_handshake_of_a_websocket_is_answered_503(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    async with (
        aiohttp_serving(application(pool, web.get("/", shake))) as service,
        pool.connection(timeout=5),
    ):
        with pytest.raises(WSServerHandshakeError) as caught:
            await service.session.ws_connect("/")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        assert service.complaints == []


async def test_a_websocket_that_is_open_can_be_closed_with_1013(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    async with aiohttp_serving(application(pool, web.get("/", echo))) as service:
        await pool.warm(1)
        async with service.session.ws_connect("/") as websocket:
            await websocket.send_str("hear, hear")
            assert await websocket.receive_bytes() == b"hear, hear"
            async with pool.connection():
                await websocket.send_str("anybody?")
                message = await websocket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1013)
        assert service.complaints == []


# ---- what can't be -----------------------------------------------------------------------------------


def test_a_wrong_argument_is_refused_where_it_is_given(pool):
    for wrong in (None, "redis://:s3cret@localhost", RedisPool, pool.client()):
        with pytest.raises(TypeError, match=r"^pool must be a Pool, RedisPool") as caught:
            cleanup_ctx(wrong)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(TypeError, match="a view opens and closes nothing"):
        cleanup_ctx(pool.view(limit=1))
    with pytest.raises(TypeError, match=r"key must be a web\.AppKey, not str"):
        cleanup_ctx(pool, "pool")
    with pytest.raises(ValueError, match="timeout=-1"):
        cleanup_ctx(pool, timeout=-1)
