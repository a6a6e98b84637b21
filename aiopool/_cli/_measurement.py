"""What is measured of one size: in one round, and over all rounds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Measurement:
    """One size in one round. All durations are seconds."""

    size: int
    seconds: float
    """For how long it was measured."""
    finished: int
    """Requests that succeeded meanwhile."""
    wait_mean: float
    wait_p50: float
    wait_p99: float
    """How long a connection was waited for."""
    request_mean: float
    request_p50: float
    request_p99: float
    """How long requests took in all."""
    in_use: float
    in_line: float
    """How many connections were lent, and how many callers waited, on average, as the pool counts."""
    busy: float
    """The part of the time that the event loop's thread spent computing, from 0 to 1."""
    errors: Mapping[str, int]
    """Requests that failed, by class of error."""

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())

    @property
    def throughput(self) -> float:
        """Requests that succeeded per second."""
        return self.finished / self.seconds

    @property
    def use_mean(self) -> float:
        """For how long a request had its connection, on average, as the requests tell."""
        return self.request_mean - self.wait_mean


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and the quartiles below and above it."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One size over all rounds: medians of what each round gave, and sums of what it counted."""

    size: int
    throughput: float
    """Requests that succeeded per second: its share of the best size's median."""
    best: bool
    """Whether this is the size that no other beats, or by the least; the smaller of two equals."""
    share: Spread
    """The throughput as a part of that of the size with which it compares worst."""
    wait_mean: float
    wait_p50: float
    wait_p99: float
    request_p50: float
    request_p99: float
    use_mean: float
    in_use: float
    in_line: float
    busy: float
    finished: int
    errors: Mapping[str, int]

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.errors.values())

    @property
    def sound(self) -> bool:
        """Whether next to no requests failed: such a size is fit for use."""
        return _sound(self.failed, self.finished)


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Find the value that so many per cent of the sorted values do not exceed, or the next."""
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Find median and quartiles; of a single value all three are the same."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*quantiles(values, n=4, method="inclusive"))


def rows(measurements: Sequence[Measurement]) -> list[Row]:
    """Sum up what was measured in rounds, each of which has every size once; smallest size first."""
    series: dict[int, list[Measurement]] = {}
    for measurement in sorted(measurements, key=lambda m: m.size):
        series.setdefault(measurement.size, []).append(measurement)
    # Sizes at which requests fail are no measure for the others, unless there are no others.
    fit = [one for one in series.values() if _fit(one)] or [*series.values()]
    best = max(fit, key=lambda one: _share(one, fit).middle)
    return [_row(one, best, fit) for one in series.values()]


def _share(one: Sequence[Measurement], rivals: Sequence[Sequence[Measurement]]) -> Spread:
    """Compare a size with others, round by round, for what else the machine does comes and goes."""
    shares = [
        spread([m.throughput / r.throughput for m, r in zip(one, rival, strict=True)])
        for rival in rivals
    ]
    return Spread(
        min(share.low for share in shares),
        min(share.middle for share in shares),
        min(share.high for share in shares),
    )


def _fit(one: Sequence[Measurement]) -> bool:
    return _sound(sum(m.failed for m in one), sum(m.finished for m in one))


def _sound(failed: int, finished: int) -> bool:
    few = 0.001
    return failed <= few * (failed + finished)


def _row(
    one: Sequence[Measurement],
    best: Sequence[Measurement],
    rivals: Sequence[Sequence[Measurement]],
) -> Row:
    errors: Counter[str] = Counter()
    for measurement in one:
        errors.update(measurement.errors)
    share = _share(one, rivals)
    return Row(
        size=one[0].size,
        # Not its own median, which may be of another round than the best size's.
        throughput=share.middle * median(m.throughput for m in best),
        best=one is best,
        share=share,
        wait_mean=median(m.wait_mean for m in one),
        wait_p50=median(m.wait_p50 for m in one),
        wait_p99=median(m.wait_p99 for m in one),
        request_p50=median(m.request_p50 for m in one),
        request_p99=median(m.request_p99 for m in one),
        use_mean=median(m.use_mean for m in one),
        in_use=median(m.in_use for m in one),
        in_line=median(m.in_line for m in one),
        busy=median(m.busy for m in one),
        finished=sum(m.finished for m in one),
        errors=dict(errors),
    )
