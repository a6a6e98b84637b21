"""A fair asyncio connection pool for Redis that loses nothing and says what is going on."""

from ._connector import Connector
from ._errors import (
    NotLent,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolTimeout,
    TooManyWaiters,
    WrongLoop,
)
from ._events import Listener
from ._pool import Pool
from ._stats import Holder, Stats, Waiting
from ._view import View
from .redis._cluster._client import RedisCluster
from .redis._pipelined import PipelinedRedis
from .redis._pool import RedisPool
from .redis._sentinel._pool import SentinelPool

__all__ = [
    "Connector",
    "Holder",
    "Listener",
    "NotLent",
    "PipelinedRedis",
    "Pool",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolTimeout",
    "RedisCluster",
    "RedisPool",
    "SentinelPool",
    "Stats",
    "TooManyWaiters",
    "View",
    "Waiting",
    "WrongLoop",
]
