"""The results as tables."""

import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from benchmarks.markdown import table
from benchmarks.run import commit
from benchmarks.words import significant

from .connections import AFTER, Connections, SetUp
from .restart import PLAIN, Restart
from .studies import Results


def parts(results: Results, made: str) -> Mapping[str, Callable[[], str]]:
    """Give the parts of a document that there are results for, and how they were made."""
    tables = {
        "connections": _connections,
        "restarts": _restarts,
        "lifetimes": _lifetimes,
        "days": _days,
        "full": _full,
    }
    there = {
        name: partial(part, results) for name, part in tables.items() if getattr(results, name)
    }
    return {"made": lambda: made, **there}


def how_made(seed: int) -> str:
    """Say what is about to be run: when, what, with which seed."""
    head = commit() or "unknown"
    return (
        f"Simulated on {datetime.now(UTC).date()} with commit {head[:12]}{head[40:]}, seed {seed}, "
        f"CPython {platform.python_version()}."
    )


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _seconds(number: float) -> str:
    return "never" if number < 0 else f"{number:.2f} s"


def _connections(results: Results) -> str:
    head = [
        "",
        "could be",
        "at rest",
        "usual",
        "peak",
        *(f"{seconds:.0f} s after" for seconds in AFTER),
    ]
    return table(head, [_connections_row(each) for each in results.connections])


def _connections_row(each: Connections) -> list[str]:
    after = [_whole(count) for count in each.after] or ["" for _ in AFTER]
    counts = [each.bound, each.at_rest, each.usual, each.peak]
    return [_set_up(each.setup), *(_whole(count) for count in counts), *after]


def _set_up(setup: SetUp) -> str:
    default = SetUp(setup.processes)
    changed = [
        f"`{name}={getattr(setup, name):g}`"
        if getattr(setup, name) is not None
        else f"`{name}=None`"
        for name in ("max_size", "min_size", "max_idle")
        if getattr(setup, name) != getattr(default, name)
    ]
    nodes = "" if setup.nodes == 1 else f", {setup.nodes} nodes"
    return ", ".join([f"{setup.processes:,} processes{nodes}", *changed])


def _restarts(results: Results) -> str:
    groups = dict.fromkeys((r.greeting, r.processes, r.down) for r in results.restarts)
    return "\n\n".join(
        f"{processes:,} processes; the server is down for {down:g} s and greets a connection in "
        f"{greeting * 1000:g} ms{'' if greeting == PLAIN else ' (TLS)'}:\n\n"
        + table(
            [
                "",
                "dials of a process while down",
                "worst 10 ms",
                "worst second",
                "SYNs dropped",
                "dials failed",
                "connections opened",
                "all processes served after",
                "last long wait ends after",
                "requests failed",
            ],
            [
                _restart_row(each)
                for each in results.restarts
                if (each.greeting, each.processes, each.down) == (greeting, processes, down)
            ],
        )
        for greeting, processes, down in groups
    )


def _restart_row(each: Restart) -> list[str]:
    return [
        each.variant,
        significant(each.while_down / each.processes),
        _whole(each.worst_10_ms),
        _whole(each.worst_second),
        _whole(each.dropped),
        _whole(each.failed_afterwards),
        _whole(each.reopened),
        _seconds(each.all_served),
        _seconds(each.last_wait),
        _whole(each.failed),
    ]


def _lifetimes(results: Results) -> str:
    rows = [
        [
            f"{each.jitter:.1%}",
            f"{each.within:g} s",
            *(_whole(dials) for dials in each.worst),
        ]
        for each in results.lifetimes
    ]
    generations = ["first", "second", "third"]
    return table(["jitter", "all opened within", *(f"{name} expiry" for name in generations)], rows)


def _days(results: Results) -> str:
    return table(
        ["`max_idle`", "open at noon", "at the fewest", "mean", "dials a day", "requests a dial"],
        [
            [
                "None" if each.max_idle is None else f"{each.max_idle:g} s",
                significant(max(each.last_day)),
                significant(min(each.last_day)),
                significant(sum(each.last_day) / len(each.last_day)),
                _whole(each.dials / each.processes),
                _whole(each.requests / each.dials) if each.dials else "no dials",
            ]
            for each in results.days
        ],
    )


def _full(results: Results) -> str:
    return table(
        [
            "",
            "connections, at most",
            "dials each second",
            "turned away each second",
            "requests served",
            "failed",
            "longest wait",
            "connections of a process: fewest",
            "median",
            "most",
            "late processes: served",
            "failed ",
        ],
        [
            [
                f"{each.variant}: {each.processes:,} processes, `maxclients {each.maxclients}`",
                _whole(each.open),
                _whole(each.dials_each_second),
                _whole(each.turned_away_each_second),
                _whole(each.served),
                _whole(each.failed),
                _seconds(each.longest_wait),
                _whole(each.fewest),
                significant(each.middle),
                _whole(each.most),
                _whole(each.late_served),
                _whole(each.late_failed),
            ]
            for each in results.full
        ],
    )
