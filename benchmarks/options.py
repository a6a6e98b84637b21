"""The command line of `python -m benchmarks`."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from .measure import Effort
from .results import Setting
from .scenarios import ALL

_LOOPS = ("asyncio", "uvloop")
_PARSERS = ("on", "off")
_FULL = Effort(rounds=7, seconds=0.1, size="full")
_QUICK = Effort(rounds=3, seconds=0.05, size="quick")
STDOUT = Path("-")
_DOCS = Path(__file__).parent.parent / "docs" / "benchmarks"


class Options(argparse.Namespace):
    """What was asked for."""

    quick: bool
    only: Sequence[str] | None
    loops: Sequence[str] | None
    hiredis: Sequence[str] | None
    rounds: int | None
    source: Path | None
    json: Path | None
    plots: Path | None
    markdown: list[Path]
    compare: Path | None

    @property
    def effort(self) -> Effort:
        """How much is to be done."""
        effort = _QUICK if self.quick else _FULL
        return effort if self.rounds is None else replace(effort, rounds=self.rounds)

    @property
    def settings(self) -> list[Setting]:
        """What is to be measured in."""
        loops = self.loops or (_LOOPS[:1] if self.quick else _LOOPS)
        parsers = self.hiredis or (_PARSERS[:1] if self.quick else _PARSERS)
        return [Setting(loop, parser == "on") for parser in parsers for loop in loops]


def parse(argv: Sequence[str] | None) -> Options:
    """Read the command line; leaves the process where it is wrong."""
    parser = _parser()
    options = parser.parse_args(argv, Options())
    if not (options.quick or options.only or options.loops or options.hiredis or options.source):
        # Everything is measured, so it replaces what the documentation shows.
        _DOCS.mkdir(parents=True, exist_ok=True)
        options.json = options.json or _DOCS / "results.json"
        options.plots = options.plots or _DOCS
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"argument --json: there is no folder {options.json.parent}")
    for path in options.markdown:
        if path != STDOUT and not path.is_file():
            parser.error(f"argument --markdown: there is no file {path}")
    if options.plots is not None and find_spec("matplotlib") is None:
        parser.error("plots need matplotlib: pip install 'aiopool[bench]'")
    return options


def _parser() -> argparse.ArgumentParser:
    names = [scenario.name for scenario in ALL]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure how fast aiopool is beside other pools and clients. Starts a "
        "redis-server of its own. Without arguments it takes a quarter of an hour or more, and "
        "replaces the results and plots in docs/benchmarks.",
        epilog="Exit code: 0 if all is well, 1 if a contender failed or --compare found something "
        "slower, 2 if what was asked for can't be done.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a minute: smaller, and only asyncio with hiredis")
    add("--only", type=some_of(names), metavar="SCENARIO,...", help=f"some of {', '.join(names)}")
    add("--loops", type=some_of(_LOOPS), metavar="LOOP,...", help=f"some of {', '.join(_LOOPS)}")
    add("--hiredis", type=some_of(_PARSERS), metavar="on,off", help="with it, without it, or both")
    add("--rounds", type=_rounds, metavar="N", help="how many samples of each contender")
    add("--json", type=Path, metavar="FILE", help="write all samples there")
    add("--plots", type=Path, metavar="DIR", help="draw plots there")
    add(
        "--markdown",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="put tables into this document, in place of what is between its marks; - for stdout",
    )
    add("--compare", type=Path, metavar="FILE", help="say what is slower than in this older result")
    add(
        "--from", dest="source", type=Path, metavar="FILE", help="measure nothing, take this result"
    )
    return parser


def some_of(known: Sequence[str]) -> Callable[[str], Sequence[str]]:
    """Make what reads some of these names, with commas between them."""

    def parse(text: str) -> Sequence[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                msg = f"{name!r} is none of {', '.join(known)}"
                raise argparse.ArgumentTypeError(msg)
        return [name for name in known if name in chosen]

    return parse


def _rounds(text: str) -> int:
    with suppress(ValueError):
        if int(text) > 0:
            return int(text)
    msg = f"not a number from 1 on: {text!r}"
    raise argparse.ArgumentTypeError(msg)
