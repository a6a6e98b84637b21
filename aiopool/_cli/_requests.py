"""The requests of `aiopool bench`, made as a program makes them: through redis-py's client."""

import asyncio
from time import perf_counter
from typing import Any

from redis.asyncio.connection import AbstractConnection

from aiopool import RedisPool

LIFETIME = 300  # seconds, after which a key goes by itself, should nobody be left to delete it
_PIPELINED = 20


class TimedPool(RedisPool):
    """Notes how long each lending takes."""

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - the pool's
        super().__init__(url, **options)
        self.waits: list[float] = []
        """How long each caller waited that got a connection."""

    async def get_connection(  # type: ignore[override]  # mypy calls what it returns a Coroutine
        self, command_name: str | None = None, *keys: object, **options: object
    ) -> AbstractConnection:
        """Lend a connection; redis-py's client calls this for each command or pipeline."""
        asked = perf_counter()  # finer than the time of some event loops
        connection = await super().get_connection(command_name, *keys, **options)
        self.waits.append(perf_counter() - asked)
        return connection


class Requests:
    """A method for each kind of request; all of them with the same key."""

    def __init__(self, pool: TimedPool, key: str, value: str, slow: float) -> None:
        self._pool = pool
        self._client = pool.client()
        self._key = key
        self._value = value
        self._slow = slow

    async def get(self) -> None:
        """Read the value."""
        await self._client.get(self._key)

    async def set(self) -> None:
        """Write the value."""
        await self._client.set(self._key, self._value, ex=LIFETIME)

    async def pipeline(self) -> None:
        """Read the value many times, in one go."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for _ in range(_PIPELINED):
                pipeline.get(self._key)
            await pipeline.execute()

    async def transaction(self) -> None:
        """Write and read the value in one transaction."""
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.set(self._key, self._value, ex=LIFETIME)
            pipeline.get(self._key)
            await pipeline.execute()

    async def slow(self) -> None:
        """Read the value as if it took long. The waiting is done here, so no server is kept busy."""
        connection = await self._pool.get_connection()
        try:
            await connection.send_command("GET", self._key)
            await connection.read_response()
            await asyncio.sleep(self._slow)
        finally:
            await self._pool.release(connection)
