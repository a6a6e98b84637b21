"""The pool of the demo: small and impatient, so that within seconds all can be seen that it does."""

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aiopool import RedisPool

from ._url import reading_url

MAX_IDLE = 1.2
TIMEOUT = 0.25


def make_pool(url: str) -> RedisPool:
    """Make the pool; nothing is opened yet.

    Raises:
        BadUrl: redis-py does not take the URL, or its options contradict the demo's.

    """
    with reading_url():
        return RedisPool(
            url,
            max_size=10,
            min_size=2,
            timeout=TIMEOUT,
            max_idle=MAX_IDLE,
            retry=Retry(NoBackoff(), 0),  # an increment tried again might count twice
        )
