"""Starlette and FastAPI on uvicorn: the pool lives with the app, and nothing that a request does costs a slot."""

import asyncio
from contextlib import aclosing, asynccontextmanager, nullcontext
from typing import Annotated

import pytest
from aiohttp import ClientPayloadError, WSMsgType, WSServerHandshakeError
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import STRICT, eventually, free_port
from serving import TOLD, Numbers, silent_redis, uvicorn_serving
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from aiopool import Listener, Pool, PoolTimeout, RedisCluster, RedisPool, TooManyWaiters
from aiopool.integrations.starlette import (
    client,
    connection,
    exception_handlers,
    lifespan,
    unavailable,
)


def fastapi(pool, **options):
    return FastAPI(
        **{"lifespan": lifespan(pool), "exception_handlers": exception_handlers} | options
    )


async def lent(pool, number):
    await eventually(lambda: pool.stats().lent == number, lambda: f"{number} are lent: {pool}")


# ---- lifetime ----------------------------------------------------------------------------------------


class Diary(Listener):
    def __init__(self, *pools):
        self.entries = []
        for pool in pools:
            pool.on(self)

    def opened(self, pool, _conn, _took):
        self.entries.append(f"opened {pool.name}")

    def closed(self, pool, _conn, _reason):
        self.entries.append(f"closed {pool.name}")


def two_pools(server, **second):
    first = RedisPool(server.url, min_size=1, name="first", **STRICT)
    return first, RedisPool(
        **{"url": server.url, "min_size": 1, "name": "second"} | STRICT | second
    )


@pytest.mark.both_loops
async def test_an_app_opens_its_pools_in_order_and_closes_them_in_reverse(server):
    pools = two_pools(server)
    diary = Diary(*pools)
    async with uvicorn_serving(Starlette(lifespan=lifespan(*pools))):
        assert diary.entries == ["opened first", "opened second"]
    assert diary.entries[2:] == ["closed second", "closed first"]


async def test_an_app_does_not_start_without_its_server(server):
    pools = two_pools(server, url=f"redis://127.0.0.1:{free_port()}")
    diary = Diary(*pools)
    with pytest.raises(AssertionError, match="Application startup failed"):
        async with uvicorn_serving(Starlette(lifespan=lifespan(*pools))):
            pass
    assert diary.entries == ["opened first", "closed first"]


