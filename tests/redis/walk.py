"""The kit of the walk-through: a feature is used once on redis-py's pool and once on another one."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from servers import Server

from aiopool import PipelinedRedis, RedisPool


def made_by_redis(**keywords: Any) -> ConnectionPool:
    """Give the pool that `Redis()` makes itself, which is told more than one made by hand."""
    return Redis(**keywords).connection_pool


def never() -> Retry:
    """Give the retry policy that hides no error."""
    return Retry(NoBackoff(), 0)


class WithItsClient(RedisPool):
    """A pool of which the features are to be used through the client that it makes itself."""


class WithSharedConnections(RedisPool):
    """A pool of which the features are to be used through the client whose commands share connections."""


def client_of(pool: ConnectionPool, **keywords: Any) -> Redis:
    """Make a client of a pool in the way that is to be tried."""
    if isinstance(pool, WithItsClient):
        return pool.client(**keywords)
    if isinstance(pool, WithSharedConnections):
        if keywords.pop("single_connection_client", False):  # which has nothing to share
            return pool.pipelined(**keywords).client()
        return PipelinedRedis(pool, **keywords)
    return Redis(connection_pool=pool, **keywords)


class Make:
    """Makes pools of one kind that lead to the server, with redis-py's keywords, and closes them."""

    def __init__(self, pool_class: Callable[..., ConnectionPool], server: Server) -> None:
        self.pool_class = pool_class
        self.server = server
        self._made: list[ConnectionPool] = []

    def __call__(self, **keywords: Any) -> ConnectionPool:
        if not {"path", "host"} & keywords.keys():
            keywords = {"host": "127.0.0.1", "port": self.server.port, **keywords}
        return self.keep(self.pool_class(**keywords))

    def from_url(self, url: str, **keywords: Any) -> ConnectionPool:
        return self.keep(self.pool_class.from_url(url, **keywords))

    def client(self, **keywords: Any) -> Redis:
        return client_of(self(**keywords))

    def keep(self, pool: ConnectionPool) -> ConnectionPool:
        self._made.append(pool)
        return pool

    @property
    def impatient(self) -> dict[str, float]:
        """Keywords for a pool that soon tells that there is no connection left.

        redis-py's `ConnectionPool` always tells it at once, and has no keyword for it.
        """
        return {} if self.pool_class is ConnectionPool else {"timeout": 0.3}

    async def close(self) -> None:
        for pool in self._made:
            await pool.aclose()


OTHERS = BlockingConnectionPool, RedisPool, WithItsClient, WithSharedConnections

Feature = Callable[..., Awaitable[object]]
Step = Callable[[Make], Awaitable[object]]


class Walk:
    """Features, each with the pools on which it is tried."""

    def __init__(self) -> None:
        self.steps: list[Any] = []  # for pytest: the step, and redis-py's pool before the others

    def feature(self, function: Feature) -> Feature:
        """Add what all of redis-py's pools have."""
        self._add(function.__name__, function, ConnectionPool, *OTHERS)
        return function

    def of_the_plain_pool(self, function: Feature) -> Feature:
        """Add what redis-py has in its `ConnectionPool` only."""
        self._add(function.__name__, function, ConnectionPool, RedisPool)
        return function

    def of_the_blocking_pool(self, function: Feature) -> Feature:
        """Add what redis-py has in its `BlockingConnectionPool` only."""
        self._add(function.__name__, function, BlockingConnectionPool, RedisPool)
        return function

    def of_the_pool_that_redis_makes(self, function: Feature) -> Feature:
        """Add what redis-py's pools have when `Redis()` has made them."""
        self._add(function.__name__, function, made_by_redis, RedisPool)
        return function

    def with_each(self, table: dict[str, tuple[Any, ...]]) -> Callable[[Feature], Feature]:
        """Add a feature once for each row of a table, which holds further arguments."""

        def add(function: Feature) -> Feature:
            for name, row in table.items():

                async def step(make: Make, row: tuple[Any, ...] = row) -> object:
                    return await function(make, *row)

                self._add(
                    f"{function.__name__}-{name}",
                    step,
                    ConnectionPool,
                    *OTHERS,
                )
            return function

        return add

    def _add(self, name: str, step: Step, *pools: Any) -> None:
        self.steps.append(pytest.param(step, pools, id=name))


async def agree(step: Step, pools: Sequence[Any], server: Server) -> None:
    """Use a feature on all of these pools: each is to tell what the first one tells."""
    first, *others = pools
    told = await transcript(step, first, server)
    for other in others:
        assert await transcript(step, other, server) == told, f"on {other.__name__}"


async def transcript(step: Step, pool_class: Any, server: Server) -> object:
    """Use a feature on the pools of one class, on an empty server, and give what it tells."""
    server.run("FLUSHALL")
    make = Make(pool_class, server)
    try:
        return await step(make)
    finally:
        await make.close()


# ---- for many features ---------------------------------------------------------------------------


async def ask(conn: Any, *command: Any) -> Any:
    """Send a command on a lent connection and read the reply."""
    await conn.send_command(*command)
    return await conn.read_response()


@contextmanager
def user(server: Server, name: str, password: str) -> Iterator[None]:
    """Let the server know a user who may do everything."""
    server.run("ACL", "SETUSER", name, "on", f">{password}", "~*", "&*", "+@all")
    try:
        yield
    finally:
        server.run("ACL", "DELUSER", name)


async def client_id(pool: ConnectionPool) -> int:
    """Say on which of the server's connections a command goes."""
    return await client_of(pool).client_id()


async def error_of(attempt: Awaitable[object]) -> RedisError:
    """Give the error of redis-py's that an attempt ends with."""
    with pytest.raises(RedisError) as caught:
        await attempt
    return caught.value


def counts(pool: ConnectionPool) -> list[int]:
    """Count the idle and the lent connections in redis-py's way."""
    return [count for count, _ in pool.get_connection_count()]
