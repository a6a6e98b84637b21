"""Results as tables for a terminal."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .contenders import OURS
from .results import Absence, Run, Series, ratio
from .words import amount, times

_MEASURE = "BlockingConnectionPool"  # what the ratios are to
_PERCENTILES = {"p50": "50", "p99": "99", "max": "100"}


def tables(run: Run, titles: Mapping[str, str]) -> RenderableType:
    """Make a table for each scenario in each setting, and say who did not take part."""
    parts: list[RenderableType] = []
    for (setting, scenario), keys in groupby(run.keys, key=lambda key: key[:2]):
        table = Table(
            "",
            "",
            title=f"{titles.get(scenario, scenario)}: {setting}",
            title_justify="left",
            caption=f"Times as fast as {_MEASURE}, round by round: the median (the extremes).",
            caption_justify="left",
        )
        for heading in ("median", "times as fast", *_PERCENTILES):
            table.add_column(heading, justify="right")
        table.add_column("and", overflow="fold")
        for _, _, case in keys:
            _add(table, case, run.at(setting, scenario, case))
        parts += [table, Text()]
    return Group(*parts, *_absences(run.missing))


def _add(table: Table, case: str, measured: Mapping[str, Series]) -> None:
    table.add_section()
    for name, series in measured.items():
        measure = measured.get(_MEASURE)
        percentiles = series.waits or series.latencies
        table.add_row(
            case,
            name,
            amount(series.middle, series.unit),
            "" if measure is None or measure is series else times(ratio(measure, series)),
            *(
                amount(percentiles[p], "s") if p in percentiles else ""
                for p in _PERCENTILES.values()
            ),
            ", ".join(f"{count:,.4g} {what}" for what, count in series.counts.items()),
            style="bold" if name in OURS else None,
        )
        case = ""


def _absences(missing: Sequence[Absence]) -> list[RenderableType]:
    where: defaultdict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for one in missing:
        place = f"{one.scenario}, {one.case} ({one.setting})"
        where[one.contender, one.why, one.failed].append(place)
    return [
        Text(
            f"{name} {'failed' if failed else 'took no part'}: {why}. "
            f"In {places[0]}{f' and {len(places) - 1} more' if places[1:] else ''}.",
            style="bold red" if failed else "dim",
        )
        for (name, why, failed), places in where.items()
    ]
