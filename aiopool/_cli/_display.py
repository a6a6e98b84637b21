"""The run as it is seen: live while it lasts, as a table at its end."""

from collections import deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aiopool import Stats

from ._report import Report

_WIDTH = 78


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to be seen at one moment."""

    elapsed: float
    phase: str
    arrived: int
    ends: Mapping[str, int]
    stats: Stats


class Show(Protocol):
    """Is told every moment."""

    def __call__(self, moment: Moment, /) -> None:
        """Show it."""


def show_nothing(_moment: Moment, /) -> None:
    """Be a `Show` for whom nobody watches."""


@contextmanager
def live(console: Console) -> Generator[Show]:
    """Show every moment in place of the one before."""
    dashboard = _Dashboard()
    # No refreshing thread: moments come often enough, and the run has threads enough.
    with Live(console=console, auto_refresh=False) as screen:

        def show(moment: Moment) -> None:
            screen.update(dashboard.draw(moment), refresh=True)

        yield show


class _Dashboard:
    """Draws moments; knows the past as far as the bars need it."""

    def __init__(self) -> None:
        self._second: deque[tuple[float, int]] = deque()  # when, and how many had ended then
        self._most_waiting = 20
        self._most_ended = 100.0

    def draw(self, moment: Moment) -> RenderableType:
        stats = moment.stats
        rate = self._rate(moment)
        self._most_waiting = max(self._most_waiting, stats.waiting)
        self._most_ended = max(self._most_ended, rate)
        bars = Table.grid(padding=(0, 2), expand=True)
        bars.add_column(width=10)
        bars.add_column(width=5, justify="right")
        bars.add_column(ratio=1)
        for name, value, most, colour in (
            ("lent", stats.lent, stats.max_size, "green"),
            ("idle", stats.idle, stats.max_size, "cyan"),
            ("opening", stats.opening, stats.max_size, "yellow"),
            ("waiting", stats.waiting, self._most_waiting, "magenta"),
            ("requests/s", round(rate), self._most_ended, "blue"),
        ):
            bar = ProgressBar(most, value, complete_style=colour, finished_style=colour)
            bars.add_row(name, str(value), bar)
        ends = moment.ends
        bars.add_row()
        summary = (
            f"{moment.arrived} requests: {ends.get('finished', 0)} finished, "
            f"{ends.get('cancelled', 0)} cancelled, {ends.get('timed_out', 0)} timed out"
        )
        whole = Table.grid(expand=True)
        whole.add_row(bars)
        whole.add_row(Text(summary))
        whole.add_row(Text(f"{moment.elapsed:4.1f} s  {moment.phase}", style="bold"))
        title = f"aiopool: {stats.size} of at most {stats.max_size} connections"
        return Panel(whole, title=title, width=_WIDTH)

    def _rate(self, moment: Moment) -> float:
        ended = sum(moment.ends.values())
        self._second.append((moment.elapsed, ended))
        while self._second[0][0] < moment.elapsed - 1:
            self._second.popleft()
        return ended - self._second[0][1]


def table(report: Report) -> RenderableType:
    """Make the table of the end."""
    rows = Table(width=_WIDTH, show_header=False)
    rows.add_column(style="bold")
    rows.add_column()
    rows.add_row("requests", _listed(report.requests))
    rows.add_row("errors", _listed(report.errors) or "none")
    wait = report.wait
    rows.add_row("wait", f"p50 {_ms(wait['p50'])}, p99 {_ms(wait['p99'])}, max {_ms(wait['max'])}")
    if wait["longest_to_median"] is None:
        rows.add_row("fairness", "nobody had to wait")
    else:
        rows.add_row(
            "fairness",
            f"the longest wait was {wait['longest_to_median']:.1f} times the median of "
            f"{_ms(wait['queued_p50'])} (of the {wait['queued']} of {wait['lent']} who had to wait)",
        )
    connections = report.connections
    rows.add_row(
        "connections",
        f"{connections['opened']} opened; {connections['reaped']} reaped; closed by reason: "
        + (_listed(report.closed) or "none"),
    )
    if connections["most_by_server"] is None:
        by_server = "not told by the server"
    else:
        by_server = f"{connections['most_by_server']} by the server's CLIENT LIST"
    rows.add_row("most at once", f"{connections['most_by_pool']} by the pool's stats, {by_server}")
    rows.add_row("after quiet", f"{connections['after_quiet']} connections")
    rows.add_row("at the end", f"{connections['lent_at_once']} could be lent at once")
    check = report.check
    rows.add_row(
        "increments",
        f"{check['counted']} made: {check['confirmed']} confirmed and "
        f"{check['counted'] - check['confirmed']} of the {check['unknown']} that were cut off "
        "before their answer",
    )
    rows.add_row(
        "tokens", f"{check['stored']} stored, {check['missing']} missing, {check['wrong']} mixed up"
    )
    rows.add_row("played", f"{report.took:.1f} s on {report.versions['server']}")
    return rows


def conclusion(report: Report) -> Text:
    """Say how it ended."""
    if report.lost:
        return Text("\n".join(f"LOST: {loss}" for loss in report.lost), style="bold red")
    return Text(
        f"Nothing was lost or mixed up in {report.requests['arrived']} requests "
        f"over at most {report.connections['most_by_pool']} connections.",
        style="bold green",
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _ms(seconds: float | None) -> str:
    return "none" if seconds is None else f"{1000 * seconds:.1f} ms"
