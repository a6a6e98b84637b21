"""redis-py's client without what most of a command's time goes to."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from time import monotonic
from typing import Any, cast

import redis.asyncio.client
from redis.asyncio import Redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.observability.providers import get_observability_instance

from ._lean import is_redis_pys

theirs = cast("Any", Redis)  # not typed

# Their method, of a version of which the ways are known, if nobody has put something round it: libraries
# that trace commands do.
USUAL: Any = (
    theirs.execute_command
    if is_redis_pys(theirs.execute_command, redis.asyncio.client.__file__)
    else None
)

# Before commands of this name redis-py sends others.
_HIMPORT = "HIMPORT"
_TAKES_SEVERAL = frozenset([_HIMPORT, _HIMPORT.encode()])


async def called(callback: Callable[..., Any], reply: Any, options: dict[str, Any]) -> Any:
    """Give what a response callback makes of a reply, in redis-py's way."""
    options.pop("keys", None)  # for redis-py's cache
    result = callback(reply, **options)
    return await result if isawaitable(result) else result


class Client(Redis):
    """A `Redis` that writes a command and reads its reply in one coroutine, where that is all it takes.

    After an error, and wherever redis-py does more than that, it goes redis-py's own way.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's."""
        name = args[0]
        if (
            theirs.execute_command is not USUAL
            or self.single_connection_client
            or NEVER_DECODE in options
            or EMPTY_RESPONSE in options
            or not isinstance(name, (str, bytes))
            or name[: len(_HIMPORT)].upper() in _TAKES_SEVERAL
            or get_observability_instance().is_enabled()
        ):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # not typed
        pool = self.connection_pool
        conn: Any = await pool.get_connection()  # type: ignore[no-untyped-call]  # likewise
        try:
            try:
                send_now = getattr(conn, "send_now", None)  # which not all that a pool lends has
                if send_now is None or not send_now(args):
                    await conn.send_command(*args)
                reply = await conn.read_response()
                callback = self.response_callbacks.get(name)
                return reply if callback is None else await called(callback, reply, options)
            except Exception as error:  # noqa: BLE001 - redis-py decides what becomes of it
                return await self._after(error, conn, args, options)
        finally:
            await pool.release(conn)

    async def _after(
        self, error: Exception, conn: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Do what redis-py does after this error of the first try."""
        first: list[Exception] = [error]
        del error  # or, when raised again, it would refer to itself by way of this frame
        started = monotonic()  # for telemetry, which is off
        again = cast("Any", self._send_command_parse_response)  # pyright: ignore[reportUnknownMemberType] - not typed

        def attempt() -> Any:
            if first:
                raise first.pop()
            return again(conn, args[0], *args, **options)

        def failed(error: Exception, failures: int) -> Awaitable[None]:
            return self._close_connection(conn, error, failures, started, args[0])

        return await conn.retry.call_with_retry(attempt, failed, with_failure_count=True)
