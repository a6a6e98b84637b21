"""Those that take part: what the service sends its commands through."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

from aiopool import RedisPool

CONNECTIONS = 10

# Makes the service's own pool, and what sends its commands if that is no client of the pool; by the URL of the
# server, and by the seconds that a command may wait for a connection.
Make = Callable[[str, float], tuple[RedisPool, Redis | None]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One that takes part."""

    name: str
    make: Make
    always: bool = True
    """Whether also where there is no overload."""


def _ours(url: str, timeout: float, *, shed: bool = False) -> RedisPool:
    return RedisPool(url, max_size=CONNECTIONS, timeout=timeout, shed=shed, decode_responses=True)


# The service has a RedisPool in any case, for its streams and workers, of which there are none here.


def _blocking(url: str, timeout: float) -> tuple[RedisPool, Redis | None]:
    return _ours(url, timeout), _client_of(BlockingConnectionPool, url, timeout=timeout)


def _raising(url: str, timeout: float) -> tuple[RedisPool, Redis | None]:
    return _ours(url, timeout), _client_of(ConnectionPool, url)


def _client_of(kind: Any, url: str, **options: Any) -> Redis:
    pool = kind.from_url(url, max_connections=CONNECTIONS, decode_responses=True, **options)
    return Redis(connection_pool=pool)


def _pipelined(url: str, timeout: float) -> tuple[RedisPool, Redis | None]:
    pool = _ours(url, timeout)
    return pool, pool.pipelined()


BLOCKING = Contender("BlockingConnectionPool", _blocking)
OURS = Contender("`pool.client()`", lambda url, timeout: (_ours(url, timeout), None))
ALL: Sequence[Contender] = (
    BLOCKING,
    Contender("ConnectionPool", _raising),
    OURS,
    Contender(
        "`pool.client()`, `shed=True`",
        lambda url, timeout: (_ours(url, timeout, shed=True), None),
        always=False,
    ),
    Contender("`pool.pipelined()`", _pipelined),
)
BY_NAME: Mapping[str, Contender] = {contender.name: contender for contender in ALL}
