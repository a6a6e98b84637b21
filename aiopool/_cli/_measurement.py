"""What is measured of one size: in one round, and over all rounds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles


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
    """Whether this is the size with the best throughput."""
    share: Spread
    """The throughput as a part of the best size's, compared within each round."""
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
    best = _best([*series.values()])
    return [_row(one, best) for one in series.values()]


def _best(series: Sequence[Sequence[Measurement]]) -> Sequence[Measurement]:
    """Find the best size's measurements; the smaller one's, if two are equally good."""
    # Within each round, for what else the machine does comes and goes.
    means = [fmean(m.throughput for m in a_round) for a_round in zip(*series, strict=True)]
    # Sizes at which requests fail are no measure for the others, unless there are no others.
    fit = [
        one for one in series if _sound(sum(m.failed for m in one), sum(m.finished for m in one))
    ]
    return max(
        fit or series,
        key=lambda one: median(m.throughput / mean for m, mean in zip(one, means, strict=True)),
    )


def _sound(failed: int, finished: int) -> bool:
    few = 0.001
    return failed <= few * (failed + finished)


def _row(one: Sequence[Measurement], best: Sequence[Measurement]) -> Row:
    errors: Counter[str] = Counter()
    for measurement in one:
        errors.update(measurement.errors)
    # Not by its own median, which a slow round may have in one size and not in the other.
    share = spread([m.throughput / b.throughput for m, b in zip(one, best, strict=True)])
    return Row(
        size=one[0].size,
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
