"""Whether a task can get at a connection that another has acquired, as far as can be seen."""

import asyncio
import gc
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, cast

from ._idle import Entry
from ._stats import Holder

# Through so many containers and objects from a local variable: an `AsyncExitStack`'s has the connection in a
# deque, a tuple, a method and a context manager.
DEPTH = 5
# After so many references the search ends, and a connection is taken to be in reach: the event loop waits.
MOST = 20_000

_CALLS = Coroutine, Generator, AsyncGenerator
# Everybody has these, or nobody can do anything with what they hold: a failed task's error has its frames,
# and the tables of the pool have entries, and pictures of them.
_DEAD_ENDS = ModuleType, type, CodeType, FrameType, BaseException, Entry, Holder


def others_reach(
    conns: Iterable[object],
    connector: object,
    loop: asyncio.AbstractEventLoop,
    cannot: Callable[["asyncio.Task[object]"], bool],
    *ended: "asyncio.Task[object]",
) -> bool:
    """Whether a task of this loop can get at one of these, other than those that `cannot` use it.

    That is if it is in a local variable of a call, or not far from one. Who acquired it may have handed it
    on, and is then not who gives it back. A task that has `ended` can have handed on its result. The
    connector may keep books of its own: by way of these nobody gets at what is lent.
    """
    sought = {id(conn) for conn in conns}
    tasks = [*ended, *(task for task in asyncio.all_tasks(loop) if not cannot(task))]
    found: deque[tuple[Any, int]] = deque(
        (other, DEPTH) for task in tasks for other in gc.get_referents(task)
    )
    left = MOST
    # How far the search went on from each: what was met at its limit may be met again before that.
    seen: dict[int, int] = {}
    while found:  # the near ones first: there are more of the far ones
        thing, depth = found.popleft()
        if id(thing) in sought:
            return True
        # Not isinstance(), which asks the object: a lazy one may do whatever it likes then, or raise.
        kind = cast("type[object]", type(thing))
        if thing is connector or issubclass(kind, _DEAD_ENDS):
            continue
        if issubclass(kind, asyncio.Future) and not thing.done():
            continue  # who knows a task has not what that has
        # The variables of a call that is suspended are what it refers to, as is the call it awaits.
        if issubclass(kind, _CALLS):
            depth = DEPTH + 1
        if seen.get(id(thing), 0) >= depth:
            continue
        seen[id(thing)] = depth
        others = gc.get_referents(*_inside(thing) if kind is FunctionType else (thing,))
        left -= len(others)
        if left < 0:
            return True
        found += [(other, depth - 1) for other in others]
    return False


def _inside(function: FunctionType) -> list[object]:
    """List what a function has for itself: not the variables of its module, which everybody has."""
    return [*(function.__closure__ or ()), function.__defaults__, function.__kwdefaults__]
