"""The URL that a user gives: what can't be read in it, and what nobody shall read in it."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from redis.asyncio.connection import parse_url


class BadUrl(Exception):
    """A URL that no pool can be made of."""


@contextmanager
def reading_url() -> Generator[None]:
    """Refuse what the block can't read, or what contradicts its own options.

    Raises:
        BadUrl: redis-py or the pool does not take the URL.

    """
    try:
        yield
    except (ValueError, TypeError):
        # Without their message, which may quote what stands where the port should: a password.
        msg = "--url is no Redis URL, or one with options that can't be used here"
        raise BadUrl(msg) from None


def without_password(text: str, url: str | None) -> str:
    """Put an error in one line. Old servers repeat the password they do not understand."""
    with suppress(ValueError):  # what is no URL is not repeated by anybody
        password = parse_url(url or "redis://").get("password")
        if password:
            text = text.replace(password, "***").replace(quote(password, safe=""), "***")
    return " ".join(text.split())
