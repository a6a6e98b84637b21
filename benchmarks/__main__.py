"""`python -m benchmarks`: measure, then show, write, draw and compare."""

import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from aiopool._cli._redis_server import NoRedisServer

from .compare import Comparison, NotComparable, compare
from .markdown import main_table, put_into
from .options import STDOUT, Options, parse
from .results import Run
from .run import CannotRun, run
from .scenarios import ALL
from .tables import tables

_TITLES: Mapping[str, str] = {scenario.name: scenario.title for scenario in ALL}
_WIDTH = 140  # of tables where there is no terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all is well, 1 if a contender failed or, with `--compare`, something became slower, 2 if
        what was asked for can't be done, 130 after Ctrl-C.

    """
    options = parse(argv)
    try:
        return _run(options)
    except (NoRedisServer, CannotRun, NotComparable, OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)  # noqa: T201 - a command talks
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)  # noqa: T201 - likewise
        return 130


def _run(options: Options) -> int:
    # What can fail comes first, so that no run is in vain.
    old = None if options.compare is None else Run.load(options.compare)
    if options.plots is not None:
        options.plots.mkdir(parents=True, exist_ok=True)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH
    result = _result(options)
    if options.json is not None:
        result.save(options.json)
    console.print(tables(result, _TITLES))
    for path in options.markdown:
        _put(result, path)
    if options.plots is not None:
        from .plots import draw  # noqa: PLC0415 - matplotlib is optional, and slow to import

        draw(result, _TITLES, options.plots)
    failed = any(one.failed for one in result.missing)
    if old is not None:
        comparison = compare(old, result)
        console.print(_told(comparison), soft_wrap=True)
        failed |= bool(comparison.slower)
    return int(failed)


def _result(options: Options) -> Run:
    if options.source is not None:
        return Run.load(options.source)
    scenarios = [each for each in ALL if options.only is None or each.name in options.only]
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    return run(options.settings, scenarios, options.effort, command, Console(stderr=True))


def _put(result: Run, path: Path) -> None:
    if path == STDOUT:
        print(main_table(result, _TITLES))  # noqa: T201 - to be piped
    else:
        document = put_into(path.read_text(encoding="utf-8"), result, _TITLES)
        path.write_text(document, encoding="utf-8")


def _told(comparison: Comparison) -> str:
    lines = [f"SLOWER: {change}" for change in comparison.slower]
    lines += [f"faster: {change}" for change in comparison.faster]
    lines.append(
        f"{len(comparison.slower)} slower, {len(comparison.faster)} faster, {comparison.same} the "
        "same as far as can be told."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the children as Ctrl-C does
    sys.exit(main())
