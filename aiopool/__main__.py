"""The command `aiopool`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all is well, 1 if something was lost, 2 if there was nothing to be played.

    """
    options = _parser().parse_args(argv)
    try:
        from aiopool._cli.demo import run  # noqa: PLC0415 - what it imports is optional
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"fakeredis", "rich"}:
            raise
        print(  # noqa: T201 - without rich there is nothing else to say it with
            "aiopool demo needs rich and fakeredis: pip install 'aiopool[demo]'", file=sys.stderr
        )
        return 2
    return run(
        url=options.url,
        seed=options.seed,
        seconds=options.seconds,
        quiet=options.quiet,
        json_file=options.json,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aiopool", description="A connection pool for Redis.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch ten connections serve a web application, and see that nothing gets lost",
        description="Plays a web application: hundreds of requests share ten connections, some are "
        "cancelled, some wait in vain. Then it checks that nothing was lost or mixed up.",
        epilog="Exit code: 0 if nothing was lost, 1 if anything was, 2 if it could not be played.",
    )
    demo.add_argument(
        "--url",
        help="play on this Redis server, and leave it as it was (default: fakeredis, in this process)",
    )
    demo.add_argument(
        "--seed", type=int, default=1, help="for other requests at other moments (default: 1)"
    )
    demo.add_argument(
        "--seconds",
        type=_seconds,
        default=8.0,
        help="for how long requests arrive (default: 8)",
    )
    demo.add_argument("--quiet", action="store_true", help="say only how it ended")
    demo.add_argument("--json", metavar="FILE", help="write the whole report there; - for stdout")
    return parser


def _seconds(text: str) -> float:
    shortest, longest = 1, 60  # room for three waves; long before the keys expire
    with suppress(ValueError):
        if shortest <= float(text) <= longest:
            return float(text)
    msg = f"not a number from {shortest} to {longest}: {text!r}"
    raise argparse.ArgumentTypeError(msg)


if __name__ == "__main__":
    sys.exit(main())
