"""What is on the server: the keys that scenarios read, and the values that they find there."""

from typing import Any

from redis import Redis

SMALL, MIDDLING, LARGE = "small", "middling", "large"
_SIZES = {SMALL: 32, MIDDLING: 16 * 1024, LARGE: 1024 * 1024}


def value_of(key: str) -> bytes:
    """Give what is there."""
    return b"x" * _SIZES[key]


def store(url: str) -> None:
    """Put all of them on the server."""
    with _client(url) as redis:
        redis.mset({key: value_of(key) for key in _SIZES})


def version(url: str) -> str:
    """Ask the server which it is."""
    with _client(url) as redis:
        return str(redis.info("server")["redis_version"])


def _client(url: str) -> Any:
    return Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - typed in parts
