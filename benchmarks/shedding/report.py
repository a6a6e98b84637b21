"""The results as tables."""

from collections.abc import Mapping, Sequence

from benchmarks.markdown import table
from benchmarks.words import amount

from .service import DEADLINE, Tally, Uses
from .simulation import Outcome, Rule

_FIGURES = ("goodput", "failed", "told after", "p50", "p99")


def overload(outcomes: Mapping[tuple[Uses, float, float, Rule], Outcome]) -> str:
    """Make a table for each kind of uses and each timeout; of each figure without and with."""
    rules = list(dict.fromkeys(rule for *_, rule in outcomes))
    head = ["load", *(f"{figure}: {rule.name}" for figure in _FIGURES for rule in rules)]
    parts: list[str] = []
    for uses, timeout in dict.fromkeys((uses, timeout) for uses, timeout, *_ in outcomes):
        loads = dict.fromkeys(load for u, t, load, _ in outcomes if (u, t) == (uses, timeout))
        rows = [
            [
                f"{load:g}x",
                *(
                    _figures(outcomes[uses, timeout, load, rule])[figure]
                    for figure in range(len(_FIGURES))
                    for rule in rules
                ),
            ]
            for load in loads
        ]
        title = f"{uses.name.capitalize()} uses, `timeout={timeout:g}`, deadline {DEADLINE:g} s:"
        parts.append(f"{title}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def rules(outcomes: Mapping[tuple[Rule, str, Uses], Outcome]) -> str:
    """Make a table of the goodput by each rule in each trouble, and after how long failures were told."""
    head = ["", *(rule.name for rule in dict.fromkeys(rule for rule, *_ in outcomes))]
    rows = [
        [
            f"{trouble}, {uses.name}",
            *(_in_short(each) for (_, *case), each in outcomes.items() if case == [trouble, uses]),
        ]
        for trouble, uses in dict.fromkeys((trouble, uses) for _, trouble, uses in outcomes)
    ]
    return table(head, rows)


def measured(outcomes: Mapping[tuple[Uses, Rule], Outcome]) -> str:
    """Make a table of what was measured."""
    rows: list[Sequence[str]] = [
        [f"{uses.name}, {rule.name}", *_figures(each), f"{each.opened:,}"]
        for (uses, rule), each in outcomes.items()
    ]
    return table(["", *_FIGURES, "connections opened"], rows)


def _figures(outcome: Outcome) -> list[str]:
    tally = outcome.tally
    return [
        _share(outcome.goodput),
        _share(tally.failed),
        _told_after(tally),
        _seconds(tally.took(0.5)),
        _seconds(tally.took(0.99)),
    ]


def _in_short(outcome: Outcome) -> str:
    told = _told_after(outcome.tally)
    return f"{_share(outcome.goodput)} ({told})" if told else _share(outcome.goodput)


def _share(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.095 or share == 0 else f"{100 * share:.1f}%"  # noqa: PLR2004


def _told_after(tally: Tally) -> str:
    return "at once" if tally.failed and not tally.told_after else _seconds(tally.told_after)


def _seconds(seconds: float) -> str:
    return amount(seconds, "s") if seconds > 0 else ""
