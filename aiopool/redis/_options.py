"""Reading redis-py's options: URLs, retries, and words for what can't be understood."""

import re
from copy import deepcopy
from difflib import get_close_matches
from inspect import signature
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry

from aiopool._limits import whole


def checked_class(connection_class: object) -> type[AbstractConnection]:
    """Refuse what can be no connection class."""
    if isinstance(connection_class, type) and issubclass(connection_class, AbstractConnection):
        return connection_class
    msg = (
        "connection_class must be a class derived from one of redis.asyncio.connection, "
        f"not {connection_class!r}"
    )
    raise TypeError(msg)


def checked_retry(retry: object) -> Retry:
    """Refuse the `Retry` of the synchronous redis, which would never try again, and anything else."""
    if not isinstance(retry, Retry):
        msg = f"retry must be a redis.asyncio.retry.Retry, not {retry!r} ({type(retry).__name__})"
        raise TypeError(msg)
    return retry


def agreed_size(max_size: int | None, max_connections: int | None) -> int:
    """Give the size that was told by one name, redis-py's or ours, or by both; 10 if by none."""
    if max_connections is not None:
        whole("max_connections", max_connections, 1)
        if max_size not in {None, max_connections}:
            msg = f"max_connections={max_connections} contradicts max_size={max_size}"
            raise ValueError(msg)
        return max_connections
    return 10 if max_size is None else max_size


def from_url(url: str) -> dict[str, Any]:
    """Read a URL with redis-py's reader, whose errors may quote a password that is not encoded."""
    try:
        return {**parse_url(url)}
    except ValueError as error:
        message = str(error)
    if not message.startswith(("Redis URL must", "Invalid value for", "Port out of range")):
        message = (
            "it can't be read; are special characters in user name and password encoded (%2F)?"
        )
    msg = f"url is no Redis URL: {message}"
    raise ValueError(msg)


def explained(error: TypeError, kind: str, tls: str, *classes: type) -> str:
    """Name an unknown option, and the known one that was meant, if one is like it.

    `kind` is the kind of pool, and `tls` says how that is told to use TLS.
    """
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return str(error)
    known = {name for c in classes for base in c.__mro__ for name in signature(base).parameters}
    similar = get_close_matches(unknown[1], known, n=1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    if similar == [unknown[1]]:
        hint = " that could stand in a URL: give it as a keyword"
    elif unknown[1].startswith("ssl"):
        hint = f"; for TLS use {tls}"
    return f"{kind} and its connections have no option {unknown[1]!r}{hint}"


def default_retry() -> Retry:
    """Give the retry policy that `Redis()` makes for itself, but not for a pool made by hand."""
    retry = deepcopy(signature(Redis).parameters["retry"].default)
    assert isinstance(retry, Retry)  # noqa: S101 - for the type checkers; a test watches redis-py
    return retry


def address(kwargs: dict[str, Any]) -> str:
    """Say which database it is, in a form that can't hold credentials."""
    where = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return f"{where}/{kwargs.get('db', 0)}"
