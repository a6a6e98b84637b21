"""Who has not given back what was lent meanwhile, in whichever pool: for tests."""

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any
from weakref import ref

from aiopool import Pool
from aiopool._events import Listener, everywhere
from aiopool._idle import Entry, Stack
from aiopool._places import Places
from aiopool._reach import others_reach
from aiopool._stats import in_words, stack_of_the_caller, task_of


@dataclass
class _Lent:
    """A connection that is not back yet. Neither it nor who has it is kept alive by this."""

    pool: str | None
    task: "ref[asyncio.Task[Any]]"
    loop: "ref[asyncio.AbstractEventLoop]"
    name: str
    stack: Stack
    # If the pool has closed it under its holder: where it stays until that gives it back.
    severed: Mapping[int, Entry[Any]] | None = None


class Watch(Listener):
    """Hears from all pools what is lent and comes back, until it is stopped."""

    def __init__(self) -> None:
        self._lent: dict[tuple[ref[Pool[Any]], int], _Lent] = {}
        self._ending: set[CodeType] = set()
        self._stop = everywhere(self)

    def lent(self, pool: Pool[Any], conn: object, _waited: float, /) -> None:
        """Note who gets it."""
        places: Places[Any] | None = getattr(pool, "_places", None)
        entry: Entry[Any] | None = None if places is None else places.lent.get(id(conn))
        # Commands that share a connection have none each.
        if entry is not None and (task := task_of(entry)) is not None:
            self._lent[ref(pool), id(conn)] = _Lent(
                pool.name, ref(task), ref(task.get_loop()), task.get_name(), stack_of_the_caller()
            )

    def returned(self, pool: Pool[Any], conn: object, _used: float, /) -> None:
        """Forget it."""
        self._lent.pop((ref(pool), id(conn)), None)

    def closed(self, pool: Pool[Any], conn: object, _reason: str, /) -> None:
        """Note that who gives it back now is not told of."""
        if (lent := self._lent.get((ref(pool), id(conn)))) is not None:
            lent.severed = getattr(pool, "_severed", {})

    def ends_with_the_test(self, function: object) -> None:
        """Note a function whose calls have ended when this is stopped, in whichever task."""
        if (code := getattr(function, "__code__", None)) is not None:
            self._ending.add(code)

    @contextmanager
    def pardon(self) -> Generator[None]:
        """Forget what is lent meanwhile."""
        before = self._lent.copy()
        yield
        for key, lent in self._lent.copy().items():
            if before.get(key) is not lent:
                self._lent.pop(key, None)

    def stop(self) -> str | None:
        """Hear no more; says what was leaked meanwhile, if anything."""
        self._stop()
        lost = [
            lent
            for (pool, key), lent in self._lent.copy().items()  # another thread may be at work
            if (lent.severed is None or key in lent.severed) and self._is_lost(lent, pool(), key)
        ]
        if not lost:
            return None
        what = "a connection was" if len(lost) == 1 else f"{len(lost)} connections were"
        return "\n".join([f"{what} not given back:", *map(_described, lost)])

    def _is_lost(self, lent: _Lent, pool: Pool[Any] | None, key: int) -> bool:
        """Whether nobody is left who could give it back. Who is at work still may do so.

        But not who has ended, as the test and its fixtures have, though they may be part of a task that has
        not: with anyio. If a task has ended, it may have handed it on to another.
        """
        task, loop = lent.task(), lent.loop()
        if loop is None or loop.is_closed() or any(code in self._ending for code, _ in lent.stack):
            return True
        if task is not None and not task.done():
            return False
        places: Places[Any] | None = getattr(pool, "_places", None)
        place = lent.severed if places is None or lent.severed is not None else places.lent
        entry = None if place is None else place.get(key)
        connector = getattr(pool, "_connector", None)
        return entry is None or not others_reach([entry.conn], connector, loop, lambda _task: False)


def _described(lent: _Lent) -> str:
    calls = "".join(f"\n    {in_words(call)}" for call in lent.stack)
    pool = "a pool without a name" if lent.pool is None else f"pool {lent.pool!r}"
    return f"  {pool} lent it to task {lent.name!r}, in{calls or ' no code of yours'}"
