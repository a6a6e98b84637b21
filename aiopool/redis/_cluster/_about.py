"""Whether a task is about a command in redis-py's way, and since when.

If redis-py closes all then, that is its way to have the topology read anew, or since it could not be
read. But the connections are other commands' too.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

_about: ContextVar[tuple[asyncio.Task[Any] | None, int]] = ContextVar("about", default=(None, 0))


@contextmanager
def for_a_command(since: int) -> Generator[None]:
    """Be about a command meanwhile, in this task; `since` says how often the client was closed before."""
    since = since if (begun := command_since()) is None else begun
    token = _about.set((asyncio.current_task(), since))
    try:
        yield
    finally:
        with suppress(ValueError):  # a coroutine that nobody ran to its end is ended in any context
            _about.reset(token)


def command_since() -> int | None:
    """Say how often the client was closed before this task's command; None if it is about none."""
    task, since = _about.get()  # perhaps of the task that has begun this one
    return since if task is not None and task is asyncio.current_task() else None


def about_a_command() -> bool:
    """Whether this task is about a command."""
    return command_since() is not None
