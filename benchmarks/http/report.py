"""The results as tables."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import TypeVar

from benchmarks.markdown import table
from benchmarks.results import Spread
from benchmarks.words import amount, significant, times

from .contenders import BLOCKING
from .measurement import OVERLOAD, Results, Turn

K = TypeVar("K")


def parts(results: Results) -> Mapping[str, Callable[[], str]]:
    """Give the parts of a document."""
    return {name: partial(part, results) for name, part in _PARTS.items()}


def how_made(results: Results) -> str:
    """Say when, where and with what it was measured."""
    head = results.commit or "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Measured on {results.made[:10]} of commit {head[:12]}{head[40:]} with {versions}; "
        f"{results.machine['processor']}, {results.machine['cores']} cores."
    )


def capacity(results: Results) -> str:
    """Make the table of clients that wait for each answer."""
    rows: list[Sequence[str]] = []
    for (place, clients), turns in _grouped(results.turns, lambda t: (t.place, t.clients)).items():
        if not clients:
            continue
        by_contender = _grouped(turns, lambda turn: turn.contender)
        theirs = [turn.rate for turn in by_contender[BLOCKING.name]]
        for name, of_one in by_contender.items():
            ratios = [
                turn.rate / their for turn, their in zip(of_one, theirs, strict=True) if their
            ]
            rows.append(
                [
                    f"{place}, {clients} clients",
                    name,
                    _spread([turn.rate for turn in of_one], _whole),
                    "" if name == BLOCKING.name else _beside(ratios),
                    *_times_taken(of_one),
                    _share(of_one, lambda turn: turn.requests - turn.served),
                    *_busy(of_one),
                ]
            )
    head = ["", "", "served each second", f"beside {BLOCKING.name}", "p50", "p99"]
    head += ["not served within 1 s", "server busy", "client busy"]
    return table(head, rows)


def overload(results: Results) -> str:
    """Make the table of requests that come whether others are answered or not."""
    at_random = [turn for turn in results.turns if not turn.clients]
    rows: list[Sequence[str]] = []
    for (place, offered), turns in _grouped(at_random, lambda t: (t.place, t.offered)).items():
        for name, of_one in _grouped(turns, lambda turn: turn.contender).items():
            told = [turn.refusals["50"] for turn in of_one if turn.refusals]
            rows.append(
                [
                    f"{place}, {offered:,.0f} requests/s",
                    name,
                    _spread([turn.rate for turn in of_one], _whole),
                    *_times_taken(of_one),
                    _share(of_one, lambda turn: turn.refused),
                    amount(median(told), "s") if told else "",
                    _share(of_one, lambda turn: turn.late),
                    _share(of_one, lambda turn: turn.failed),
                    *_busy(of_one),
                ]
            )
    head = [f"{OVERLOAD:g}x overload", "", "served in time each second", "p50", "p99"]
    head += ["told 503", "after", "too late", "other errors", "server busy", "client busy"]
    return table(head, rows)


_PARTS = {"made": how_made, "capacity": capacity, "overload": overload}


def _grouped(turns: Sequence[Turn], key: Callable[[Turn], K]) -> dict[K, list[Turn]]:
    groups: dict[K, list[Turn]] = {}
    for turn in turns:
        groups.setdefault(key(turn), []).append(turn)
    return groups


def _spread(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Give the median, and the extremes if there was more than one round."""
    if not values:
        return ""
    if len(values) == 1:
        return write(values[0])
    return f"{write(median(values))} ({write(min(values))}-{write(max(values))})"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _beside(ratios: Sequence[float]) -> str:
    return times(Spread(median(ratios), min(ratios), max(ratios))) if ratios else ""


def _times_taken(turns: Sequence[Turn]) -> list[str]:
    """Give the medians over the rounds of two percentiles."""
    served = [turn.times for turn in turns if turn.times]
    return [amount(median(t[p] for t in served), "s") if served else "" for p in ("50", "99")]


def _share(turns: Sequence[Turn], number: Callable[[Turn], int]) -> str:
    share = 100 * sum(map(number, turns)) / max(1, sum(turn.requests for turn in turns))
    return "" if share == 0 else f"{significant(share)}%"


def _busy(turns: Sequence[Turn]) -> list[str]:
    parts = [turn.server_busy for turn in turns], [turn.client_busy for turn in turns]
    return [f"{100 * median(part):.0f}%" if any(part) else "" for part in parts]
