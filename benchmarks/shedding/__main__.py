"""`python -m benchmarks.shedding`: simulate and measure, then show and write."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aiopool._cli._redis_server import NoRedisServer
from benchmarks.markdown import fill
from benchmarks.options import some_of
from benchmarks.scaling.report import how_made

from . import report
from .measurement import measure
from .service import DEADLINE
from .simulation import LOADS, RULES, TROUBLES, USES, WITH, WITHOUT, at_load, outcome

_PAGE = Path(__file__).parents[2] / "docs" / "guides" / "overload.md"
BOTH = (WITHOUT, WITH)


class Options(argparse.Namespace):
    """What was asked for."""

    only: Sequence[str]
    seed: int
    markdown: Path | None


def overload(seed: int) -> str:
    """Simulate all loads, without and with."""
    cases = [
        (uses, timeout, load, rule)
        for timeout in (DEADLINE, DEADLINE / 2)
        for uses in USES
        for load in LOADS
        for rule in BOTH
    ]
    return report.overload(
        {case: outcome(at_load(case[2]), case[0], case[3], seed, case[1]) for case in cases}
    )


def rules(seed: int) -> str:
    """Simulate what else could have been the rule, in all troubles."""
    cases = [(rule, trouble, uses) for rule in RULES for trouble in TROUBLES for uses in USES]
    return report.rules(
        {case: outcome(TROUBLES[case[1]], case[2], case[0], seed) for case in cases}
    )


def measured(seed: int) -> str:
    """Measure twice too much, on a server."""
    cases = [(uses, rule) for uses in USES for rule in BOTH]
    return report.measured(
        {case: measure(2.0, case[0], shed=case[1].shed, seed=seed) for case in cases}
    )


STUDIES: dict[str, Callable[[int], str]] = {
    "overload": overload,
    "rules": rules,
    "measured": measured,
}


def _study(name: str, seed: int) -> str:
    return STUDIES[name](seed)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parse(argv)
    parts = {"made": how_made(options.seed)}
    try:
        for name in options.only:
            parts[name] = _study(name, options.seed)
    except NoRedisServer as error:
        print(f"benchmarks.shedding: {error}", file=sys.stderr)  # noqa: T201 - a command talks
        return 2
    print("\n\n".join(parts.values()))  # noqa: T201 - likewise
    if options.markdown is not None:
        places = {name: lambda part=part: part for name, part in parts.items()}
        document = fill(options.markdown.read_text(encoding="utf-8"), "shedding", places)
        options.markdown.write_text(document, encoding="utf-8")
    return 0


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.shedding",
        description="Simulate a service that gets more requests than it can serve, and measure it on a "
        "redis-server of its own, with and without shed=True. Without arguments it takes a minute or "
        f"two, and replaces the tables of {_PAGE.relative_to(_PAGE.parents[2])}.",
    )
    add = parser.add_argument
    names = tuple(STUDIES)
    add(
        "--only",
        type=some_of(names),
        default=names,
        metavar="STUDY,...",
        help=f"some of {', '.join(names)}",
    )
    add("--seed", type=int, default=1, metavar="N", help="decides all that is drawn at random")
    add("--markdown", type=Path, metavar="FILE", help="put the tables into this document")
    options = parser.parse_args(argv, Options())
    if options.only is names:
        options.markdown = options.markdown or _PAGE
    if options.markdown is not None and not options.markdown.is_file():
        parser.error(f"argument --markdown: there is no file {options.markdown}")
    return options


if __name__ == "__main__":
    sys.exit(main())
