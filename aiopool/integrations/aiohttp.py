"""Pools in aiohttp's server: their lifetime, and 503 where there is no connection.

::

    pool = RedisPool("redis://localhost", max_size=20)
    app = web.Application(middlewares=[unavailable])
    app.cleanup_ctx.append(cleanup_ctx(pool))

    async def endpoint(request):
        async with request.app[POOL].connection() as conn: ...
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar, overload

from aiopool import Pool, PoolTimeout, RedisPool, TooManyWaiters
from aiopool._limits import seconds

from ._web import UNAVAILABLE, is_mixed, owner, retry_after

try:
    from aiohttp import web
    from aiohttp.typedefs import Handler
except ModuleNotFoundError as _error:
    _msg = f"aiopool.integrations.aiohttp needs {_error.name}: pip install 'aiopool[aiohttp]'"
    raise ModuleNotFoundError(_msg, name=_error.name) from _error

P = TypeVar("P", bound=Pool[Any] | RedisPool)

POOL: Final = web.AppKey("aiopool", RedisPool)
"""The key at which handlers find their app's pool, `request.app[POOL]`, and that of the app that theirs is a
sub-app of, `request.config_dict[POOL]`."""


@overload
def cleanup_ctx(
    pool: RedisPool, key: web.AppKey[RedisPool] = ..., *, timeout: float | None = ...
) -> Callable[[web.Application], AsyncIterator[None]]: ...
@overload
def cleanup_ctx(
    pool: P, key: web.AppKey[P], *, timeout: float | None = ...
) -> Callable[[web.Application], AsyncIterator[None]]: ...
def cleanup_ctx(
    pool: Pool[Any] | RedisPool, key: web.AppKey[Any] = POOL, *, timeout: float | None = 5.0
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Have an app open a pool when it starts, and close it when it ends.

    Of several, aiohttp closes the last one first. If one can't be opened (only one with a `min_size` can fail),
    the app does not start, and `web.run_app` closes those that were open. (With a `web.AppRunner` of your own
    `cleanup()` does: call it also if `setup()` has failed.) If that closing is cancelled, the grace of this pool is
    over, and aiohttp goes on to the others, which have theirs.

    Args:
        pool: A pool, not a view, which has nothing to open.
        key: Where handlers find it; one of your own for a second pool, or for one that is no `RedisPool`:
            `web.AppKey("phones", Pool)`.
        timeout: For how many seconds lent connections may still come back at the end. None waits for ever,
            0 not at all.

    Raises:
        TypeError: Not a pool, not a key, or `timeout` is no number.
        ValueError: `timeout` is out of range; or, when the app starts, another pool is at this key.

    """
    opened = owner(pool)
    if not isinstance(key, web.AppKey):  # pyright: ignore[reportUnnecessaryIsInstance] - not of who has no checker
        msg = f"key must be a web.AppKey, not {type(key).__qualname__}"
        raise TypeError(msg)
    seconds("timeout", timeout)

    async def running(app: web.Application) -> AsyncIterator[None]:
        if app.get(key, pool) is not pool:
            msg = f"this app has another pool at {key}: give one of them a key of its own"
            raise ValueError(msg)
        await opened.__aenter__()  # which leaves nothing open if it fails
        try:
            if key not in app:  # one that is started again may not be changed any more
                app[key] = pool
            yield
        finally:
            await opened.aclose(timeout)

    return running


@web.middleware
async def unavailable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 503 with `Retry-After` where there was no connection; of why, only the log tells.

    `Retry-After` is at least 1 and at most 30 seconds: the mean use so far, times the callers in line, by
    `max_size`, of the pool at that time, rounded up.

    It sees what handlers raise, and what middlewares after it do; a group, as a `TaskGroup` raises it, if there is
    nothing else in it. After the beginning of a response there can't
    be another one, and that of a WebSocket is its handshake: there the error goes on, and aiohttp ends the
    connection. To say 1013 ("try again later") instead, catch it in the handler and
    `await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER)`.
    """
    try:
        return await handler(request)
    except (PoolTimeout, TooManyWaiters, ExceptionGroup) as error:
        if request.writer.output_size or is_mixed(error):
            raise
        headers = {"Retry-After": str(retry_after(error))}
        return web.json_response(UNAVAILABLE, status=503, headers=headers)
