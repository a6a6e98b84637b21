"""What `aiopool top` shows: each pool, or all in a table and those that are busiest, as far as there is room."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ._history import MINUTE, Point, spark
from ._snapshot import Picture, Taker

LONG = 5.0
"""Whoever has a connection for so many seconds is marked."""

_WIDE = 100  # with so many columns there is room for holders and line side by side
_FIXED = 11  # lines for a pool, at most, without holders and line
_LEAST = _FIXED + 4
_PARTS = (
    ("lent", "█", "green"),
    ("opening", "▓", "yellow"),
    ("idle", "▒", "cyan"),
    ("free", "·", "dim"),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A pool at one moment."""

    pool: Picture
    points: Sequence[Point]
    """Of the last minute."""
    process: str = ""
    """Whose it is, if there are several."""


@dataclass(frozen=True, slots=True)
class View:
    """All that is to be seen at one moment."""

    pools: Sequence[Seen]
    heads: Sequence[Text]
    """What stands above them, a line each."""


def picture(view: View, width: int, lines: int | None) -> RenderableType:
    """Draw it.

    Args:
        view: What to draw.
        width: Columns of the terminal.
        lines: How many there are; None: as many as it takes.

    """
    pools = view.pools
    fitting = len(pools)
    if lines is not None:
        lines -= len(view.heads)
        if len(pools) * _LEAST > lines:
            lines -= len(pools) + 1  # the table's
            fitting = max(0, lines) // _LEAST
    busiest = sorted(range(len(pools)), key=lambda n: _business(pools[n].pool), reverse=True)
    parts: list[RenderableType] = [*view.heads]
    if fitting < len(pools):
        parts.append(_overview(pools))
    room = None if lines is None else lines // max(1, fitting) - _FIXED
    parts += [_pool(pools[n], width, room) for n in sorted(busiest[:fitting])]
    return Group(*parts)


def _business(pool: Picture) -> tuple[int, float, int]:
    stats = pool.stats
    return stats.waiting, stats.lent / max(1, stats.max_size), stats.lent


