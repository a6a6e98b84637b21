"""`python -m benchmarks.scaling`: simulate, then show, write and draw."""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.markdown import fill
from benchmarks.options import some_of

from .report import how_made, parts
from .studies import FULL, QUICK, STUDIES, study

_PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "scaling.md"


class Options(argparse.Namespace):
    """What was asked for."""

    quick: bool
    only: Sequence[str]
    seed: int
    markdown: Path | None
    plots: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parse(argv)
    # A small one is quicker without other processes than these are to start.
    size, workers = (QUICK, 0) if options.quick else (FULL, None)
    made = how_made(options.seed)  # as it is before there is anything to do
    results = study(size, options.seed, options.only, workers)
    tables = parts(results, made)
    print("\n\n".join(part() for part in tables.values()))  # noqa: T201 - a command talks
    if options.markdown is not None:
        document = fill(options.markdown.read_text(encoding="utf-8"), "scaling", tables)
        options.markdown.write_text(document, encoding="utf-8")
    if options.plots is not None:
        from .plots import draw  # noqa: PLC0415 - matplotlib is optional, and slow to import

        options.plots.mkdir(parents=True, exist_ok=True)
        draw(results, options.plots)
    return 0


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="Simulate a thousand processes with their pools, and the servers that they dial. "
        "Without arguments it takes some minutes, and replaces the tables and plots of "
        f"{_PAGE.relative_to(_PAGE.parents[2])}.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="some seconds: few processes")
    add(
        "--only",
        type=some_of(STUDIES),
        default=STUDIES,
        metavar="STUDY,...",
        help=f"some of {', '.join(STUDIES)}",
    )
    add("--seed", type=int, default=1, metavar="N", help="decides all that is drawn at random")
    add("--markdown", type=Path, metavar="FILE", help="put the tables into this document")
    add("--plots", type=Path, metavar="DIR", help="draw plots there")
    options = parser.parse_args(argv, Options())
    if not options.quick and options.only is STUDIES:
        options.markdown = options.markdown or _PAGE
        options.plots = options.plots or _PAGE.parent
    if options.markdown is not None and not options.markdown.is_file():
        parser.error(f"argument --markdown: there is no file {options.markdown}")
    if options.plots is not None and find_spec("matplotlib") is None:
        parser.error("plots need matplotlib: pip install 'aiopool[bench]'")
    return options


if __name__ == "__main__":
    sys.exit(main())
