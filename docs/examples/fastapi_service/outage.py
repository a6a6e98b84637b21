"""What clients are told while Redis is down, or hangs: 503, and not later than the deadline."""

import asyncio
import logging

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiopool.integrations.starlette import exception_handlers, unavailable

logger = logging.getLogger(__name__)


async def down(request: Request, error: Exception) -> Response:
    """Answer 503 for an error of redis-py's; the pool logs its own, but not these."""
    logger.warning("%s: %s: %s", request.url.path, type(error).__name__, error)
    return await unavailable(request, error)


handlers = {**exception_handlers, RedisConnectionError: down, RedisTimeoutError: down}


class Deadline:
    """Middleware: what has not begun to be answered after so many seconds is cancelled, and answered 503."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a WebSocket has no deadline."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def begin(message: Message) -> None:
            if limit.expired():  # what has been cancelled has nothing to say
                return
            limit.reschedule(None)  # from now on it may take as long as its reader likes
            await send(message)

        limit = asyncio.timeout(self.seconds)
        try:
            async with limit:
                await self.app(scope, receive, begin)
        except TimeoutError:
            if not limit.expired():  # it is the app's own
                raise
            logger.warning("%s: no answer within %g s", scope["path"], self.seconds)
            late = JSONResponse({"detail": "Service Unavailable"}, 503, {"Retry-After": "1"})
            await late(scope, receive, send)
