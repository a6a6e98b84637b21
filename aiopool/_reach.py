"""Whether a task can get at a connection that another has acquired, as far as can be seen."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import CodeType, FrameType, FunctionType, ModuleType

from ._idle import Entry

# Through so many containers and objects from a local variable.
DEPTH = 3
# After so many objects of one task the search ends, and it is taken to have the connection.
MOST = 10_000

_CALLS = Coroutine, Generator, AsyncGenerator
# Everybody has these, or nobody can do anything with what they hold: a failed task's error has its frames,
# and the tables of the pool have entries.
_DEAD_ENDS = ModuleType, type, FunctionType, CodeType, FrameType, BaseException, Entry


def others_reach(
    conn: object,
    loop: asyncio.AbstractEventLoop,
    cannot: Callable[["asyncio.Task[object]"], bool],
) -> bool:
    """Whether a task of this loop can get at the connection, other than those that `cannot` use it.

    It may have been handed on: who acquired it is then not who gives it back.
    """
    return any(reaches(conn, task) for task in asyncio.all_tasks(loop) if not cannot(task))


def reaches(conn: object, task: "asyncio.Task[object]") -> bool:
    """Whether the connection is in a local variable of this task's calls, or not far from one.

    Of a task that has ended, whether it is its result, or not far from it.
    """
    found = [(other, DEPTH) for other in gc.get_referents(task)]
    seen: set[int] = set()
    while found:
        thing, depth = found.pop()
        if thing is conn:
            return True
        if id(thing) in seen or isinstance(thing, _DEAD_ENDS):
            continue
        seen.add(id(thing))
        if len(seen) > MOST:
            return True
        if isinstance(thing, asyncio.Future) and not thing.done():
            continue  # who knows a task has not what that has
        # The variables of a call that is suspended are what it refers to, as is the call it awaits.
        if isinstance(thing, _CALLS):
            depth = DEPTH + 1
        if depth:
            found.extend((other, depth - 1) for other in gc.get_referents(thing))
    return False
