"""Who has not given back what was lent meanwhile, in whichever pool: for tests."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any
from weakref import ref

from aiopool import Pool
from aiopool._events import Listener, everywhere
from aiopool._idle import Entry, Stack
from aiopool._places import Places
from aiopool._stats import in_words, stack_of_the_caller, task_of


@dataclass
class _Lent:
    """A connection that is not back yet. Neither it nor who has it is kept alive by this."""

    pool: str | None
    task: "ref[asyncio.Task[Any]]"
    name: str
    stack: Stack
    # If the pool has closed it under its holder: where it stays until that gives it back.
    severed: Mapping[int, object] | None = None

    def is_lost(self, test: CodeType | None) -> bool:
        """Whether nobody is left who could give it back. Who is at work still may do so.

        But not the test, which has ended. (It may be part of a task that has not: with anyio.)
        """
        task = self.task()
        return (
            task is None
            or task.done()
            or task.get_loop().is_closed()
            or any(code is test for code, _ in self.stack)
        )


class Watch(Listener):
    """Hears from all pools what is lent and comes back, until it is stopped."""

    def __init__(self) -> None:
        self._lent: dict[tuple[ref[Pool[Any]], int], _Lent] = {}
        self._stop = everywhere(self)

    def lent(self, pool: Pool[Any], conn: object, _waited: float, /) -> None:
        """Note who gets it."""
        places: Places[Any] | None = getattr(pool, "_places", None)
        entry: Entry[Any] | None = None if places is None else places.lent.get(id(conn))
        # Commands that share a connection have none each.
        if entry is not None and (task := task_of(entry)) is not None:
            self._lent[ref(pool), id(conn)] = _Lent(
                pool.name, ref(task), task.get_name(), stack_of_the_caller()
            )

    def returned(self, pool: Pool[Any], conn: object, _used: float, /) -> None:
        """Forget it."""
        self._lent.pop((ref(pool), id(conn)), None)

    def closed(self, pool: Pool[Any], conn: object, _reason: str, /) -> None:
        """Note that who gives it back now is not told of."""
        if (lent := self._lent.get((ref(pool), id(conn)))) is not None:
            lent.severed = getattr(pool, "_severed", {})

    def stop(self, test: CodeType | None) -> str | None:
        """Hear no more; says what this test has leaked, if anything."""
        self._stop()
        lost = [
            lent
            for (_, key), lent in list(self._lent.items())  # another thread may be at work
            if (lent.severed is None or key in lent.severed) and lent.is_lost(test)
        ]
        if not lost:
            return None
        what = "a connection was" if len(lost) == 1 else f"{len(lost)} connections were"
        return "\n".join([f"{what} not given back:", *map(_described, lost)])


def _described(lent: _Lent) -> str:
    calls = "".join(f"\n    {in_words(call)}" for call in lent.stack)
    pool = "a pool without a name" if lent.pool is None else f"pool {lent.pool!r}"
    return f"  {pool} lent it to task {lent.name!r}, in{calls or ' no code of yours'}"
