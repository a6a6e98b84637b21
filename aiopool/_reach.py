"""Whether a task can get at a connection that another has acquired, as far as can be seen."""

import asyncio
import gc
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from itertools import chain
from types import CodeType, FrameType, FunctionType, ModuleType

from ._idle import Entry

# Through so many containers and objects from a local variable.
DEPTH = 3
# After so many objects, some hundredths of a second, the search ends as if one had been found.
MOST = 100_000

_CALLS = Coroutine, Generator, AsyncGenerator
# Everybody has these, or nobody can do anything with what they hold: a failed task's error has its frames,
# and the tables of the pool have entries.
_DEAD_ENDS = ModuleType, type, FunctionType, CodeType, FrameType, BaseException, Entry


def others_reach(
    conns: Iterable[object],
    loop: asyncio.AbstractEventLoop,
    cannot: Callable[["asyncio.Task[object]"], bool],
    *ended: "asyncio.Task[object]",
    own: object,
) -> bool:
    """Whether a task of this loop can get at one of these, other than those that `cannot` use it.

    That is if it is in a local variable of a call, or not far from one. Who acquired it may have handed it
    on, and is then not who gives it back. A task that has `ended` can have handed on its result. By way of
    the pool's `own` connector, which may know all, nobody gives anything back.
    """
    sought = {id(conn) for conn in conns}
    left = MOST
    for task in chain(ended, asyncio.all_tasks(loop)):
        if task not in ended and cannot(task):
            continue
        seen = {id(own)}
        found = deque((other, DEPTH) for other in gc.get_referents(task))
        while found:
            thing, depth = found.popleft()
            left -= 1
            if id(thing) in sought or not left:
                return True
            if id(thing) in seen or isinstance(thing, _DEAD_ENDS):
                continue
            seen.add(id(thing))
            if isinstance(thing, asyncio.Future) and not thing.done():
                continue  # who knows a task has not what that has
            # The variables of a call that is suspended are what it refers to, as is the call it awaits.
            if isinstance(thing, _CALLS):
                depth = DEPTH + 1
            if depth:
                found.extend((other, depth - 1) for other in gc.get_referents(thing))
    return False
