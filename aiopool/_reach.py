"""Whether a task can get at a connection that another has acquired, as far as can be seen."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from types import CodeType, FrameType, FunctionType, ModuleType

# Through so many containers and objects from a local variable. It takes more to find the connections
# that a pool has in its own tables.
DEPTH = 3
# After so many objects of one task the search ends, and it is taken to have the connection.
MOST = 10_000

_CALLS = Coroutine, Generator, AsyncGenerator
# Everybody has these, or nobody can do anything with what they hold: a failed task's error has its frames.
_DEAD_ENDS = ModuleType, type, FunctionType, CodeType, FrameType, BaseException, str, bytes


def others_reach(
    conn: object,
    loop: asyncio.AbstractEventLoop,
    cannot: Callable[["asyncio.Task[object]"], bool],
) -> bool:
    """Whether a task of this loop can get at the connection, other than those that `cannot` use it.

    It may have been handed on: who acquired it is then not who gives it back.
    """
    return any(reaches(conn, [task]) for task in asyncio.all_tasks(loop) if not cannot(task))


def reaches(conn: object, roots: Iterable[object]) -> bool:
    """Whether the connection is in a local variable of these calls, or not far from one."""
    found = [(root, DEPTH) for root in roots]
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
        # The variables of a call that is suspended are what it refers to, as is what it awaits.
        if isinstance(thing, (*_CALLS, asyncio.Future)):
            depth = DEPTH + 1
        if depth:
            found.extend((other, depth - 1) for other in gc.get_referents(thing))
    return False
