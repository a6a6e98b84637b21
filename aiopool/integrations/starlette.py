"""Pools in Starlette and FastAPI: their lifetime, FastAPI's dependencies, and 503 where there is no connection.

::

    pool = RedisPool("redis://localhost", max_size=20)
    app = FastAPI(lifespan=lifespan(pool), exception_handlers=exception_handlers)

Needs Starlette only.
"""

from asyncio import CancelledError
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Generic, Protocol, overload

from redis.asyncio import Redis

from aiopool import Pool, PoolTimeout, RedisPool, TooManyWaiters, View
from aiopool._lending import C_co, Lending
from aiopool._limits import seconds
from aiopool.redis._errors import PoolTimeout as RedisPoolTimeout
from aiopool.redis._errors import TooManyWaiters as RedisTooManyWaiters

from ._web import TRY_AGAIN_LATER, UNAVAILABLE, Owner, check, is_mixed, owner, retry_after

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
except ModuleNotFoundError as _error:
    _msg = f"aiopool.integrations.starlette needs {_error.name}: pip install 'aiopool[web]'"
    raise ModuleNotFoundError(_msg, name=_error.name) from _error

# ---- lifetime ----------------------------------------------------------------------------------------


def lifespan(
    *pools: Owner, timeout: float | None = 5.0
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Have an app open pools when it starts, in this order, and close them when it ends, in reverse.

    ::

        app = FastAPI(lifespan=lifespan(pool))

    If one can't be opened (only one with a `min_size` can fail), or starting is cancelled, those that
    were open are closed, and the app does not start. An app that is started again opens them again.

    Beside something of your own it is a block in your own lifespan::

        @asynccontextmanager
        async def everything(app):
            async with lifespan(pool)(app), something_else():
                yield

    Starlette starts the outermost app only, not what is mounted in it: so give it the pools of all. An app
    closes its pools whoever else uses them. So where several apps of one process share a pool, have what is
    outside of them all open and close it.

    If that closing is cancelled, this pool and the others are closed without further grace.

    Args:
        pools: Pools, not views, which have nothing to open.
        timeout: For how many seconds lent connections may still come back to each pool at the end. None
            waits for ever, 0 not at all.

    Raises:
        TypeError: Not a pool, or none; or `timeout` is no number.
        ValueError: `timeout` is out of range.

    """
    owners = [owner(pool) for pool in pools]
    if not owners:
        msg = "no pool is given to lifespan()"
        raise TypeError(msg)
    seconds("timeout", timeout)

    @asynccontextmanager
    async def running(_app: object) -> AsyncGenerator[None]:
        grace = timeout

        async def close(pool: Owner) -> None:
            nonlocal grace
            try:
                await pool.aclose(grace)
            except CancelledError:
                grace = 0.0  # there is no time for the others, either
                raise

        async with AsyncExitStack() as closing:
            for each in owners:
                await each.__aenter__()  # which leaves nothing open if it fails
                closing.push_async_callback(close, each)
            yield

    return running


# ---- dependencies ------------------------------------------------------------------------------------


class _Lends(Protocol[C_co]):
    def connection(self, *, timeout: float | EllipsisType | None = ...) -> Lending[C_co]: ...


# Dependencies are compared, since FastAPI shares what equal ones give within a request, and looks them up
# among those that a test overrides.


@dataclass(frozen=True)
class _Connection(Generic[C_co]):
    pool: _Lends[C_co]
    timeout: float | EllipsisType | None

    async def __call__(self) -> AsyncGenerator[C_co]:
        async with self.pool.connection(timeout=self.timeout) as conn:
            yield conn


@dataclass(frozen=True)
class _Client:
    pool: RedisPool
    client: Redis = field(compare=False)

    async def __call__(self) -> Redis:
        return self.client


def connection(
    pool: _Lends[C_co], *, timeout: float | EllipsisType | None = ...
) -> Callable[[], AsyncGenerator[C_co]]:
    """Make a dependency of FastAPI's that lends a connection for as long as the endpoint runs.

    ::

        Conn = Annotated[Connection, Depends(connection(pool), scope="function")]

        @app.get("/")
        async def endpoint(conn: Conn): ...

    However many dependencies of a request ask for it, it is one connection: FastAPI asks equal dependencies
    once, and those of the same pool and timeout are equal. (So `app.dependency_overrides[connection(pool)]`
    works, too.) It is given back however the endpoint ends.

    Mind the `scope="function"`, which FastAPI has since 0.121. Without it the connection is given back only
    when the response has been sent, which takes as long as a slow reader likes, and when background tasks are
    done. So what the response or a background task needs, it has to lend itself.

    Args:
        pool: A `Pool`, `RedisPool` or `SentinelPool`, or a view of one.
        timeout: Seconds that the lending may take; left out, it is the pool's. See `Pool.acquire`, also for
            what is raised in place of the endpoint.

    Raises:
        TypeError: Not a pool, or `timeout` is no number.
        ValueError: `timeout` is out of range.

    """
    check(
        pool,
        "a Pool, RedisPool or SentinelPool of aiopool, or a view of one",
        Pool,
        View,
        RedisPool,
    )
    if timeout is not ...:
        seconds("timeout", timeout)
    return _Connection(pool, timeout)


def client(pool: RedisPool) -> Callable[[], Coroutine[Any, Any, Redis]]:
    """Make a dependency of FastAPI's that gives a client of the pool, always the same one.

    ::

        Client = Annotated[Redis, Depends(client(pool))]

    It lends a connection for each command, and none in between: so most endpoints need nothing else. (A client
    that you have made yourself, with `pool.pipelined()` for instance, needs no help: use it as it is.)

    Args:
        pool: A `RedisPool` or `SentinelPool`, or a view of one.

    Raises:
        TypeError: Not such a pool.

    """
    check(pool, "a RedisPool or SentinelPool of aiopool, or a view of one", RedisPool)
    return _Client(pool, pool.client())


# ---- no connection -----------------------------------------------------------------------------------


@overload
async def unavailable(request: Request, error: Exception) -> Response: ...
@overload
async def unavailable(request: WebSocket, error: Exception) -> None: ...
async def unavailable(request: Request | WebSocket, error: Exception) -> Response | None:
    """Answer 503 with `Retry-After` where there was no connection; of why, only the log tells.

    `Retry-After` is at least 1 and at most 30 seconds: the mean use so far, times the callers in line, by
    `max_size`, of the pool at that time, rounded up.

    A WebSocket is closed with 1013, which means "try again later", if it has been accepted; before, its
    handshake is answered with the same 503 if the server can do that, else it is closed unopened.

    This is an exception handler. Those see nothing of what middleware raises: there, catch the error and
    `return await unavailable(request, error)`. After the beginning of a response there can't be another one.

    Raises:
        ExceptionGroup: The `error`, if it is a group in which there is another as well.

    """
    if is_mixed(error):
        raise error
    response = JSONResponse(UNAVAILABLE, 503, {"Retry-After": str(retry_after(error))})
    if isinstance(request, Request):
        return response
    state, extensions = request.application_state, request.scope.get("extensions", {})
    with suppress(WebSocketDisconnect):  # it is gone
        if state is WebSocketState.CONNECTING and "websocket.http.response" in extensions:
            try:
                await request.send_denial_response(response)
            # It is open. A `WebSocketEndpoint` has a `WebSocket` of its own, of which this one knows nothing.
            except RuntimeError:
                request.application_state = WebSocketState.CONNECTED
                await request.close(TRY_AGAIN_LATER)
        elif state in {WebSocketState.CONNECTING, WebSocketState.CONNECTED}:
            await request.close(TRY_AGAIN_LATER)
    return None


exception_handlers: dict[
    int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]
] = dict.fromkeys(
    [PoolTimeout, TooManyWaiters, RedisPoolTimeout, RedisTooManyWaiters, ExceptionGroup],
    unavailable,
)
"""For `Starlette(exception_handlers=...)` and `FastAPI(exception_handlers=...)`, of each app that is to answer so:
a mounted one answers for itself. With handlers of your own: `{**exception_handlers, ...}`.

Those that a `RedisPool` raises are named as well, so that a handler of redis-py's `ConnectionError`, which they are
too, gets the others only. A group, as a `TaskGroup` raises it, is answered so if there is nothing else in it; any other
goes on, to the handler of 500."""