def _overview(pools: Sequence[Seen]) -> RenderableType:
    several = any(seen.process for seen in pools)
    table = Table(expand=True, box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("pool", no_wrap=True, overflow="ellipsis", ratio=2)
    if several:
        table.add_column("process", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("lent", "idle", "waiting", "acq/s", "wait"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", ratio=1)
    for seen in pools:
        stats, last = seen.pool.stats, seen.points[-1]
        table.add_row(
            Text(seen.pool.name),
            *[Text(seen.process, style="dim")] * several,
            f"{stats.lent:,}/{stats.max_size:,}",
            f"{stats.idle:,}",
            Text(f"{stats.waiting:,}", style="bold magenta" if stats.waiting else ""),
            "" if last.acquires is None else _rate(last.acquires),
            "" if last.wait is None else duration(last.wait),
            _Spark(seen.points, lambda point: point.stats.lent, stats.max_size, "green"),
        )
    return table


def _pool(seen: Seen, width: int, room: int | None) -> RenderableType:
    """Draw a pool with so many lines for its holders and those who wait; None: as many as it takes."""
    pool = seen.pool
    wide = width >= _WIDE
    for_line = for_holders = room
    if room is not None and not wide:
        for_line = min(1 + len(pool.waiters) + bool(pool.more_waiters), room // 2)
        for_holders = room - for_line
    holders = _takers("holders", pool.holders, pool.more_holders, for_holders, where=wide)
    line = _takers("line", pool.waiters, pool.more_waiters, for_line, where=False)
    takers: RenderableType = Group(holders, line)
    if wide:
        takers = Table.grid(expand=True, padding=(0, 2, 0, 0))
        takers.add_column(ratio=3)
        takers.add_column(ratio=2)
        takers.add_row(holders, line)
    totals = _totals(pool)
    if room is not None:
        for text in totals:
            text.no_wrap, text.overflow = True, "ellipsis"
    parts = [_gauge(pool), _sparks(seen.points), takers, *totals]
    kind = "" if pool.name == pool.kind else f" {pool.kind}"
    whose = f"  process {seen.process}" if seen.process else ""
    title = Text.assemble((pool.name, "bold"), (f"{kind}{whose}", "dim"))
    return Panel(Group(*parts), title=title, title_align="left", padding=(0, 1), width=width)


def _gauge(pool: Picture) -> RenderableType:
    stats = pool.stats
    numbers = (stats.lent, stats.opening + stats.checking, stats.idle, pool.free)
    legend = Text(no_wrap=True, overflow="ellipsis")
    for (name, block, style), number in zip(_PARTS, numbers, strict=True):
        legend.append(block, style).append(f" {name} {number:,}  ")
    return Group(_Gauge(numbers), legend)


class _Gauge:
    """A bar of all connections that there may be."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bar, total, seen, drawn = Text(), max(1, sum(self._numbers)), 0, 0
        for (_, block, style), number in zip(_PARTS, self._numbers, strict=True):
            seen += number
            end = round(options.max_width * seen / total)
            if number and end == drawn < options.max_width:
                end += 1  # what there is is seen
            bar.append(block * (end - drawn), style)
            drawn = max(end, drawn)
        yield bar


def _sparks(points: Sequence[Point]) -> RenderableType:
    last = points[-1]
    table = Table.grid(expand=True, padding=(0, 2, 0, 0))
    table.add_column(width=10)
    table.add_column(width=8, justify="right", no_wrap=True)
    table.add_column(ratio=1)
    stats = last.stats
    rows = [
        (
            "lent",
            f"{stats.lent:,}",
            _Spark(points, lambda p: p.stats.lent, stats.max_size, "green"),
        ),
        ("waiting", f"{stats.waiting:,}", _Spark(points, lambda p: p.stats.waiting, 5, "magenta")),
    ]
    if last.acquires is not None and last.wait is not None:
        rows += [
            ("acquires/s", _rate(last.acquires), _Spark(points, lambda p: p.acquires, 10, "green")),
            ("mean wait", duration(last.wait), _Spark(points, lambda p: p.wait, 0.001, "magenta")),
        ]
    for name, value, line in rows:
        table.add_row(name, Text(value, style="bold"), line)
    return table


class _Spark:
    """The last minute of a number, as wide as there is room; a column is a second or more."""

    def __init__(
        self,
        points: Sequence[Point],
        of: Callable[[Point], float | None],
        least: float,
        style: str,
    ) -> None:
        now = points[-1].time
        self._values = [(now - p.time, value) for p in points if (value := of(p)) is not None]
        self._least = max(1e-9, least)
        self._style = style
        apart = [later.time - earlier.time for earlier, later in pairwise(points)]
        self._apart = max([1.0, *apart[-1:]])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = min(options.max_width, max(1, round(MINUTE / self._apart)))
        yield Text(spark(self._values, columns, self._least), style=self._style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)


def _takers(
    name: str, takers: Sequence[Taker], more: int, lines: int | None, *, where: bool
) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(width=9, justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    if where:
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    shown = takers
    if lines is not None and 1 + len(takers) + bool(more) > lines:
        shown = takers[: max(0, lines - 2)]
    more += len(takers) - len(shown)
    count = len(shown) + more
    table.add_row(Text(name, style="dim"), Text(f"{count:,}" if count else "nobody", style="dim"))
    for taker in shown:
        long = name == "holders" and (taker.ended or taker.age >= LONG)
        age = Text(duration(taker.age), style="bold yellow" if long else "")
        mark = Text("! " if long else "", style="bold yellow")
        # Before the name, of which there may be too much.
        task = Text("ended: " if taker.ended else "", style="bold yellow").append(
            taker.task, "none"
        )
        table.add_row(mark.append(age), task, *[Text(taker.where, style="dim")] * where)
    if more:
        table.add_row("", Text(f"and {more:,} more", style="dim"))
    return table


def _totals(pool: Picture) -> list[Text]:
    stats = pool.stats
    closed = sorted(stats.closed.items(), key=lambda item: -item[1])
    reasons = ", ".join(f"{times:,} {reason.replace('_', ' ')}" for reason, times in closed)
    lines = [
        Text(
            f"acquired {stats.acquired:,}, timed out {stats.timed_out:,}, "
            f"rejected {stats.rejected:,}; opened {stats.opened:,}, failed {stats.open_failed:,}"
        ),
        Text(f"loop blocked {duration(stats.blocked_seconds)}; closed: {reasons or 'none'}"),
    ]
    if pool.last_error is not None:
        lines.append(Text(f"the last opening failed: {pool.last_error}", style="bold red"))
    return lines


def duration(seconds: float) -> str:
    """Write a time in three digits or so."""
    minute = 60
    if seconds >= minute:
        return f"{int(seconds // minute):,}m {int(seconds % minute):02}s"
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.1f} s"
    if seconds >= 0.001:  # noqa: PLR2004 - a millisecond
        return f"{1000 * seconds:.3g} ms"
    return f"{1e6 * seconds:.0f} µs"


def _rate(per_second: float) -> str:
    ample = 10
    return f"{per_second:,.0f}" if per_second >= ample else f"{per_second:.1f}"
