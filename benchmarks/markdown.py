"""Results as tables for documents, and the places in documents where they stand."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from .contenders import BARE, BEHIND_REDIS, CLIENT, CORE, MEASURE, OURS, PIPELINED, RIVALS
from .results import Run, Series, Setting, ratio
from .words import amount, count, significant, times

# What goes into the main table: scenarios, and which of their cases (None: all).
_MAIN: Mapping[str, set[str] | None] = {
    "lend": {"1 task", "1,000 tasks"},
    "get": {"1 task", "10 tasks", "100 tasks", "1,000 tasks", "10,000 tasks"},
    "mixed": {"100 tasks"},
    "cluster-get": None,
    "burst": None,
    "cancelled": None,
    "mass-cancel": None,
}
# And what of it README shows: scenarios, their cases, and who of ours takes part.
_FOR_README: Mapping[str, set[str] | None] = {
    "lend": {"1 task", "1,000 tasks"},
    "get": {"1 task", "10 tasks", "1,000 tasks"},
    "burst": None,
}
_IN_README = (CORE.name, BEHIND_REDIS.name, CLIENT.name, PIPELINED.name)
_OTHERS = (*RIVALS, BARE.name)  # beside which aiopool stands in them
# What is counted there, and is no ratio to a rival.
_COUNTED = (
    ("connects of 150 ms: connections opened", "slow-connects", "opened"),
    ("GET in a cluster: connections opened to a node", "cluster-get", "opened to a node"),
    ("cancel all in line: times their creation", "mass-cancel", "times their creation"),
    ("wait at overload: 99th percentile, times the median", "fairness", "p99/median"),
    ("overload: most lendings of a task, times the fewest", "fairness", "most/fewest lendings"),
    ("a tenth cancelled: errors of the others", "cancelled", "errors"),
)


def main_table(run: Run, titles: Mapping[str, str]) -> str:
    """Make the table of what matters most, in the first setting."""
    setting = next(iter(run.keys))[0]
    return f"{_what(run)}\n\n{_ratios(run, setting, titles, _MAIN)}\n\n{_counts(run, setting)}"


def short_table(run: Run, titles: Mapping[str, str]) -> str:
    """Make the table that is enough for who sees the project for the first time."""
    setting = next(iter(run.keys))[0]
    return f"{_what(run)}\n\n{_ratios(run, setting, titles, _FOR_README, _IN_README, RIVALS)}"


def all_tables(run: Run, titles: Mapping[str, str]) -> str:
    """Make tables of all ratios, one for each setting."""
    settings = dict.fromkeys(setting for setting, _, _ in run.keys)
    everything = dict.fromkeys(titles)
    parts = [f"### {each}\n\n{_ratios(run, each, titles, everything)}" for each in settings]
    return "\n\n".join(parts)


def alone_table(run: Run, titles: Mapping[str, str]) -> str:
    """Make the table of how long one task alone waits for a reply, in the first setting."""
    setting = next(iter(run.keys))[0]
    measured = run.at(setting, "get", "1 task")
    lent = measured.get(CLIENT.name)
    rows = [
        [
            _short(name) if name in OURS else name,
            amount(series.latencies["50"], "s"),
            amount(series.latencies["99"], "s"),
            "" if lent is None or lent is series else times(ratio(series, lent)),
        ]
        for name, series in measured.items()
    ]
    title = f"{titles.get('get', 'get')}: 1 task ({setting})"
    return table([title, "median", "99th percentile", "times as long as `pool.client()`"], rows)


PARTS: Mapping[str, Callable[[Run, Mapping[str, str]], str]] = {
    "main": main_table,
    "short": short_table,
    "alone": alone_table,
    "all": all_tables,
}


def put_into(document: str, run: Run, titles: Mapping[str, str]) -> str:
    """Replace what stands between `<!-- benchmarks: main -->` (or another of `PARTS`) and `<!-- end -->`.

    Raises:
        ValueError: The document has no such place.

    """
    return fill(document, "benchmarks", {name: partial(PARTS[name], run, titles) for name in PARTS})


def fill(document: str, mark: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Replace what stands between `<!-- mark: part -->` and `<!-- end -->` with these parts.

    Raises:
        ValueError: The document has no such place.

    """

    def replace(place: re.Match[str]) -> str:
        return f"{place[1]}{parts[place[2]]()}\n{place[3]}"

    names = "|".join(parts)
    pattern = rf"(<!-- {mark}: ({names}) -->\n).*?(<!-- end -->)"
    document, number = re.subn(pattern, replace, document, flags=re.DOTALL)
    if number == 0:
        msg = f"there is no <!-- {mark}: {next(iter(parts))} --> with an <!-- end --> in it"
        raise ValueError(msg)
    return document


def _what(run: Run) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    commit = f" of commit {run.commit[:12]}" if run.commit else ""
    return (
        f"Measured on {run.made[:10]}{commit} with {versions}; "
        f"{run.machine['processor']}, {run.machine['cores']} cores. Each figure says how many times as "
        "fast aiopool is: the median over the rounds, and the extremes. Below 1 it is slower."
    )


def _ratios(
    run: Run,
    setting: Setting,
    titles: Mapping[str, str],
    wanted: Mapping[str, set[str] | None],
    ours: Sequence[str] = OURS,
    others: Sequence[str] = _OTHERS,
) -> str:
    rows: list[Sequence[str]] = []
    for where, scenario, case in run.keys:
        cases = wanted.get(scenario)
        if where != setting or scenario not in wanted or (cases is not None and case not in cases):
            continue
        measured = run.at(setting, scenario, case)
        if not measured.keys() & set(RIVALS):
            continue
        rows += [
            [
                f"{titles.get(scenario, scenario)}: {case}",
                _short(name),
                *(_cell(measured.get(other), measured[name]) for other in others),
            ]
            for name in ours
            if name in measured
        ]
    return table(["", "aiopool's", *others], rows)


def _short(name: str) -> str:
    return f"`{name.removeprefix('aiopool ')}`"


def _cell(rival: Series | None, ours: Series) -> str:
    return "" if rival is None else times(ratio(rival, ours))


def _counts(run: Run, setting: Setting) -> str:
    """Make the table of what is no ratio to a rival; of aiopool's faces the worst stands for all."""
    rows: list[Sequence[str]] = []
    for title, scenario, what in _COUNTED:
        for case in [key[2] for key in run.keys if key[:2] == (setting, scenario)]:
            counts = {
                name: series.counts[what]
                for name, series in run.at(setting, scenario, case).items()
                if what in series.counts
            }
            ours = [counts[name] for name in OURS if name in counts]
            rivals = [count(counts[name]) if name in counts else "" for name in RIVALS]
            rows.append([f"{title} ({case})", count(max(ours)) if ours else "", *rivals])
    growth = [_growth(run, setting, name) for name in (CORE.name, *RIVALS)]
    if any(growth):
        rows.append(["lend and give back, no I/O: 10,000 tasks, times 100 tasks", *growth])
    return table(["", "aiopool", *RIVALS], rows)


def _growth(run: Run, setting: Setting, contender: str) -> str:
    few, many = (run.at(setting, "lend", f"{tasks} tasks") for tasks in ("100", "10,000"))
    if contender not in few or contender not in many:
        return ""
    return f"{significant(many[contender].middle / few[contender].middle)}x"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table, without the columns in which nothing stands."""
    used = [i for i, title in enumerate(head) if title in {"", MEASURE} or any(r[i] for r in rows)]
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join(f"| {' | '.join(line[i] for i in used)} |" for line in lines)
