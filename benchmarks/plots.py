"""Results as plots, for the eye: PNG and SVG."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.figure import Figure as _Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .contenders import BARE, MEASURE, OURS
from .results import Run, Series, Setting, ratio

# matplotlib's own types know only a part of the keywords.
Axes: TypeAlias = Any
Figure: Callable[..., Any] = _Figure
Plot: TypeAlias = Callable[[Axes, Run, Setting], None]


@dataclass(frozen=True, slots=True)
class _Style:
    """How a contender is drawn: in colours that most colour-blind people can tell apart."""

    colour: str
    marker: str
    line: str = "-"


_STYLES = {
    "aiopool Pool": _Style("#8c3800", "o"),
    "aiopool RedisPool": _Style("#b34a00", "s"),
    "aiopool Redis(pool)": _Style("#d55e00", "D"),
    "aiopool pool.client()": _Style("#f08c3a", "^"),
    "aiopool pool.pipelined()": _Style("#d4a000", "X"),
    "BlockingConnectionPool": _Style("#0072b2", "o"),
    "ConnectionPool": _Style("#56b4e9", "s"),
    "coredis": _Style("#009e73", "v"),
    "valkey-glide": _Style("#cc79a7", "P"),
    BARE.name: _Style("#888888", "x", ":"),
}
_OTHER = _Style("#000000", "*")
_TAIL = ("50", "75", "90", "95", "99", "99.9", "100")


def draw(run: Run, titles: Mapping[str, str], folder: Path) -> list[Path]:
    """Draw what there is to be drawn, and give the files."""
    mpl.rcParams["svg.hashsalt"] = "aiopool"  # so that the same figures give the same files
    files: list[Path] = []
    for name, figure in _figures(run, titles):
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            path = folder / f"{name}{suffix}"
            options: dict[str, Any] = {"metadata": metadata, "dpi": 130}
            figure.savefig(path, **options)
            files.append(path)
    return files


def _figures(run: Run, titles: Mapping[str, str]) -> Iterable[tuple[str, Any]]:
    plots: Sequence[tuple[str, str, str, Plot]] = [
        ("lend", "throughput-lend", f"{titles['lend']}, 10 connections", _throughput("lend")),
        ("get", "throughput-get", f"{titles['get']}, 10 connections", _throughput("get")),
        ("get", "latency-get", f"{titles['get']}: 100 tasks, 10 connections", _latency),
        ("fairness", "waits", "100 tasks wait for 10 connections, held for 1 ms each", _waits),
    ]
    for scenario, name, title, plot in plots:
        if settings := list(dict.fromkeys(key[0] for key in run.keys if key[1] == scenario)):
            yield name, _figure(title, run, settings, plot, height=3.9)
    title = f"Beside redis-py's {MEASURE}"
    yield "overview", _figure(title, run, [run.keys[0][0]], _overview, height=9.3)


def _figure(title: str, run: Run, settings: Sequence[Setting], plot: Plot, *, height: float) -> Any:
    """Draw the settings side by side, on the same axes, with one legend for all."""
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    figure = Figure(figsize=(9 if columns == 1 else 11, 1.6 + height * rows), layout="constrained")
    figure.suptitle(title[0].upper() + title[1:], fontsize="x-large")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    named: dict[str, Any] = {}
    for axes, setting in zip(grid.flat, settings, strict=False):
        plot(axes, run, setting)
        axes.set_title(str(setting), fontsize="medium")
        axes.label_outer()
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    for axes in grid.flat[len(settings) :]:
        axes.set_visible(False)
    names = [name for name in _STYLES if name in named]
    names += named.keys() - set(names)
    legend = [named[name] for name in names]
    figure.legend(legend, names, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _look(name: str) -> dict[str, Any]:
    style = _STYLES.get(name, _OTHER)
    ours = name in OURS
    return {
        "label": name,
        "color": style.colour,
        "marker": style.marker,
        "linestyle": style.line,
        "linewidth": 2.6 if ours else 1.4,
        "markersize": 6 if ours else 5,
        "zorder": 3 if ours else 2,
    }


def _throughput(scenario: str) -> Plot:
    def plot(axes: Axes, run: Run, setting: Setting) -> None:
        lines: dict[str, list[Series]] = {}
        for where, name, case in run.keys:
            if (where, name) == (setting, scenario):
                for contender, series in run.at(where, name, case).items():
                    lines.setdefault(contender, []).append(series)
        for contender, points in lines.items():
            tasks = [series.tasks for series in points]
            look = _look(contender)
            axes.plot(tasks, [1 / series.middle for series in points], **look)
            axes.fill_between(
                tasks,
                [1 / max(series.samples) for series in points],
                [1 / min(series.samples) for series in points],
                color=look["color"],
                alpha=0.15,
                linewidth=0,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("tasks")
        axes.set_ylabel("operations per second")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_whole))
            axis.set_minor_formatter(NullFormatter())

    return plot


def _latency(axes: Axes, run: Run, setting: Setting) -> None:
    for contender, series in run.at(setting, "get", "100 tasks").items():
        at = series.latencies
        axes.plot(range(len(_TAIL)), [1000 * at[p] for p in _TAIL], **_look(contender))
    axes.set_yscale("log")
    axes.set_xticks(range(len(_TAIL)), [*_TAIL[:-1], "max"])
    axes.set_xlabel("percentile")
    axes.set_ylabel("milliseconds")
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _waits(axes: Axes, run: Run, setting: Setting) -> None:
    for where, name, case in run.keys:
        if (where, name) == (setting, "fairness"):
            for contender, series in run.at(where, name, case).items():
                shares = [float(percentile) for percentile in series.waits]
                waits = [1000 * seconds for seconds in series.waits.values()]
                axes.plot(waits, shares, **_look(contender))
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds in line")
    axes.set_ylabel("% of the lendings that waited no longer")
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


def _overview(axes: Axes, run: Run, setting: Setting) -> None:
    labels: list[str] = []
    for where, scenario, case in run.keys:
        measured = run.at(where, scenario, case)
        if where != setting or MEASURE not in measured or measured[MEASURE].unit != "s":
            continue
        for contender, series in measured.items():
            if contender == MEASURE:
                continue
            spread = ratio(measured[MEASURE], series)
            look = _look(contender) | {"linestyle": "none"}
            axes.plot([spread.middle], [len(labels)], **look)
            axes.hlines(len(labels), spread.least, spread.most, color=look["color"], alpha=0.4)
        labels.append(f"{scenario}: {case}")
    axes.axvline(1, color=_STYLES[MEASURE].colour, linewidth=1.4, label=MEASURE)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel("times as fast (the median, and the range of the rounds)")
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


def _whole(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _short(value: float, _: object) -> str:
    return f"{value:g}"
