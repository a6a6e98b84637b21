"""The command: measure, write, show, compare."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from aiopool._cli._redis_server import NoRedisServer

from .measure import Effort
from .results import Run, Setting
from .run import ChildFailed, run
from .scenarios import ALL
from .tables import tables

_TITLES = {scenario.name: scenario.title for scenario in ALL}
_LOOPS = ("asyncio", "uvloop")
_FULL = Effort(rounds=5, seconds=0.15, size="full")
_QUICK = Effort(rounds=3, seconds=0.05, size="quick")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all is well, 1 if a contender failed or, with `--compare`, something became slower, 2 if
        nothing could be measured, 130 after Ctrl-C.

    """
    options = _parser().parse_args(argv)
    try:
        result = _result(options)
    except (NoRedisServer, ChildFailed, OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)  # noqa: T201 - a command talks
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)  # noqa: T201 - likewise
        return 130
    if options.json is not None:
        result.save(options.json)
    Console().print(tables(result, _TITLES))
    return int(any(one.failed for one in result.missing))


def _result(options: argparse.Namespace) -> Run:
    if options.source is not None:
        return Run.load(options.source)
    effort = _QUICK if options.quick else _FULL
    if options.rounds is not None:
        effort = Effort(options.rounds, effort.seconds, effort.size)
    settings = [Setting(loop, hiredis) for hiredis in (True, False) for loop in options.loops]
    if options.quick:
        settings = settings[:1]
    scenarios = [scenario for scenario in ALL if scenario.name in options.only]
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    return run(settings, scenarios, effort, command, Console(stderr=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a minute instead of a quarter of an hour"
    )
    parser.add_argument(
        "--only",
        type=_names(tuple(_TITLES)),
        default=tuple(_TITLES),
        metavar="SCENARIO,...",
        help=f"of {', '.join(_TITLES)}",
    )
    parser.add_argument(
        "--loops",
        type=_names(_LOOPS),
        default=_LOOPS,
        metavar="LOOP,...",
        help="of asyncio, uvloop",
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE")
    return parser


def _names(known: Sequence[str]):
    def parse(text: str) -> tuple[str, ...]:
        return tuple(text.split(","))

    return parse


if __name__ == "__main__":
    sys.exit(main())
