"""A connection as the pool sees it, and the queue in which it rests while nobody uses it."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from types import CodeType
from typing import Generic, Protocol

from ._connector import C

# Calls, the innermost first, each a function and a line.
Stack = list[tuple[CodeType, int]]


class Named(Protocol):
    """Who has a connection: a task, or something else with a name."""

    def get_name(self) -> str:
        """Tell the name."""
        ...


class Entry(Generic[C]):
    """One connection and its times, all on the clock of its event loop.

    It says nothing about where the connection is: idle, lent or being checked is decided by the
    place that holds the entry, so no flag can be wrong.
    """

    __slots__ = (
        "checked_at",
        "conn",
        "doom",
        "expires",
        "fresh_until",
        "idle_since",
        "key",
        "lent_at",
        "opened_at",
        "stack",
        "task",
    )

    def __init__(self, conn: C, opened_at: float, expires: float) -> None:
        self.conn = conn
        self.key = id(conn)  # which need not be hashable
        self.opened_at = opened_at
        self.expires = expires  # from then on it is closed instead of lent
        self.doom = "max_lifetime"  # why it expires, for the statistics
        self.idle_since = 0.0
        # Till then a mere look is enough to lend it or to put it aside; never after `expires`.
        self.fresh_until = expires
        self.lent_at = 0.0
        self.checked_at = 0.0
        self.task: Named | None = None  # who has it
        self.stack: Stack | None = None  # of its acquisition, if that is looked at

    def condemn(self, reason: str) -> None:
        """Have it closed at the next chance, wherever it is now."""
        self.expires = self.fresh_until = -inf
        self.doom = reason


class IdleQueue(asyncio.LifoQueue[Entry[C]]):
    """Idle connections, the last returned on top, so that those not needed sink and grow old.

    Only the `_nowait` half of a queue is of use here: `asyncio.Queue.get` lets newcomers overtake
    whoever was woken. As nobody ever waits in it, there is nobody to wake, and what `put_nowait` and
    `get_nowait` do to that end, most of what they cost, is left out. `_init` is what CPython lets
    subclasses override; here it swaps the list for a deque, from whose old end the reaper takes.
    """

    _queue: deque[Entry[C]]
    entries: deque[Entry[C]]  # the same, to be looked at without a call

    def _init(self, maxsize: int) -> None:  # noqa: ARG002 - the signature is asyncio's
        self._queue = self.entries = deque()

    def put_nowait(self, item: Entry[C]) -> None:
        """Put an entry on top."""
        self._queue.append(item)

    def get_nowait(self) -> Entry[C]:
        """Take the entry on top; there must be one."""
        return self._queue.pop()

    def oldest_nowait(self) -> Entry[C]:
        """Take the entry at the bottom, which has been idle the longest."""
        return self._queue.popleft()

    def take(self, which: Callable[[Entry[C]], bool]) -> list[Entry[C]]:
        """Take those of which this is true, the longest idle first."""
        taken: list[Entry[C]] = []
        left: list[Entry[C]] = []
        for entry in self._queue:
            (taken if which(entry) else left).append(entry)
        if taken:
            self._queue.clear()
            self._queue.extend(left)
        return taken

    def __iter__(self) -> Iterator[Entry[C]]:
        """Go through all entries, the longest idle first, taking none."""
        return iter(self._queue)
