"""Pools for libraries, and many tasks at once on them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from servers import STRICT, Server

from aiopool import RedisPool

T = TypeVar("T")


class MakePool:
    """Makes pools for a library, without retries that would hide an error."""

    def __init__(self, server: Server) -> None:
        self._url = server.url
        self.pools: list[RedisPool] = []

    def __call__(self, **options: Any) -> RedisPool:
        return self.adopting(RedisPool)(self._url, **STRICT, **options)

    def adopting(self, make: Callable[..., RedisPool]) -> Callable[..., RedisPool]:
        """Give what makes pools likewise, for a library that does so itself."""

        def adopted(*args: Any, **options: Any) -> RedisPool:
            self.pools.append(make(*args, **options))
            return self.pools[-1]

        return adopted


def nobody_went_without(pool: RedisPool) -> bool:
    """Whether everybody who asked for a connection got one."""
    stats = pool.stats()
    return stats.acquired > 0 and (stats.timed_out, stats.rejected) == (0, 0)


async def storm(call: Callable[[int], Awaitable[T]], *, tasks: int = 200) -> list[T]:
    """Make a call in so many tasks and cancel every fifth, each one turn of the loop later.

    Give what the others got; whatever else than a cancellation one of them ended with is raised.
    """
    running = [asyncio.ensure_future(call(number)) for number in range(tasks)]
    for task in running[::5]:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait(running)
    assert any(task.cancelled() for task in running), "all were done before they could be cancelled"
    return [task.result() for task in running if not task.cancelled()]
