"""Tasks that are never eager."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def task_of(coroutine: Coroutine[Any, Any, T], name: str, context: Context) -> "asyncio.Task[T]":
    """Make a task that begins in a later turn of the loop, even where tasks are eager.

    An eager one would enter its context at once, in which whoever makes it may be already.
    """
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop(), name=name, context=context)
