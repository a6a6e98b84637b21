"""What became slower since an older run.

Seconds of two runs can't be compared: the machine, or what else it did, may have been another. So what
is compared is how many times as fast aiopool was as a rival that was measured beside it. It counts as
changed if the ranges of the two runs, over all their rounds, have nothing in common and a gap between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .contenders import OURS, PACKAGES, RIVALS
from .results import Run, Series, Setting, Spread, ratio
from .words import times

_ROUNDS = 3  # below which the extremes tell nothing
_MARGIN = 0.05  # a gap between the ranges that may be chance, as there are many to compare


class NotComparable(Exception):
    """Two runs have nothing in common that could be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """A ratio of one of aiopool's faces to a rival, then and now."""

    setting: Setting
    scenario: str
    case: str
    ours: str
    rival: str
    old: Spread
    new: Spread

    @property
    def slower(self) -> bool:
        """Whether the best round now is worse than the worst then."""
        return self.new.most * (1 + _MARGIN) < self.old.least

    @property
    def faster(self) -> bool:
        """Whether the worst round now is better than the best then."""
        return self.new.least > self.old.most * (1 + _MARGIN)

    def __str__(self) -> str:
        """Say what changed, and how much."""
        where = f"{self.scenario}, {self.case} ({self.setting})"
        return f"{self.ours} beside {self.rival} in {where}: {times(self.old)} -> {times(self.new)}"


@dataclass(slots=True)
class Comparison:
    """All that could be compared."""

    slower: list[Change] = field(default_factory=list[Change])
    faster: list[Change] = field(default_factory=list[Change])
    same: int = 0


def compare(old: Run, new: Run) -> Comparison:
    """Compare what both have measured.

    Raises:
        NotComparable: There is nothing, or it would say nothing.

    """
    rivals = _rivals(old, new)
    comparison = Comparison()
    for key in new.keys:
        then, now = old.at(*key), new.at(*key)
        for rival in rivals:
            if rival in then and rival in now:
                for change in _changes(then, now, rival):
                    if change.slower:
                        comparison.slower.append(change)
                    elif change.faster:
                        comparison.faster.append(change)
                    else:
                        comparison.same += 1
                break
    if not (comparison.slower or comparison.faster or comparison.same):
        msg = "the two runs have no case in common in which aiopool and a rival were measured"
        raise NotComparable(msg)
    return comparison


def _rivals(old: Run, new: Run) -> Sequence[str]:
    """Give the rivals that are the same in both."""
    pythons = [run.versions["python"].rpartition(".")[0] for run in (old, new)]
    if pythons[0] != pythons[1]:
        msg = f"one run was made with Python {pythons[0]}, the other with {pythons[1]}"
        raise NotComparable(msg)
    for name, run in (("old", old), ("new", new)):
        rounds = min((len(series.samples) for series in run.series), default=0)
        if rounds < _ROUNDS:
            msg = f"the {name} run has only {rounds} rounds, where {_ROUNDS} are needed"
            raise NotComparable(msg)
    same = [
        rival
        for rival in RIVALS
        if (package := PACKAGES[rival]) in old.versions
        and old.versions[package] == new.versions.get(package)
    ]
    if not same:
        msg = "no rival is of the same version in both runs, so there is nothing to compare with"
        raise NotComparable(msg)
    return same


def _changes(then: Mapping[str, Series], now: Mapping[str, Series], rival: str) -> list[Change]:
    return [
        Change(
            *now[ours].key,
            ours,
            rival,
            ratio(then[rival], then[ours]),
            ratio(now[rival], now[ours]),
        )
        for ours in OURS
        if ours in then and ours in now
    ]
