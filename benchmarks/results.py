"""What one run has measured, and the JSON file it is kept in."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

FORMAT = 1  # of the file; another number, another meaning


@dataclass(frozen=True, slots=True)
class Setting:
    """What a child process measures everything in."""

    loop: str
    """asyncio or uvloop."""
    hiredis: bool
    """Whether redis-py parses with hiredis, or in Python."""

    def __str__(self) -> str:
        """Give its name for titles of tables."""
        return f"{self.loop}, {'hiredis' if self.hiredis else 'no hiredis'}"


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one contender in one case of a scenario."""

    setting: Setting
    scenario: str
    case: str
    """What varies inside the scenario, as `100 tasks`; sorts by the order of measurement."""
    tasks: int
    """How many tasks there were, for the axis of a plot."""
    contender: str
    unit: str
    """What a sample is: `s` (seconds for one operation), `B` (bytes for one thing), ... Less is better."""
    samples: list[float]
    """One for each round. All contenders took turns in each round, so sample i of one belongs to sample
    i of the others."""
    latencies: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds that single operations took, over all rounds: by percentile, as `50`, `99`, `100`."""
    waits: dict[str, float] = field(default_factory=dict[str, float])
    """Seconds that single operations waited for a connection: likewise."""
    counts: dict[str, float] = field(default_factory=dict[str, float])
    """What else was counted: errors, connections opened, ..."""

    @property
    def middle(self) -> float:
        """The median of the samples."""
        return median(self.samples)

    @property
    def key(self) -> tuple[Setting, str, str]:
        """Where it was measured: what has the same key can be compared."""
        return self.setting, self.scenario, self.case


@dataclass(frozen=True, slots=True)
class Absence:
    """A contender that did not take part in a case, and why."""

    setting: Setting
    scenario: str
    case: str
    contender: str
    why: str
    failed: bool
    """Whether it should have been able to."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A ratio in every round: the median and the extremes."""

    middle: float
    least: float
    most: float


def ratio(slower: Series, faster: Series) -> Spread:
    """Say how many times as much one took as the other, round by round."""
    each = [a / b for a, b in zip(slower.samples, faster.samples, strict=True)]
    return Spread(median(each), min(each), max(each))


@dataclass(frozen=True, slots=True)
class Run:
    """All that one call of the command has measured, and on what."""

    command: str
    made: str
    """When it began: ISO 8601, UTC."""
    commit: str | None
    versions: dict[str, str]
    machine: dict[str, str]
    missing: list[Absence]
    """Contenders that could not take part."""
    series: list[Series]

    def at(self, setting: Setting, scenario: str, case: str) -> dict[str, Series]:
        """Give what was measured there, by contender."""
        return {s.contender: s for s in self.series if s.key == (setting, scenario, case)}

    @property
    def keys(self) -> Sequence[tuple[Setting, str, str]]:
        """All that was measured, in the order of measurement."""
        return list(dict.fromkeys(s.key for s in self.series))

    def save(self, path: Path) -> None:
        """Write the file."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            OSError: It can't be read.
            ValueError: It is none that `save()` wrote, or one of another format.

        """
        text = path.read_text(encoding="utf-8")
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("format") == FORMAT:
                missing = [absence_of(one) for one in data.pop("missing")]
                series = [series_of(one) for one in data.pop("series")]
                return cls(missing=missing, series=series, **data)
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        msg = f"{path} is no result of python -m benchmarks (format {FORMAT})"
        raise ValueError(msg)


def series_of(data: dict[str, Any]) -> Series:
    """Read what `asdict()` made of a series."""
    return Series(setting=Setting(**data.pop("setting")), **data)


def absence_of(data: dict[str, Any]) -> Absence:
    """Read what `asdict()` made of an absence."""
    return Absence(setting=Setting(**data.pop("setting")), **data)
