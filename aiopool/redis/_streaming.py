"""Credentials that are renewed while connections are open."""

import logging
from typing import Any, Protocol
from weakref import WeakSet, finalize

from redis.auth.token import TokenInterface
from redis.credentials import StreamingCredentialProvider

logger = logging.getLogger("aiopool")


class Renewable(Protocol):
    """What is told of new tokens."""

    async def re_auth_callback(self, token: TokenInterface) -> None:
        """Take a new token."""
        ...


class Fan:
    """Tells all pools of one provider, for many a provider remembers the last callback only."""

    def __init__(self) -> None:
        self.pools: WeakSet[Renewable] = WeakSet()

    async def renew(self, token: TokenInterface) -> None:
        """Show the pools a new token."""
        for pool in list(self.pools):
            try:
                await pool.re_auth_callback(token)
            except Exception:
                logger.exception("a pool could not take new credentials")

    async def fail(self, error: Exception) -> None:
        """Log it, by its type only: what a provider says may quote credentials."""
        logger.error("credentials could not be renewed: %s", type(error).__name__)


_fans: dict[int, Fan] = {}  # by id() of the provider, which may be equal to another


def renew_from(provider: object, pool: Renewable) -> None:
    """Have a provider that renews its tokens tell the pool, which it does not keep alive.

    With redis-py's pools only a provider that was given to the client does so.
    """
    if not isinstance(provider, StreamingCredentialProvider):
        return
    fan = _fans.get(id(provider))
    if fan is None:
        fan = _fans[id(provider)] = Fan()
        finalize(provider, _fans.pop, id(provider), None).atexit = False
    fan.pools.add(pool)
    awaited: Any = provider  # what it calls it awaits, but redis-py's types don't say so
    awaited.on_next(fan.renew)
    awaited.on_error(fan.fail)
