"""`aiopool top`: a live view of the pools of another process, which serves them for that."""

import json
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ._history import History
from ._screen import View, picture
from ._snapshot import NoSnapshot, Snapshot, read
from ._source import NoAnswer, ask, shown


def run(*, target: str, interval: float, once: bool, as_json: bool) -> int:
    """Show the pools until interrupted, or once, and return the exit code."""
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # what the terminal has no letters for shall not end it
    console = Console(highlight=False)
    try:
        if as_json:
            print(json.dumps(ask(target), indent=2))  # noqa: T201 - a command talks
        else:
            snapshot = _look(target)
            if once or not console.is_terminal:
                _show(console, target, snapshot)
            else:
                _watch(console, target, snapshot, interval)
    except NoAnswer as error:
        print(f"aiopool top: {error}", file=sys.stderr)  # noqa: T201 - a command talks
        return 2
    except KeyboardInterrupt:
        print("aiopool top: interrupted", file=sys.stderr)  # noqa: T201 - a command talks
        return 130
    return 0


def _look(target: str) -> Snapshot:
    try:
        return read(ask(target))
    except NoSnapshot:
        msg = f"what answers at {shown(target)} tells of no pools, or as another version does"
        raise NoAnswer(msg) from None


def _show(console: Console, target: str, snapshot: Snapshot) -> None:
    view = View(snapshot, History().add(snapshot), _head(target, snapshot, None))
    console.print(picture(view, console.width, None))


def _watch(console: Console, target: str, snapshot: Snapshot, interval: float) -> None:
    history, gone = History(), None
    points = history.add(snapshot)
    due = time.monotonic()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            view = View(snapshot, points, _head(target, snapshot, gone))
            live.update(picture(view, console.width, console.height), refresh=True)
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                snapshot = _look(target)
            except NoAnswer as error:
                gone = gone or f"since {time.strftime('%H:%M:%S')} {error}; trying again"
            else:
                gone, points = None, history.add(snapshot)


def _head(target: str, snapshot: Snapshot, gone: str | None) -> Text:
    """Say what is seen; if it is the past, why."""
    if gone is not None:
        return Text(gone, style="bold red", no_wrap=True, overflow="ellipsis")
    now = time.strftime("%H:%M:%S", time.localtime(snapshot.time))
    text = Text(no_wrap=True, overflow="ellipsis")
    return text.append(f"{now}  process {snapshot.pid}", style="bold").append(f"  {shown(target)}")
