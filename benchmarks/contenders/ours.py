"""aiopool, by each of the faces that it has for its users."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

from redis.asyncio import Redis

from aiopool import Pool, RedisCluster, RedisPool
from benchmarks.contender import Client, Contender, Get, Lender, Place

from .redis_py import client_of
from .silent import silent_connections


class Nothing:
    """A connection to nowhere."""


class NothingConnector:
    """Opens connections to nowhere: what is left is the pool's own price."""

    async def open(self) -> Nothing:
        """Make one."""
        return Nothing()

    async def check(self, conn: Nothing, /) -> None:
        """Be content."""

    def is_usable(self, conn: Nothing, /) -> bool:  # noqa: ARG002 - the interface
        """Be content."""
        return True

    def close(self, conn: Nothing, /) -> None:
        """Have nothing to do."""


@asynccontextmanager
async def _core(place: Place) -> AsyncGenerator[Lender]:
    async with Pool(NothingConnector(), max_size=place.size, timeout=place.timeout) as pool:
        yield Lender(pool.acquire, pool.release)


@asynccontextmanager
async def _raw_lender(place: Place) -> AsyncGenerator[Lender]:
    with silent_connections() as silent:
        async with RedisPool(
            connection_class=silent, max_size=place.size, timeout=place.timeout
        ) as pool:
            yield Lender(pool.acquire, pool.release)


@asynccontextmanager
async def _raw(place: Place) -> AsyncGenerator[Client]:
    async with RedisPool(place.url, max_size=place.size, timeout=place.timeout) as pool:

        async def get(key: str) -> None:
            async with pool.connection() as connection:
                await connection.send_command("GET", key)
                await connection.read_response()

        async def set_(key: str, value: bytes) -> None:
            async with pool.connection() as connection:
                await connection.send_command("SET", key, value)
                await connection.read_response()

        async def together(*commands: tuple[str | int, ...]) -> None:
            async with pool.connection() as connection:
                await connection.send_packed_command(connection.pack_commands(commands))
                for _ in commands:
                    await connection.read_response()

        async def pipeline(key: str, times: int) -> None:
            await together(*[("GET", key)] * times)

        async def transaction(key: str) -> None:
            await together(("MULTI",), ("INCR", key), ("EXPIRE", key, 60), ("EXEC",))

        yield Client(get, set_, pipeline, transaction)


@asynccontextmanager
async def _client(face: Callable[[RedisPool], Redis], place: Place) -> AsyncGenerator[Client]:
    async with (
        RedisPool(place.url, max_size=place.size, timeout=place.timeout) as pool,
        face(pool) as redis,
    ):
        yield client_of(redis)


def _behind_redis(pool: RedisPool) -> Redis:
    return Redis(connection_pool=pool)


@asynccontextmanager
async def _cluster(lanes: int | None, place: Place) -> AsyncGenerator[Get]:
    host, port = place.address
    async with RedisCluster(
        host, port, max_size=place.size, timeout=place.timeout, lanes=lanes
    ) as cluster:
        yield cluster.get


CORE = Contender("aiopool Pool", ours=True, lender=_core)
RAW = Contender("aiopool RedisPool", ours=True, lender=_raw_lender, client=_raw)
BEHIND_REDIS = Contender("aiopool Redis(pool)", ours=True, client=partial(_client, _behind_redis))
CLIENT = Contender("aiopool pool.client()", ours=True, client=partial(_client, RedisPool.client))
PIPELINED = Contender(
    "aiopool pool.pipelined()", ours=True, client=partial(_client, RedisPool.pipelined)
)
CLUSTER = Contender("aiopool RedisCluster", ours=True, cluster=partial(_cluster, None))
LANES = Contender("aiopool RedisCluster, lanes=1", ours=True, cluster=partial(_cluster, 1))
