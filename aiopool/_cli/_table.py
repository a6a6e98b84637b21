"""The measuring as it is seen: a bar while it lasts, a table at its end."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ._advice import ENOUGH, ms, percent
from ._measurement import Row
from ._rounds import Show


@contextmanager
def progress(console: Console, sizes: int, rounds: int) -> Generator[Show]:
    """Show how far it is, on a terminal."""
    if (
        not console.is_terminal
    ):  # where rich before version 15 says something even if it is disabled
        yield lambda _size, _number: None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=2,  # it takes its time from what is measured
        transient=True,
    )
    with bar:
        begun = 0
        task = bar.add_task("", total=sizes * rounds)

        def show(size: int, number: int) -> None:
            nonlocal begun
            description = f"round {number + 1} of {rounds}, max_size={size}"
            bar.update(task, completed=begun, description=description)
            begun += 1

        yield show


def table(rows: Sequence[Row], max_size: int | None) -> RenderableType:
    """Make the table of all sizes; the chosen one stands out, those that are not enough stand back."""
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    some_failed = any(row.failed for row in rows)
    for title in (
        "max_\nsize",
        "requests\n/ second",
        "% of\nbest",
        "\nspread",
        "wait\nms p50",
        "\np99",
        "request\nms p50",
        "\np99",
        "mean\nin use",
        *["\nfailed"] * some_failed,
    ):
        grid.add_column(title, justify="right")
    for row in rows:
        grid.add_row(
            str(row.size),
            f"{row.throughput:,.0f}",
            percent(row.share.middle),
            f"{percent(row.share.low)}-{percent(row.share.high)}",
            ms(row.wait_p50),
            ms(row.wait_p99),
            ms(row.request_p50),
            ms(row.request_p99),
            f"{row.in_use:.1f}",
            *[f"{row.failed:,}"] * some_failed,
            style=_style(row, max_size),
        )
    return grid


def failures(rows: Sequence[Row]) -> list[str]:
    """Say in a sentence which errors there were, if any."""
    errors: Counter[str] = Counter()
    for row in rows:
        errors.update(row.errors)
    listed = ", ".join(f"{count:,} {name}" for name, count in errors.most_common())
    return [f"Failed requests: {listed}."] if listed else []


def _style(row: Row, max_size: int | None) -> str:
    if row.size == max_size:
        return "bold green"
    return "" if row.sound and row.share.middle >= ENOUGH else "dim"
