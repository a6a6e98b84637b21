"""A cache with expiry in front of a slow origin."""

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis

FRESH = 10  # seconds for which a value is good
PATIENCE = 5.0  # seconds that the origin may take


class Cache:
    """Remembers what the origin says. Of all who miss a value, in all processes, one asks for it."""

    def __init__(self, redis: Redis, ask: Callable[[str], Awaitable[str]]) -> None:
        self._redis = redis
        self._ask = ask
        self._fills: dict[str, asyncio.Task[str]] = {}

    async def get(self, name: str) -> str:
        """Give a value, from the cache or the origin."""
        if (value := await self._redis.get(f"cache:{name}")) is not None:
            return value
        if (fill := self._fills.get(name)) is None:
            fill = self._fills[name] = asyncio.create_task(self._fill(name))
            fill.add_done_callback(lambda _: self._fills.pop(name))
        return await asyncio.shield(fill)  # it is not this request's alone

    async def _fill(self, name: str) -> str:
        # Clients choose the names, so no value may have a key that could be a lock's.
        key, lock = f"cache:{name}", f"lock:{name}"
        # Of each process one asks for the lock, every 50 ms, and has no connection in between. If Redis loses
        # the lock meanwhile, another may ask the origin, too; the value is as good.
        async with self._redis.lock(
            lock, timeout=2 * PATIENCE, sleep=0.05, raise_on_release_error=False
        ):
            if (value := await self._redis.get(key)) is None:  # else another process has filled it
                async with asyncio.timeout(PATIENCE):
                    value = await self._ask(name)
                await self._redis.set(key, value, ex=FRESH)
            return value
