"""A limit for each client, kept in Redis: so it is one limit, however many processes serve."""

from math import ceil

from fastapi import HTTPException, Request
from redis.asyncio import Redis

WINDOW = 10  # seconds

# All in one step, however many ask at once. It gives the milliseconds that the client has to wait.
ALLOW = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if count <= tonumber(ARGV[1]) then return 0 end
return redis.call('PTTL', KEYS[1])
"""


class Limiter:
    """Lets each client make so many requests in a window; a dependency."""

    def __init__(self, redis: Redis, allowed: int) -> None:
        self._allow = redis.register_script(ALLOW)
        self._allowed = allowed

    async def __call__(self, request: Request) -> None:
        """Count a request.

        Raises:
            HTTPException: It is one too many: 429.

        """
        client = request.client.host if request.client else ""
        wait = await self._allow(keys=[f"limit:{client}"], args=[self._allowed, WINDOW])
        if wait > 0:
            raise HTTPException(429, "too many requests", {"Retry-After": str(ceil(wait / 1000))})
