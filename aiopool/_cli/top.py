"""`aiopool top`: a live view of the pools of other processes, which serve them for that."""

import json
import sys
from collections.abc import Callable, Sequence

from ._source import NoAnswer, ask


def run(*, targets: Sequence[str], interval: float, once: bool, as_json: bool) -> int:
    """Show the pools until interrupted, or once, and return the exit code."""
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # what the terminal has no letters for shall not end it
    try:
        if as_json:
            _print(targets)
        else:
            from ._watch import show  # noqa: PLC0415 - it needs rich, what scripts read does not

            show(targets, interval, once=once)
    except NoAnswer as error:
        _complain(*error.args)
        return 2
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    return 0


def _print(targets: Sequence[str]) -> None:
    """Print a line for each who answers, and complain of the others.

    Raises:
        NoAnswer: Nobody does.

    """
    gone: list[str] = []
    for target in targets:
        try:
            print(json.dumps(ask(target)))  # noqa: T201 - a command talks
        except NoAnswer as error:
            gone.append(str(error))
    if len(gone) == len(targets):
        raise NoAnswer(*gone)
    _complain(*gone)


def _complain(*lines: str) -> None:
    for line in lines:
        print(f"aiopool top: {line}", file=sys.stderr)  # noqa: T201 - a command talks
