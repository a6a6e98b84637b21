"""The command `aiopool`."""

import argparse
import logging
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from aiopool._cli._mix import KINDS, parse_mix

# The least extra that brings each.
_EXTRAS = {"fakeredis": "demo", "matplotlib": "bench", "rich": "demo", "uvloop": "uvloop"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 if all is well, 1 if the result is bad, 2 if there is none, 130 if it was interrupted.

    """
    logging.getLogger("aiopool").addHandler(
        logging.NullHandler()
    )  # each command says it in its way
    options = vars(_parser().parse_args(argv))
    command = options.pop("command")
    try:
        code: int = import_module(f"aiopool._cli.{command}").run(**options)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        extra = "top" if command == "top" else _EXTRAS[missing]
        print(  # noqa: T201 - without rich there is nothing else to say it with
            f"aiopool {command} needs {missing}: pip install 'aiopool[{extra}]'", file=sys.stderr
        )
        return 2
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Complain, but not by repeating a password: a URL may stand where none belongs."""
        super().error(re.sub(r"//[^\s']*@", "//***@", message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="aiopool", description="A connection pool for Redis.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _demo(
        commands.add_parser(
            "demo",
            help="watch ten connections serve a web application, and see that nothing gets lost",
        )
    )
    _bench(commands.add_parser("bench", help="measure how large your pool should be"))
    _top(commands.add_parser("top", help="watch the pools of other processes, live"))
    return parser


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Plays a web application: hundreds of requests share ten connections, some are "
        "cancelled, some wait in vain. Then it checks that nothing was lost or mixed up."
    )
    demo.epilog = (
        "Exit code: 0 if nothing was lost, 1 if anything was, 2 if it could not be played."
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
        type=_number(1, 60),  # room for three waves; long before the keys expire
        default=8.0,
        help="for how long requests arrive (default: 8)",
    )
    demo.add_argument("--quiet", action="store_true", help="say only how it ended")
    _add_json(demo)


def _bench(bench: argparse.ArgumentParser) -> None:
    bench.description = (
        "Loads a Redis server through pools of several sizes, in turn, and tells which "
        "max_size is the smallest whose throughput is within 5 % of the best, and why."
    )
    bench.epilog = (
        "Exit code: 0 if there is an answer, 1 if there is none since requests failed, "
        "2 if nothing could be measured, 130 if it was interrupted."
    )
    bench.add_argument(
        "--url",
        help="load this Redis server, and leave it as it was (default: a redis-server of its own, "
        "or, if there is none here, fakeredis, in this process)",
    )
    bench.add_argument(
        "--sizes",
        type=_sizes,
        default=(1, 2, 5, 10, 20, 50),
        metavar="N,N,...",
        help="which sizes of the pool to compare (default: 1,2,5,10,20,50)",
    )
    bench.add_argument(
        "--tasks",
        type=_whole(1, 10_000),
        default=200,
        metavar="N",
        help="how many tasks make requests, one after the other each (default: 200)",
    )
    bench.add_argument(
        "--mix",
        type=_mix,
        default={"get": 8, "set": 1, "pipeline": 1},
        metavar="KIND=N,...",
        help="what requests do, in which proportions (default: get=8,set=1,pipeline=1): "
        + "; ".join(f"{kind}: {what}" for kind, what in KINDS.items()),
    )
    bench.add_argument(
        "--value-size",
        type=_whole(1, 1_000_000),
        default=100,
        metavar="BYTES",
        help="how much is written and read (default: 100)",
    )
    bench.add_argument(
        "--slow",
        type=_number(0, 10),
        default=0.01,
        metavar="SECONDS",
        help="how long a slow request keeps its connection (default: 0.01)",
    )
    bench.add_argument(
        "--think",
        type=_number(0, 10),
        default=0.0,
        metavar="SECONDS",
        help="how long a task needs no connection between two requests, on average (default: 0)",
    )
    bench.add_argument(
        "--seconds",
        type=_number(0.05, 60),
        default=0.5,
        help="for how long a size is measured in each round (default: 0.5)",
    )
    bench.add_argument(
        "--rounds",
        type=_whole(1, 100),
        default=5,
        metavar="N",
        help="how often each size is measured (default: 5)",
    )
    bench.add_argument(
        "--loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="on which event loop (default: asyncio)",
    )
    bench.add_argument(
        "--plot",
        type=_picture,
        metavar="FILE",
        dest="plot_file",
        help="draw the result there, as its ending says: .png or .svg",
    )
    _add_json(bench)


def _top(top: argparse.ArgumentParser) -> None:
    top.description = (
        "Shows the pools of other processes: who has connections, who waits for one, and the last "
        "minute. The processes have to serve them: see aiopool.integrations.debug."
    )
    top.epilog = (
        "Exit code: 0 if it was shown, 2 if nobody answers there, 130 if it was interrupted."
    )
    top.add_argument(
        "targets",
        nargs="+",
        metavar="PATH-or-URL",
        help="the path of the unix socket where a process serves them, or the http(s) URL of its page; "
        "of several, those are shown that answer",
    )
    top.add_argument(
        "--interval",
        type=_number(0.1, 60),
        default=1.0,
        metavar="SECONDS",
        help="how often to look (default: 1)",
    )
    how = top.add_mutually_exclusive_group()
    how.add_argument(
        "--once", action="store_true", help="show one picture, as it is without a terminal, and end"
    )
    how.add_argument(
        "--json",
        action="store_true",
        dest="as_json",
        help="print what each process tells as a line, once, and end",
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--json",
        metavar="FILE",
        dest="json_file",
        help="write the whole report there; - for stdout",
    )


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        with suppress(ValueError):
            if least <= float(text) <= most:
                return float(text)
        msg = f"not a number from {least:g} to {most:g}: {text!r}"
        raise argparse.ArgumentTypeError(msg)

    return read


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        with suppress(ValueError):
            if least <= int(text) <= most:
                return int(text)
        msg = f"not a whole number from {least} to {most}: {text!r}"
        raise argparse.ArgumentTypeError(msg)

    return read


def _sizes(text: str) -> list[int]:
    read, most = _whole(1, 1000), 20
    sizes = sorted({read(part) for part in text.split(",")})
    if len(sizes) > most:
        msg = f"more than {most} sizes: {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return sizes


def _mix(text: str) -> dict[str, int]:
    try:
        return parse_mix(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _picture(text: str) -> str:
    if Path(text).suffix.lower() not in {".png", ".svg"}:
        msg = f"its name must end in .png or .svg: {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text


if __name__ == "__main__":
    sys.exit(main())
