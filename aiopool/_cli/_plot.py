"""The picture of a measuring: throughput and times over the sizes."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ._advice import ENOUGH, percent
from ._measurement import Row


def plot(rows: Sequence[Row], max_size: int | None, title: str, path: Path) -> None:
    """Draw throughput and times over the sizes, with a line at the chosen one, in the format of the ending."""
    sizes = [row.size for row in rows]
    figure = Figure(figsize=(8, 7), layout="constrained")
    rates, times = figure.subplots(2, 1, sharex=True)
    rates.set_title(title)
    rates.errorbar(
        sizes,
        [row.throughput for row in rows],
        # Of the shares, which are free of what hit all sizes alike.
        yerr=[
            [row.throughput * (1 - row.share.low / row.share.middle) for row in rows],
            [row.throughput * (row.share.high / row.share.middle - 1) for row in rows],
        ],
        marker="o",
        capsize=3,
    )
    enough = ENOUGH * next(row.throughput for row in rows if row.best)
    rates.axhline(enough, linestyle=":", color="grey", label=f"{percent(ENOUGH)} % of the best")
    rates.set_ylim(bottom=0)
    rates.set_ylabel("requests per second")
    for name, values, line in (
        ("request, p99", [row.request_p99 for row in rows], "C1o-"),
        ("request, p50", [row.request_p50 for row in rows], "C1o--"),
        ("waiting for a connection, p99", [row.wait_p99 for row in rows], "C2s-"),
        ("waiting for a connection, p50", [row.wait_p50 for row in rows], "C2s--"),
    ):
        times.plot(sizes, [1000 * value for value in values], line, label=name, alpha=0.8)
    times.set_ylim(bottom=0)
    times.set_ylabel("milliseconds")
    times.set_xlabel("max_size")
    times.set_xscale("log")
    times.set_xticks(sizes, [str(size) for size in sizes])
    times.minorticks_off()
    for axes in (rates, times):
        if max_size is not None:
            axes.axvline(max_size, color="C3", linewidth=1, label=f"max_size={max_size}")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)  # pyright: ignore[reportUnknownMemberType] - kwargs are not annotated
