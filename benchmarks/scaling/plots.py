"""The results as plots."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as _Figure

from .day import Day
from .lifetime import Expiry
from .restart import NAIVE, OURS, WITHOUT_JITTER, Restart
from .server import BIN
from .studies import Results

Figure: Callable[..., Any] = _Figure  # matplotlib's own types know only a part of the keywords
_COLOURS = {0: "#d55e00", 1: "#0072b2", 2: "#009e73", 3: "#888888"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what there is to be drawn, and give the files."""
    figures: dict[str, Any] = {}
    if results.restarts:
        figures["restart"] = _restart(results.restarts)
    if results.lifetimes:
        figures["lifetime"] = _lifetime(results.lifetimes)
    if results.days:
        figures["day"] = _day(results.days)
    files: list[Path] = []
    for name, figure in figures.items():
        path = folder / f"scaling-{name}.png"
        figure.savefig(path, dpi=100, metadata={"Software": None})
        files.append(path)
    return files


def _axes(title: str, columns: int = 1) -> tuple[Any, list[Any]]:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(1, columns, sharey=True, squeeze=False)
    for axes in grid.flat:
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(grid.flat)


def _restart(restarts: Sequence[Restart]) -> Any:
    shown = [OURS.name, WITHOUT_JITTER.name, NAIVE.name]
    wanted = [each for each in restarts if each.variant in shown]
    most = max(each.processes for each in wanted)
    shortest = min(each.down for each in wanted)
    wanted = [each for each in wanted if each.processes == most and each.down == shortest]
    greetings = list(dict.fromkeys(each.greeting for each in wanted))
    title = f"Dials in each 10 ms of {most:,} processes, the server being back at 0"
    figure, grid = _axes(title, len(greetings))
    for axes, greeting in zip(grid, greetings, strict=True):
        for each in sorted(wanted, key=lambda each: -shown.index(each.variant)):
            if each.greeting == greeting:
                first, last = round(-shortest / BIN) - 10, round(5 / BIN)
                bins = {round(when / BIN): dials for when, dials in each.by_bin.items()}
                axes.step(
                    [n * BIN for n in range(first, last)],
                    [bins.get(n, 0) for n in range(first, last)],
                    color=_COLOURS[shown.index(each.variant)],
                    label=each.variant,
                    linewidth=1,
                )
        axes.axvspan(-shortest, 0, color="#dddddd", alpha=0.5, linewidth=0)
        axes.set_title(f"a greeting takes {greeting * 1000:g} ms", fontsize="medium")
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds")
    grid[0].set_ylabel("dials")
    grid[0].legend(loc="upper right")
    return figure


def _lifetime(expiries: Sequence[Expiry]) -> Any:
    jitters = sorted({each.jitter for each in expiries}, reverse=True)
    spans = list(dict.fromkeys(each.within for each in expiries))
    figure, grid = _axes(
        "Dials in each minute, by the jitter of max_lifetime (an hour)", len(spans)
    )
    for axes, within in zip(grid, spans, strict=True):
        group = [each for each in expiries if each.within == within]
        for each in group:
            last = max(map(int, each.by_minute))
            axes.step(
                range(last + 1),
                [each.by_minute.get(minute, 0) for minute in range(last + 1)],
                color=_COLOURS[jitters.index(each.jitter)],
                label=f"{each.jitter:.1%}",
            )
        axes.set_title(f"all were opened within {within:g} s", fontsize="medium")
        axes.set_xlabel("minutes")
    grid[0].set_ylabel("dials")
    grid[0].legend(frameon=False)
    return figure


def _day(days: Sequence[Day]) -> Any:
    figure, (axes,) = _axes("Connections of a process by day and night, by max_idle")
    for number, each in enumerate(days):
        minutes = [step * each.length / len(each.last_day) / 60 for step in range(len(each.open))]
        name = "None" if each.max_idle is None else f"{each.max_idle:g} s"
        axes.plot(minutes, each.open, color=_COLOURS[number], label=f"open, max_idle={name}")
        if each is days[-1]:
            axes.plot(minutes, each.in_use, color=_COLOURS[3], linestyle=":", label="in use (mean)")
    axes.set_xlabel(f"minutes (a day takes {days[0].length / 60:g})")
    axes.set_ylim(bottom=0)
    figure.legend(frameon=False, loc="outside right")
    return figure
