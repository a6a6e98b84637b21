"""redis-py's own pools: one has callers wait, the other raises; and its cluster, which raises, too."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis, RedisCluster

from benchmarks.contender import Client, Contender, Get, Lender, Place

from .silent import silent_connections


def client_of(redis: Any) -> Client:
    """Make a client of a `Redis`, whose type tells too little of its methods."""

    async def pipeline(key: str, times: int) -> None:
        async with redis.pipeline(transaction=False) as commands:
            for _ in range(times):
                commands.get(key)
            await commands.execute()

    async def transaction(key: str) -> None:
        async with redis.pipeline() as commands:
            commands.incr(key)
            commands.expire(key, 60)
            await commands.execute()

    return Client(redis.get, redis.set, pipeline, transaction)


def _options(pool: type[ConnectionPool], place: Place) -> dict[str, Any]:
    options: dict[str, Any] = {"max_connections": place.size}
    return options | ({"timeout": place.timeout} if pool is BlockingConnectionPool else {})


@asynccontextmanager
async def _lender(pool: type[ConnectionPool], place: Place) -> AsyncGenerator[Lender]:
    with silent_connections() as silent:
        # A host, though nobody is there: without it redis-py's pools do less than they do with a URL.
        async with pool(
            connection_class=silent, host="localhost", **_options(pool, place)
        ) as lender:
            yield Lender(lender.get_connection, lender.release)


@asynccontextmanager
async def _client(pool: type[ConnectionPool], place: Place) -> AsyncGenerator[Client]:
    kind: Any = pool  # typed in parts
    lender = kind.from_url(place.url, **_options(pool, place))
    async with Redis.from_pool(lender) as redis:  # which closes the pool
        yield client_of(redis)


@asynccontextmanager
async def _cluster(place: Place) -> AsyncGenerator[Get]:
    kind: Any = RedisCluster  # typed in parts
    host, port = place.address
    async with kind(host, port, max_connections=place.size) as cluster:
        yield cluster.get


BLOCKING = Contender(
    "BlockingConnectionPool",
    lender=partial(_lender, BlockingConnectionPool),
    client=partial(_client, BlockingConnectionPool),
)
RAISING = Contender(
    "ConnectionPool",
    lender=partial(_lender, ConnectionPool),
    client=partial(_client, ConnectionPool),
    waits=False,
)
THEIR_CLUSTER = Contender("redis-py's RedisCluster", cluster=_cluster, waits=False)
