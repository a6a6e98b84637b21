"""The keys that scenarios read, and the values that they find there."""

from redis import Redis

SMALL, MIDDLING, LARGE = "small", "middling", "large"
_SIZES = {SMALL: 32, MIDDLING: 16 * 1024, LARGE: 1024 * 1024}


def value_of(key: str) -> bytes:
    """Give what is there."""
    return b"x" * _SIZES[key]


def store(url: str) -> None:
    """Put all of them on the server."""
    with Redis.from_url(url) as redis:
        redis.mset({key: value_of(key) for key in _SIZES})
