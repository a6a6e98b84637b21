"""coredis: its pool has callers wait, and several commands may be under way on one connection."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.contender import Client, Contender, Get, Lender, Place


@asynccontextmanager
async def _pool(place: Place) -> AsyncGenerator[Any]:
    pools: Any = import_module("coredis.pool")  # it need not be installed
    async with pools.ConnectionPool.from_url(
        place.url, max_connections=place.size, timeout=place.timeout
    ) as pool:
        yield pool


@asynccontextmanager
async def _lender(place: Place) -> AsyncGenerator[Lender]:
    """Lend connections to the server, for it has no others; that is no I/O either."""
    async with _pool(place) as pool:

        async def release(connection: object) -> None:
            pool.release(connection)

        yield Lender(pool.get_connection, release)


@asynccontextmanager
async def _client(place: Place) -> AsyncGenerator[Client]:
    coredis: Any = import_module("coredis")
    async with _pool(place) as pool, coredis.Redis(connection_pool=pool) as redis:

        async def pipeline(key: str, times: int) -> None:
            async with redis.pipeline(transaction=False) as commands:
                for _ in range(times):
                    commands.get(key)

        async def transaction(key: str) -> None:
            async with redis.pipeline(transaction=True) as commands:
                commands.incr(key)
                commands.expire(key, 60)

        yield Client(redis.get, redis.set, pipeline, transaction)


@asynccontextmanager
async def _cluster(place: Place) -> AsyncGenerator[Get]:
    coredis: Any = import_module("coredis")
    cluster = coredis.RedisCluster(
        *place.address,
        max_connections=place.size,
        max_connections_per_node=True,
        pool_timeout=place.timeout,
    )
    async with cluster:
        yield cluster.get
    for stream in cluster.connection_pool.cluster_layout._error_stream:  # noqa: SLF001 - it leaves it open
        stream.close()


COREDIS = Contender(
    "coredis",
    package="coredis",
    lender=_lender,
    client=_client,
    cluster=_cluster,
    needs=("coredis",),
)
