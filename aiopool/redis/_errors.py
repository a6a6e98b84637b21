"""aiopool's errors as redis-py's: code written for redis-py's pools catches them as before."""

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError

import aiopool._errors as core


class _Outspoken(Exception):
    def __repr__(self) -> str:
        """Tell the message, which redis-py's own leaves out."""
        return f"{type(self).__name__}({str(self)!r})"


class PoolClosed(_Outspoken, RedisConnectionError, core.PoolClosed):
    """The pool was closed with `aclose()`; `open()` would start it again."""


class PoolTimeout(_Outspoken, MaxConnectionsError, core.PoolTimeout):
    """No connection came free in time. `__cause__` is the last failed opening, if any failed."""


class PoolDeadlock(PoolTimeout, core.PoolDeadlock):
    """None can come free: each is held by a task that itself waits for one. Mostly before the time is up."""


class TooManyWaiters(_Outspoken, MaxConnectionsError, core.TooManyWaiters):
    """`max_waiting` callers wait already, or more than can be served in time; turned away at once."""
