"""Credentials that are renewed while connections are open."""

import logging
from typing import Any, Protocol
from weakref import ref

from redis.auth.token import TokenInterface
from redis.credentials import StreamingCredentialProvider

logger = logging.getLogger("aiopool")


class Renewable(Protocol):
    """What is told of new tokens."""

    async def re_auth_callback(self, token: TokenInterface) -> None:
        """Take a new token."""
        ...


def renew_from(provider: object, pool: Renewable) -> None:
    """Have a provider that renews its tokens tell the pool, which it does not keep alive.

    With redis-py's pools only a provider that was given to the client does so.
    """
    if not isinstance(provider, StreamingCredentialProvider):
        return
    weakly = ref(pool)

    async def renew(token: TokenInterface) -> None:
        if (pool := weakly()) is not None:
            await pool.re_auth_callback(token)

    async def tell(error: Exception) -> None:
        # By its type only: what a provider says may quote credentials.
        logger.error("credentials could not be renewed: %s", type(error).__name__)

    awaited: Any = provider  # what it calls it awaits, but redis-py's types don't say so
    awaited.on_next(renew)
    awaited.on_error(tell)
