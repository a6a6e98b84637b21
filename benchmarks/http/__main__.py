"""`python -m benchmarks.http`: measure, then show and write."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from aiopool._cli._redis_server import NoRedisServer
from benchmarks.markdown import fill
from benchmarks.run import CannotRun

from .measurement import Effort, Results, measure
from .report import parts

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "benchmarks" / "README.md"
_JSON = _ROOT / "docs" / "benchmarks" / "http.json"
_FULL = Effort(rounds=5, seconds=2.0)
_NEEDED = ("fastapi", "prometheus_client", "uvicorn")


class Options(argparse.Namespace):
    """What was asked for."""

    rounds: int
    seconds: float
    source: Path | None
    json: Path | None
    markdown: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all is well, 2 if what was asked for can't be done, 130 after Ctrl-C.

    """
    options = _parse(argv)
    try:
        results = _results(options)
        made = {name: part() for name, part in parts(results).items()}
        print("\n\n".join(made.values()))  # noqa: T201 - a command talks
        if options.json is not None:
            results.save(options.json)
        if options.markdown is not None:
            text = options.markdown.read_text(encoding="utf-8")
            options.markdown.write_text(fill(text, "http", parts(results)), encoding="utf-8")
    except (NoRedisServer, CannotRun, OSError, ValueError) as error:
        print(f"benchmarks.http: {error}", file=sys.stderr)  # noqa: T201 - likewise
        return 2
    except KeyboardInterrupt:
        print("benchmarks.http: interrupted", file=sys.stderr)  # noqa: T201 - likewise
        return 130
    return 0


def _results(options: Options) -> Results:
    if options.source is not None:
        return Results.load(options.source)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        msg = f"the service needs {', '.join(missing)}"
        raise CannotRun(msg)
    command = shlex.join(["python", "-m", "benchmarks.http", *sys.argv[1:]])
    return measure(
        Effort(options.rounds, options.seconds),
        command,
        lambda what: print(what, file=sys.stderr, flush=True),  # noqa: T201 - likewise
    )


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.http",
        description="Put the service of docs/examples under HTTP load, with redis-py's pools and with "
        "aiopool's. Starts a redis-server of its own. Without arguments it takes five minutes, and "
        f"replaces {_JSON.relative_to(_ROOT)} and the tables of {_PAGE.relative_to(_ROOT)}.",
    )
    add = parser.add_argument
    add("--rounds", type=int, default=_FULL.rounds, metavar="N", help="turns of each contender")
    add("--seconds", type=float, default=_FULL.seconds, metavar="S", help="that a turn lasts")
    add("--json", type=Path, metavar="FILE", help="write all turns there")
    add("--markdown", type=Path, metavar="FILE", help="put the tables into this document")
    add(
        "--from", dest="source", type=Path, metavar="FILE", help="measure nothing, take this result"
    )
    options = parser.parse_args(argv, Options())
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("there must be a round at least, and some time")
    if (options.rounds, options.seconds, options.source) == (_FULL.rounds, _FULL.seconds, None):
        options.json, options.markdown = options.json or _JSON, options.markdown or _PAGE
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the services as Ctrl-C does
    sys.exit(main())
