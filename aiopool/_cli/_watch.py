"""`aiopool top` as it is seen: once, or until it is interrupted."""

import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ._process import Process, look_at
from ._screen import Seen, View, picture
from ._source import NoAnswer, shown

_MOST_GONE = 3
"""Of so many processes it is said why they do not answer, of more only how many."""


def show(targets: Sequence[str], interval: float, *, once: bool) -> None:
    """Show the pools of all who answer.

    Raises:
        NoAnswer: Nobody does, from the beginning.

    """
    console = Console(highlight=False)
    processes = [Process(target) for target in targets]
    look_at(processes)
    if all(process.gone for process in processes):
        raise NoAnswer(*(process.gone for process in processes))
    if once or not console.is_terminal:
        console.print(picture(_view(processes, ""), console.width, None))
    else:
        _watch(console, processes, interval)


def _watch(console: Console, processes: Sequence[Process], interval: float) -> None:
    due = time.monotonic()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            view = _view(processes, "; trying again")
            live.update(picture(view, console.width, console.height), refresh=True)
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            look_at(processes)


def _view(processes: Sequence[Process], hope: str) -> View:
    """Put together what there is: of those who answer or, if nobody does, how all were."""
    there = [process for process in processes if not process.gone]
    several = len(processes) > 1
    return View(
        [
            Seen(pool, points, f"{snapshot.pid} {shown(process.target)}" if several else "")
            for process in there or processes
            if (snapshot := process.snapshot) is not None
            for pool, points in zip(snapshot.pools, process.points, strict=True)
        ],
        [*_heads(processes, there, hope)],
    )


def _heads(processes: Sequence[Process], there: Sequence[Process], hope: str) -> Iterator[Text]:
    """Say what is seen, and why some of it is not, or is the past."""
    told = [process.snapshot for process in there if process.snapshot is not None]
    if told:
        now = time.strftime("%H:%M:%S", time.localtime(max(each.time for each in told)))
        if len(processes) == 1:
            what, where = f"process {told[0].pid}", f"  {shown(there[0].target)}"
        else:
            what, where = f"{len(told):,} of {len(processes):,} processes answer", ""
        yield _line(f"{now}  {what}", "bold").append(where, "none")
    gone = [process for process in processes if process.gone]
    for process in gone[:_MOST_GONE]:
        since = f"since {process.since} " if hope else ""
        yield _line(f"{since}{process.gone}{hope}", "bold red")
    if len(gone) > _MOST_GONE:
        yield _line(f"and {len(gone) - _MOST_GONE:,} more do not answer{hope}", "bold red")


def _line(text: str, style: str) -> Text:
    return Text(no_wrap=True, overflow="ellipsis").append(text, style)
