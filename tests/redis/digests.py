"""Digests of the source of redis-py's functions, so that a test can tell when one has changed."""

import hashlib
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def digest(function: Callable[..., Any] | type) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    return hashlib.sha256(source.encode()).hexdigest()[:8]


def changed(function: Callable[..., Any] | type, ours: str) -> str:
    """Say what to do about it."""
    return (
        f"redis-py has changed {function.__qualname__}(): see whether {ours} still do the same, "
        "then note the new digest here"
    )