async def test_a_pool_that_can_not_be_opened_says_why(server):
    pools = two_pools(server, url=f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(RedisConnectionError):
        async with lifespan(*pools)(None):
            pass


@pytest.mark.both_loops
async def test_if_starting_is_cancelled_what_was_opened_is_closed(server):
    async with silent_redis() as (url, heard):
        pools = two_pools(server, url=url)
        diary = Diary(*pools)
        task = asyncio.create_task(lifespan(*pools)(None).__aenter__())
        await eventually(heard.is_set, "the second is being opened")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert diary.entries == ["opened first", "closed first"]
    assert [pool.stats().size for pool in pools] == [0, 0]


async def test_an_app_can_be_started_again(pool):
    app = fastapi(pool)
    app.add_api_route("/", lambda: pool.stats().size)
    for _ in range(2):
        async with uvicorn_serving(app) as service:
            await pool.client().ping()
            assert await service.get() == (200, None, 1)
        assert pool.stats().size == 0


def test_an_app_can_be_started_again_on_another_loop(pool):
    async def once():
        async with lifespan(pool)(None):
            return await pool.client().ping()

    assert [asyncio.run(once()) for _ in range(2)] == [True, True]


async def test_it_goes_with_a_lifespan_of_ones_own(pool):
    entries = []

    @asynccontextmanager
    async def everything(app):
        async with lifespan(pool)(app):
            await pool.client().ping()
            yield
            entries.append(pool.stats().size)

    async with uvicorn_serving(Starlette(lifespan=everything)):
        pass
    assert entries == [1]
    assert pool.stats().size == 0


@pytest.mark.both_loops
async def test_the_pool_is_closed_after_the_last_request(pool, server):
    app = fastapi(pool)

    @app.get("/")
    async def wait_for_a_job():
        return await pool.client().blpop("jobs", 0)

    async with uvicorn_serving(app) as service, service.asking() as answer:
        await lent(pool, 1)
        service.stop()
        server.run("RPUSH", "jobs", "last")
        status, _, job = await answer
        assert (status, job) == (200, ["jobs", "last"])
        await service.stopped
        assert (pool.stats().size, pool.stats().closed) == (0, {"pool_closed": 1})


@pytest.mark.parametrize(("timeout", "waits"), [(None, True), (0, False)])
async def test_what_is_lent_at_the_end_has_so_long_to_come_back(pool, timeout, waits):
    async with uvicorn_serving(fastapi(pool, lifespan=lifespan(pool, timeout=timeout))) as service:
        conn = await pool.acquire()
        service.stop()
        if waits:
            await eventually(lambda: "closed" in repr(pool), "the pool is being closed")
            assert not service.stopped.done()
            assert conn.is_connected
        else:
            async with asyncio.timeout(2):
                await service.stopped
            assert not conn.is_connected
        await pool.release(conn)


@pytest.mark.both_loops
async def test_if_its_end_is_cancelled_all_pools_are_closed_at_once(server):
    pools = two_pools(server)
    conns = []

    async def run():
        async with lifespan(*pools, timeout=60)(None):
            conns.extend([await pool.acquire() for pool in pools])

    task = asyncio.create_task(run())
    await eventually(lambda: "closed" in repr(pools[1]), "the last is being closed")
    assert all(conn.is_connected for conn in conns)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await task
    assert not any(conn.is_connected for conn in conns)
    for pool, conn in zip(pools, conns, strict=True):
        await pool.release(conn)


# ---- requests ----------------------------------------------------------------------------------------


async def test_a_request_gets_a_client(pool):
    app = fastapi(pool)
    Client = Annotated[Redis, Depends(client(pool))]  # noqa: N806 - it is a type

    @app.get("/{name}")
    async def count(name, redis: Client, again: Client):
        assert redis is again
        return await redis.incr(name)

    async with uvicorn_serving(app) as service:
        assert [(await service.get("/n"))[2] for _ in range(3)] == [1, 2, 3]
        assert pool.stats().lent == 0


async def test_a_client_that_shares_is_used_as_it_is(pool):
    redis = pool.pipelined()
    app = fastapi(pool)

    @app.get("/")
    async def count():
        return await redis.incr("n")

    async with uvicorn_serving(app) as service:
        answers = await asyncio.gather(*(service.get() for _ in range(20)))
        assert sorted(answer[2] for answer in answers) == [*range(1, 21)]


async def test_dependencies_of_a_request_share_one_connection(pool):
    app = fastapi(pool)
    Conn = Annotated[Connection, Depends(connection(pool), scope="function")]  # noqa: N806
    Same = Annotated[Connection, Depends(connection(pool), scope="function")]  # noqa: N806

    async def user(conn: Same):
        return conn

    @app.get("/")
    async def endpoint(conn: Conn, users: Annotated[Connection, Depends(user)]):
        await conn.send_command("PING")
        return [conn is users, pool.stats().lent, await conn.read_response() == b"PONG"]

    async with uvicorn_serving(app) as service:
        for _ in range(2):
            assert await service.get() == (200, None, [True, 1, True])
            assert pool.stats().lent == 0


async def test_a_view_limits_its_connections(server):
    pool = RedisPool(server.url, max_size=3, **STRICT)
    view = pool.view(limit=1)
    app = fastapi(pool)
    Conn = Annotated[Connection, Depends(connection(view), scope="function")]  # noqa: N806
    Client = Annotated[Redis, Depends(client(view))]  # noqa: N806

    @app.get("/")
    async def endpoint(_conn: Conn):
        return [view.stats().lent, pool.stats().lent]

    @app.get("/client")
    async def ping(redis: Client):
        return redis.connection_pool is view and await redis.ping()

    async with uvicorn_serving(app) as service:
        assert (await service.get())[2] == [1, 1]
        assert (await service.get("/client"))[2] is True


async def test_a_pool_of_anything_lends_to_requests():
    pool = Pool(Numbers(), max_size=1, timeout=0)
    app = fastapi(pool)

    @app.get("/")
    async def endpoint(number: Annotated[int, Depends(connection(pool), scope="function")]):
        return number

    async with uvicorn_serving(app) as service:
        await pool.warm(1)
        assert await service.get() == (200, None, 7)
        async with pool.connection():
            assert await service.get() == (503, "1", TOLD)


async def test_a_test_overrides_a_dependency_by_naming_it_again(pool):
    app = fastapi(pool)

    @app.get("/")
    async def endpoint(
        conn: Annotated[Connection, Depends(connection(pool), scope="function")],
        redis: Annotated[Redis, Depends(client(pool))],
    ):
        return [conn, redis]

    app.dependency_overrides[connection(pool)] = lambda: "a fake"
    app.dependency_overrides[client(pool)] = lambda: "another"
    async with uvicorn_serving(app) as service:
        assert (await service.get())[2] == ["a fake", "another"]


def test_dependencies_of_different_pools_or_timeouts_differ(pool, server):
    other = RedisPool(server.url)
    assert connection(pool) == connection(pool)
    assert client(pool) == client(pool)
    assert connection(pool) != connection(pool, timeout=1)
    assert connection(pool) != connection(other)
    assert client(pool) != client(other)


@pytest.mark.parametrize(("scope", "kept"), [("function", 0), ("request", 1)])
async def test_a_slow_reader_keeps_the_connection_only_in_the_scope_of_the_request(
    pool, scope, kept
):
    app = fastapi(pool)
    read = asyncio.Event()

    async def slowly():
        yield b"begun"
        await read.wait()

    @app.get("/")
    async def endpoint(_conn: Annotated[Connection, Depends(connection(pool), scope=scope)]):
        return StreamingResponse(slowly())

    async with uvicorn_serving(app) as service:
        async with service.session.get("/") as answer:
            assert await answer.content.read(5) == b"begun"
            assert pool.stats().lent == kept
            read.set()
        await lent(pool, 0)


async def test_a_background_task_finds_the_connection_given_back(pool):
    app = fastapi(pool)
    seen = []

    @app.get("/")
    async def endpoint(
        _conn: Annotated[Connection, Depends(connection(pool), scope="function")],
        tasks: BackgroundTasks,
    ):
        tasks.add_task(lambda: seen.append(pool.stats().lent))

    async with uvicorn_serving(app) as service:
        await service.get()
        await eventually(lambda: seen, "the background task has run")
    assert seen == [0]


async def test_an_endpoint_that_fails_gives_its_connection_back(pool):
    app = fastapi(pool)

    @app.get("/")
    async def endpoint(_conn: Annotated[Connection, Depends(connection(pool), scope="function")]):
        raise ZeroDivisionError

    async with uvicorn_serving(app) as service:
        assert (await service.get())[0] == 500
        assert (pool.stats().lent, pool.stats().idle) == (0, 1)


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@pytest.mark.both_loops
@pytest.mark.parametrize("middleware", [[], [Middleware(Passing)]], ids=["plain", "middleware"])
async def test_a_client_that_leaves_costs_no_slot(pool, server, middleware):
    app = fastapi(pool, middleware=middleware)

    @app.get("/")
    async def wait_for_a_job(redis: Annotated[Redis, Depends(client(pool))]):
        return await redis.blpop("jobs", 0)

    async with uvicorn_serving(app) as service:
        async with service.asking():
            await lent(pool, 1)
        server.run("RPUSH", "jobs", "nobody's")
        await lent(pool, 0)
        assert await pool.client().ping()
        assert service.complaints == []


async def endless(pool, conn=None):
    """Stream for as long as somebody reads."""
    async with nullcontext(conn) if conn else pool.connection():
        while True:
            yield b"more"
            await asyncio.sleep(0)


class Closed(StreamingResponse):
    """Ends its generator with itself. Starlette leaves one that does not run just then to the collector."""

    async def __call__(self, scope, receive, send):
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


@pytest.mark.both_loops
@pytest.mark.parametrize("path", ["/dependency", "/closed"])
@pytest.mark.parametrize("middleware", [[], [Middleware(Passing)]], ids=["plain", "middleware"])
async def test_a_reader_who_leaves_a_stream_costs_no_slot(pool, middleware, path):
    app = fastapi(pool, middleware=middleware)

    @app.get("/dependency")
    async def of_the_request(conn: Annotated[Connection, Depends(connection(pool))]):
        return StreamingResponse(endless(pool, conn))

    app.add_api_route("/closed", lambda: Closed(endless(pool)))
    async with uvicorn_serving(app) as service:
        async with service.session.get(path) as answer:
            assert await answer.content.readexactly(4) == b"more"
            assert pool.stats().lent == 1
            answer.close()
        await lent(pool, 0)
        assert service.complaints == []


def with_subscribers(pool, **options):
    app = fastapi(pool, **options)
    subscribers = Redis(connection_pool=pool.view(limit=1, name="subscribers"))

    async def news():
        async with subscribers.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("news")
            yield pubsub

    @app.get("/events")
    async def events(pubsub: Annotated[PubSub, Depends(news)]):
        async def stream():
            async for message in pubsub.listen():
                yield f"data: {message['data']}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.websocket("/live")
    async def live(websocket: WebSocket, pubsub: Annotated[PubSub, Depends(news)]):
        async def pass_on():
            async for message in pubsub.listen():
                await websocket.send_text(message["data"])

        await websocket.accept()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(pass_on())
            async for _ in websocket.iter_text():
                pass
            task.cancel()

    return app


@pytest.mark.both_loops
@pytest.mark.parametrize("middleware", [[], [Middleware(Passing)]], ids=["plain", "middleware"])
async def test_a_subscriber_who_leaves_costs_no_slot(server, middleware):
    pool = RedisPool(server.url, max_size=2, decode_responses=True, **STRICT)
    async with uvicorn_serving(with_subscribers(pool, middleware=middleware)) as service:
        for _ in range(2):
            answer = await service.session.get("/events")
            await eventually(lambda: server.run("PUBLISH", "news", "rain"), "somebody listens")
            assert await answer.content.readline() == b"data: rain\n"
            answer.close()
            await lent(pool, 0)
        for _ in range(2):
            async with service.session.ws_connect("/live") as websocket:
                await eventually(lambda: server.run("PUBLISH", "news", "sun"), "somebody listens")
                assert await websocket.receive_str() == "sun"
            await lent(pool, 0)
        assert service.complaints == []


# ---- no connection -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/client", "/connection", "/crowded", "/deadlock", "/mounted/"])
@pytest.mark.parametrize("middleware", [[], [Middleware(Passing)]], ids=["plain", "middleware"])
async def test_without_a_connection_a_request_is_told_when_to_come_back(server, path, middleware):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    crowded = RedisPool(server.url, max_size=1, max_waiting=0, **STRICT)
    patient = RedisPool(server.url, max_size=1, **STRICT)
    app = fastapi(pool, lifespan=lifespan(pool, crowded, patient), middleware=middleware)
    mounted = FastAPI(exception_handlers=exception_handlers)
    app.mount("/mounted", mounted)

    @mounted.get("/")
    @app.get("/client")
    async def ping(redis: Annotated[Redis, Depends(client(pool))]):
        await redis.ping()

    @app.get("/connection")
    async def no_use(_conn: Annotated[Connection, Depends(connection(pool), scope="function")]): ...

    @app.get("/crowded")
    async def one_too_many():
        await crowded.client().ping()

    @app.get("/deadlock")
    async def two(_conn: Annotated[Connection, Depends(connection(patient), scope="function")]):
        await patient.client().ping()

    async with (
        uvicorn_serving(app) as service,
        pool.connection(timeout=5),
        crowded.connection(),
    ):
        assert await service.get(path) == (503, "1", TOLD)
        assert service.complaints == []


async def test_a_dependency_may_have_less_time_than_the_pool(server):
    pool = RedisPool(server.url, max_size=1, timeout=None, **STRICT)
    app = fastapi(pool)

    @app.get("/")
    async def endpoint(
        _conn: Annotated[Connection, Depends(connection(pool, timeout=0), scope="function")],
    ): ...

    async with uvicorn_serving(app) as service, pool.connection(), asyncio.timeout(5):
        assert await service.get() == (503, "1", TOLD)


async def test_a_handler_of_connection_errors_gets_the_others_only(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    lost = RedisPool(f"redis://127.0.0.1:{free_port()}", **STRICT)

    async def down(_request, _error):
        return PlainTextResponse("no Redis", 502)

    handlers = {**exception_handlers, RedisConnectionError: down}
    app = fastapi(pool, lifespan=lifespan(pool, lost), exception_handlers=handlers)

    @app.get("/{which}")
    async def ping(which: str):
        await (pool if which == "busy" else lost).client().ping()

    async with uvicorn_serving(app) as service, pool.connection(timeout=5):
        assert await service.get("/busy") == (503, "1", TOLD)
        assert await service.get("/lost") == (502, None, "no Redis")


async def test_starlette_answers_so_too(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)

    async def endpoint(_request):
        async with pool.connection():
            return PlainTextResponse("not now")

    app = Starlette(
        routes=[Route("/", endpoint)],
        lifespan=lifespan(pool),
        exception_handlers=exception_handlers,
    )
    async with uvicorn_serving(app) as service, pool.connection(timeout=5):
        assert await service.get() == (503, "1", TOLD)


def with_groups(pool, **options):
    """Have an app whose endpoints work in task groups, which may fail with one thing or with several."""
    app = fastapi(pool, **options)

    async def fail():
        raise ZeroDivisionError

    @app.get("/{kind}")
    async def endpoint(kind):
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            outer.create_task(pool.client().ping())
            inner.create_task(pool.client().ping())
            if kind == "mixed":
                inner.create_task(fail())

    return app


async def test_a_task_group_without_a_connection_is_answered_so_too(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    async with uvicorn_serving(with_groups(pool)) as service, pool.connection(timeout=5):
        assert await service.get("/alone") == (503, "1", TOLD)
        assert service.complaints == []


@pytest.mark.parametrize("handled", [False, True])
async def test_a_group_with_another_error_is_not_hidden(server, handled):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    seen = []

    def last_resort(_request, error):
        seen.append(error)
        return PlainTextResponse("sorry", 500)

    handlers = exception_handlers | ({Exception: last_resort} if handled else {})
    app = with_groups(pool, exception_handlers=handlers)
    async with uvicorn_serving(app) as service, pool.connection(timeout=5):
        told = "sorry" if handled else "Internal Server Error"
        assert await service.get("/mixed") == (500, None, told)
        assert len(service.complaints) == 1
        assert len(seen) == handled
        assert all(error.split(ZeroDivisionError)[0] for error in seen)


async def test_it_is_told_how_long_those_in_line_will_take(pool):
    app = fastapi(pool)

    @app.get("/")
    async def endpoint():
        raise error

    async with uvicorn_serving(app) as service:
        async with pool.connection(), asyncio.TaskGroup() as group:
            waiting = [group.create_task(pool.client().ping()) for _ in range(3)]
            await eventually(lambda: pool.stats().waiting == 3, "three wait")
            with pytest.raises(PoolTimeout) as caught:
                await pool.acquire(timeout=0)
            for task in waiting:
                task.cancel()
        error = caught.value
        numbers = {name: getattr(error.stats, name) for name in error.stats.__slots__}
        # As if ten had been lent before, for 4 s each.
        error.stats = type(error.stats)(**numbers | {"acquired": 11, "use_seconds": 40.0})
        assert await service.get() == (503, "12", TOLD)


async def test_a_middleware_can_answer_so_itself(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)

    class Counting(BaseHTTPMiddleware):
        async def dispatch(self, request, call_next):
            try:
                await pool.client().incr("requests")
            except (PoolTimeout, TooManyWaiters) as error:
                return await unavailable(request, error)
            return await call_next(request)

    app = fastapi(pool, middleware=[Middleware(Counting)])
    app.add_api_route("/", lambda: "counted")
    async with uvicorn_serving(app) as service:
        await pool.warm(1)
        assert (await service.get())[0] == 200
        async with pool.connection():
            assert await service.get() == (503, "1", TOLD)
            assert service.complaints == []


async def test_after_the_beginning_of_a_response_it_is_cut_off_and_costs_no_slot(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)

    async def stream():
        yield b"begun"
        async with pool.connection():
            yield b"ended"

    app = fastapi(pool)
    app.add_api_route("/", lambda: StreamingResponse(stream()))
    async with uvicorn_serving(app) as service:
        async with pool.connection(timeout=5):
            with pytest.raises(ClientPayloadError):
                await service.get()
        assert (await service.get())[2] == "begunended"
        assert pool.stats().lent == 0


# ---- WebSockets --------------------------------------------------------------------------------------


def with_websockets(pool):
    app = fastapi(pool)

    @app.websocket("/dependency")
    async def dependency(
        websocket: WebSocket,
        conn: Annotated[Connection, Depends(connection(pool), scope="function")],
    ):
        await websocket.accept()
        await conn.send_command("PING")
        await websocket.send_bytes(await conn.read_response())
        await websocket.receive()

    @app.websocket("/client")
    async def answer(websocket: WebSocket, redis: Annotated[Redis, Depends(client(pool))]):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_bytes(await redis.echo(text))

    return app


async def test_a_websocket_has_a_connection_until_it_is_closed(pool):
    async with uvicorn_serving(with_websockets(pool)) as service:
        async with service.session.ws_connect("/dependency") as websocket:
            assert await websocket.receive_bytes() == b"PONG"
            assert pool.stats().lent == 1
        await lent(pool, 0)
        async with service.session.ws_connect("/client") as websocket:
            await websocket.send_str("hear, hear")
            assert await websocket.receive_bytes() == b"hear, hear"
            assert pool.stats().lent == 0
        assert service.complaints == []


async def test_the_handshake_of_a_websocket_is_answered_503(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    async with uvicorn_serving(with_websockets(pool)) as service, pool.connection(timeout=5):
        with pytest.raises(WSServerHandshakeError) as caught:
            await service.session.ws_connect("/dependency")
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        assert service.complaints == []


async def test_where_a_server_can_not_answer_so_a_handshake_is_refused(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    app = with_websockets(pool)

    async def without_extensions(scope, receive, send):
        await app({**scope, "extensions": {}}, receive, send)

    async with uvicorn_serving(without_extensions) as service, pool.connection(timeout=5):
        with pytest.raises(WSServerHandshakeError) as caught:
            await service.session.ws_connect("/dependency")
        assert caught.value.status == 403
        assert service.complaints == []


async def test_a_websocket_that_is_open_is_closed_with_1013(server):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)
    async with (
        uvicorn_serving(with_websockets(pool)) as service,
        pool.connection(timeout=5),
        service.session.ws_connect("/client") as websocket,
    ):
        await websocket.send_str("hear, hear")
        message = await websocket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 1013, "")
        assert service.complaints == []


@pytest.mark.parametrize("path", ["/before", "/after"])
async def test_a_websocket_endpoint_says_so_before_and_after_it_is_open(server, path):
    pool = RedisPool(server.url, max_size=1, timeout=0, **STRICT)

    class Before(WebSocketEndpoint):
        async def on_connect(self, websocket):
            await pool.client().ping()
            await websocket.accept()

    class After(WebSocketEndpoint):
        encoding = "text"

        async def on_receive(self, websocket, data):
            await websocket.send_bytes(await pool.client().echo(data))

    app = Starlette(
        routes=[WebSocketRoute("/before", Before), WebSocketRoute("/after", After)],
        lifespan=lifespan(pool),
        exception_handlers=exception_handlers,
    )
    async with uvicorn_serving(app) as service, pool.connection(timeout=5):
        if path == "/before":
            with pytest.raises(WSServerHandshakeError) as caught:
                await service.session.ws_connect(path)
            assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
        else:
            async with service.session.ws_connect(path) as websocket:
                await websocket.send_str("hear, hear")
                message = await websocket.receive()
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1013)
        assert service.complaints == []


@pytest.mark.both_loops
@pytest.mark.parametrize("path", ["/accepted", "/closed"])
async def test_a_websocket_that_is_gone_meanwhile_is_no_matter(pool, path):
    app = fastapi(pool)
    gone = asyncio.Event()
    ended = []

    @app.websocket("/{kind}")
    async def endpoint(websocket: WebSocket, kind: str):
        await websocket.accept()
        if kind == "closed":
            await websocket.close()
        await gone.wait()
        try:
            await pool.acquire(timeout=0)
        finally:
            ended.append(kind)

    async with uvicorn_serving(app) as service, pool.connection():
        async with service.session.ws_connect(path):
            pass
        await eventually(lambda: not service.connections(), "the server knows")
        gone.set()
        await eventually(lambda: ended, "the endpoint has waited in vain")
        assert service.complaints == []


# ---- what can't be -----------------------------------------------------------------------------------


def test_a_wrong_argument_is_refused_where_it_is_given(pool):
    cluster = RedisCluster("localhost")
    for wrong in (None, "redis://:s3cret@localhost", RedisPool, pool.client(), cluster):
        for make in (lifespan, connection, client):
            with pytest.raises(
                TypeError, match=r"^pool must be a .*(Redis|Sentinel)Pool"
            ) as caught:
                make(wrong)
            assert "s3cret" not in str(caught.value)
    with pytest.raises(TypeError, match="no pool is given"):
        lifespan()
    with pytest.raises(TypeError, match="a view opens and closes nothing"):
        lifespan(pool.view(limit=1))
    with pytest.raises(TypeError, match="timeout must be a number"):
        lifespan(pool, timeout="5")
    with pytest.raises(ValueError, match="timeout=-1"):
        connection(pool, timeout=-1)


def test_who_forgets_to_call_lifespan_is_told(pool):
    with pytest.raises(TypeError, match=r"not fastapi\.applications\.FastAPI"):
        lifespan(fastapi(pool))
