"""Results as tables for a terminal."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .contenders import MEASURES, OURS
from .results import Absence, Run, Series, ratio
from .words import amount, count, times

_PERCENTILES = {"p50": "50", "p99": "99", "max": "100"}
_HEADINGS = ("", "", "median", "ratio", *_PERCENTILES, "and")
_CAPTION = "ratio: {}'s figure divided by this one, round by round; above 1 is better"


def tables(run: Run, titles: Mapping[str, str]) -> RenderableType:
    """Make a table for each scenario in each setting, and say who did not take part."""
    parts: list[RenderableType] = []
    for (setting, scenario), keys in groupby(run.keys, key=lambda key: key[:2]):
        cases = [(case, run.at(setting, scenario, case)) for _, _, case in keys]
        measure = next((name for name in MEASURES if any(name in at for _, at in cases)), "")
        table = Table(
            title=f"{titles.get(scenario, scenario)} ({setting})",
            title_justify="left",
            caption=_CAPTION.format(measure) if measure else None,
            caption_justify="left",
        )
        rows = [row for case, measured in cases for row in _rows(case, measured, measure)]
        used = [i for i, _ in enumerate(_HEADINGS) if any(row[i] for row in rows)]
        for i in used:
            name = i in {0, 1}
            last = i == len(_HEADINGS) - 1
            table.add_column(
                _HEADINGS[i], justify="left" if name or last else "right", no_wrap=not last
            )
        for row in rows:
            if row[0]:
                table.add_section()
            style = "bold" if row[1] in OURS else None
            table.add_row(*(row[i] for i in used), style=style)
        parts += [table, Text()]
    return Group(*parts, *_absences(run.missing))


def _rows(case: str, measured: Mapping[str, Series], beside: str) -> list[list[str]]:
    measure = measured.get(beside)
    rows: list[list[str]] = []
    for name, series in measured.items():
        percentiles = series.waits or series.latencies
        rows.append(
            [
                "" if rows else case,
                name,
                amount(series.middle, series.unit),
                "" if measure is None or measure is series else times(ratio(measure, series)),
                *(
                    amount(percentiles[p], "s") if p in percentiles else ""
                    for p in _PERCENTILES.values()
                ),
                ", ".join(f"{what}: {count(number)}" for what, number in series.counts.items()),
            ]
        )
    return rows


def _absences(missing: Sequence[Absence]) -> list[RenderableType]:
    places: defaultdict[tuple[str, str, bool], list[str]] = defaultdict(list)
    for one in missing:
        place = f"{one.scenario}, {one.case} ({one.setting})"
        places[one.contender, one.why, one.failed].append(place)
    return [
        Text(
            f"{name} {'failed' if failed else 'takes no part'}: {why}. That is in {where[0]}"
            f"{f' and {len(where) - 1} more' if where[1:] else ''}.",
            style="bold red" if failed else "",
        )
        for (name, why, failed), where in places.items()
    ]
