"""The last minute of each pool, as far as it was watched."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aiopool import Stats

from ._snapshot import Snapshot

MINUTE = 60.0
Key: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Point:
    """A pool at one moment, and what it did since the moment before, if that was seen."""

    time: float
    stats: Stats
    acquires: float | None = None
    """Per second."""
    wait: float | None = None
    """Seconds in the line, the mean of those who left it with a connection or too late."""


class History:
    """Remembers a minute."""

    def __init__(self) -> None:
        self._pid: int | None = None
        self._points: dict[Key, deque[Point]] = {}

    def add(self, snapshot: Snapshot) -> list[Sequence[Point]]:
        """Take one more picture of everything; gives the points of its pools, the new one last.

        A pool is known by its name and its place, and another process has another history.
        """
        before = self._points if snapshot.pid == self._pid else {}
        self._pid, self._points = snapshot.pid, {}
        for number, pool in enumerate(snapshot.pools):
            key = pool.name, number
            points = before.get(key, deque())
            points.append(_point(snapshot.time, pool.stats, points[-1] if points else None))
            while points[0].time < snapshot.time - MINUTE:
                points.popleft()
            self._points[key] = points
        return [*self._points.values()]


def _point(time: float, stats: Stats, last: Point | None) -> Point:
    if last is None or time <= last.time or stats.acquired < last.stats.acquired:
        return Point(time, stats)
    acquired = stats.acquired - last.stats.acquired
    left = acquired + stats.timed_out - last.stats.timed_out
    waited = stats.wait_seconds - last.stats.wait_seconds
    return Point(time, stats, acquired / (time - last.time), waited / left if left else 0.0)


def spark(values: Sequence[tuple[float, float]], columns: int, least: float) -> str:
    """Draw numbers, each with its age in seconds, as a line of blocks; now is at the right.

    A column has the greatest of its numbers, and is empty if there is none. The highest block stands for
    `least` or, if there is more, for the most: noise shall not look big.
    """
    most = max([least, *(value for _, value in values)])
    heights: dict[int, int] = {}
    for age, value in values:
        column = columns - 1 - round(age * columns / MINUTE)
        heights[column] = max(round(7 * value / most), heights.get(column, 0))
    return "".join("▁▂▃▄▅▆▇█"[heights[n]] if n in heights else " " for n in range(columns))
