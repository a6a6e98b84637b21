"""The pool of the demo: small and impatient, so that within seconds all can be seen that it does."""

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aiopool import RedisPool

MAX_IDLE = 1.2
TIMEOUT = 0.25


class BadUrl(Exception):
    """A URL that no pool can be made of."""


def make_pool(url: str) -> RedisPool:
    """Make the pool; nothing is opened yet.

    Raises:
        BadUrl: redis-py does not take the URL, or its options contradict the demo's.

    """
    try:
        return RedisPool(
            url,
            max_size=10,
            min_size=2,
            timeout=TIMEOUT,
            max_idle=MAX_IDLE,
            retry=Retry(NoBackoff(), 0),  # an increment tried again might count twice
        )
    except (ValueError, TypeError):
        # Without their message, which may quote what stands where the port should: a password.
        msg = "--url is no Redis URL, or one with options that the demo can't use"
        raise BadUrl(msg) from None
