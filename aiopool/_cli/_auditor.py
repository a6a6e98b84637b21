"""What the server says, asked beside the pool: the check must not rest on what it checks."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from aiopool import RedisPool

from ._names import LIFETIME, Names
from ._report import server_version


class Auditor:
    """Looks at the server over a connection of redis-py's own pool."""

    def __init__(self, client: Redis, names: Names) -> None:
        self._client = client
        self._names = names
        self._last: set[str] = set()
        self.seen: int | None = None
        """The most connections of the run that the server had at once; None: it did not tell.

        Of any two looks in a row, only those count that were there both times: a server may notice
        the end of one connection after the beginning of its successor.
        """

    async def look(self) -> None:
        """Look which connections of the run the server has now."""
        try:
            clients = await self._client.client_list()  # pyright: ignore[reportUnknownMemberType] - kwargs are not annotated
        except RedisError:  # not every user may; if the server is gone, the check will say so
            return
        present = {client["id"] for client in clients if client["name"] == self._names.run}
        self.seen = max(self.seen or 0, len(present & self._last))
        self._last = present

    async def count(self) -> int:
        """Read what the counter stands at."""
        return int(await self._client.get(self._names.counter) or 0)

    async def missing(self, requests: Iterable[int]) -> list[int]:
        """Tell which of these requests do not have their token under their key."""
        wanted = sorted(requests)
        if not wanted:
            return []
        found = await self._client.mget([self._names.key(request) for request in wanted])
        tokens = [self._names.token(request) for request in wanted]
        return [
            request
            for request, token, value in zip(wanted, tokens, found, strict=True)
            if value not in (token, token.encode())
        ]

    async def version(self) -> str:
        """Say which server it is."""
        return await server_version(self._client)


@asynccontextmanager
async def auditing(pool: RedisPool, names: Names, requests: int) -> AsyncGenerator[Auditor]:
    """Prepare the server for the run; at the end nothing of it is left there."""
    settings: dict[str, Any] = pool.connection_kwargs | {"client_name": f"{names.run}-auditor"}
    async with Redis.from_pool(ConnectionPool(pool.connection_class, **settings)) as client:
        await client.set(names.counter, 0, ex=LIFETIME)
        try:
            yield Auditor(client, names)
        finally:
            await client.delete(names.counter, *map(names.key, range(requests)))
