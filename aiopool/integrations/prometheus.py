"""Pools in Prometheus' exposition: a collector for `prometheus_client`.

Gauges and counters are computed from `stats()` when Prometheus asks, so they can't drift. Only how long
things took has to be noted when it happens. The collector may be asked in any thread (`start_http_server`
has its own), so what it reads is single numbers, and copies, made in one step, of what may change meanwhile.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from weakref import WeakKeyDictionary, ref

from redis.asyncio import Redis

from aiopool import Listener, RedisCluster, Stats

from ._lenders import Lender, is_view, lender

try:
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
except ModuleNotFoundError as _error:
    _msg = f"aiopool.integrations.prometheus needs {_error.name}: pip install 'aiopool[prometheus]'"
    raise ModuleNotFoundError(_msg, name=_error.name) from _error

# Three a decade, from 10 µs, which is about what a caller waits that meets an idle connection, to 50 s.
BOUNDS = [float(f"{digit}e{power}") for power in range(-5, 2) for digit in (1, 2.5, 5)]
_IN_WORDS = [*map(str, BOUNDS), "+Inf"]

# Those of `Stats.closed`. All are shown from the beginning: where the first of a kind makes its series
# begin with 1, Prometheus sees no increase.
REASONS = (
    "max_idle",
    "max_lifetime",
    "lost",
    "unusable",
    "dirty",
    "check_failed",
    "drained",
    "resized",
    "reclaimed",
    "pool_closed",
)


def register(
    pool: Lender | Redis | RedisCluster, registry: CollectorRegistry = REGISTRY
) -> Callable[[], None]:
    """Show a pool in what this registry exposes, until it is dropped or taken off again.

    Args:
        pool: A `Pool`, `RedisPool` or `SentinelPool`, a view of one, a client of one of these, or a
            `RedisCluster`, of which the pool of each node is shown that was ever needed. Its name is the
            label `pool`; where another one has that, `-2` (`-3`, ...) is added. The label `kind` is `pool`
            or `view`: what a view lends is lent by its pool as well, so don't add them up.
        registry: Where to show it. It may be asked from any thread.

    Returns:
        What takes the pool off again; to call it once more does nothing.

    Raises:
        TypeError: It is none of these.
        ValueError: The pool is registered there already, or another collector has metrics of such names.

    """
    observed = lender(pool)
    if (collector := _collectors.get(registry)) is None:
        collector = PoolCollector()
        registry.register(collector)
        _collectors[registry] = collector
    return collector.add(observed)


class Durations:
    """How long something took, each time, counted in buckets.

    Only one thread writes, so it needs no lock, which is most of what `prometheus_client.Histogram` costs.
    """

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * len(_IN_WORDS)
        self.sum: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Give for each bound, the last of which is infinity, how many took no longer."""
        return [*zip(_IN_WORDS, accumulate(self.counts.copy()), strict=True)]


_NONE = Durations()  # of what has not happened yet


class Observed(Listener):
    """A pool, or the client of a cluster with a pool for each node, held weakly."""

    def __init__(self, what: Lender | RedisCluster, forget: "Callable[[Observed], None]") -> None:
        """Observe it, until it is no more: then it is to be forgotten."""
        self.what: ref[Lender | RedisCluster] = ref(what, lambda _: forget(self))
        # All by the name of a pool.
        self.labels: dict[str | None, str] = {}
        self.waits: defaultdict[str | None, Durations] = defaultdict(Durations)
        self.uses: defaultdict[str | None, Durations] = defaultdict(Durations)
        self.openings: defaultdict[str | None, Durations] = defaultdict(Durations)

    def pools(self) -> list[Lender]:
        """List the pools that there are now, and forget the others, which are those of nodes that have gone."""
        what = self.what()
        if not isinstance(what, RedisCluster):
            return [] if what is None else [what]
        by_name = self.labels, self.waits, self.uses, self.openings
        # First the names: so those of pools that are made meanwhile are not among them.
        names = {name for each in by_name for name in [*each]}
        pools = what.nodes_manager.pools()
        for name in names.difference(pool.name for pool in pools):
            for each in by_name:
                each.pop(name, None)
        return [*pools]

    # The first two are on the path of every lending.

    def lent(self, pool: Lender, conn: object, waited: float, /) -> None:  # noqa: ARG002 - the interface
        """Note how long a caller has waited, if at all."""
        self.waits[pool.name].add(waited)

    def returned(self, pool: Lender, conn: object, used: float, /) -> None:  # noqa: ARG002 - likewise
        """Note how long a connection was lent."""
        self.uses[pool.name].add(used)

    def opened(self, pool: Lender, conn: object, took: float, /) -> None:  # noqa: ARG002 - likewise
        """Note how long an opening took."""
        self.openings[pool.name].add(took)


LABELS = ["pool", "kind"]


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to tell of one pool."""

    labels: tuple[str, str]  # as `LABELS`
    stats: Stats
    longest_lent: float
    waits: Durations
    uses: Durations
    openings: Durations


class PoolCollector:
    """Collects the metrics of all pools that were registered with one registry."""

    def __init__(self) -> None:
        self._observed: dict[Observed, None] = {}  # in the order of registration

    def add(self, pool: Lender | RedisCluster) -> Callable[[], None]:
        """Have a pool, until it is dropped or the result is called."""
        if any(observed.what() is pool for observed in [*self._observed]):
            msg = f"{pool!r} is registered already"
            raise ValueError(msg)
        observed = Observed(pool, self._forget)
        stop = pool.on(observed)
        self._observed[observed] = None

        def take_off() -> None:
            stop()
            self._forget(observed)

        return take_off

    def _forget(self, observed: Observed) -> None:
        self._observed.pop(observed, None)

    def _label(self, observed: Observed, name: str | None) -> str:
        """Give the label of a pool, which it keeps."""
        if (label := observed.labels.get(name)) is not None:
            return label
        taken = {label for other in [*self._observed] for label in [*other.labels.values()]}
        wanted = name or "pool"
        tries = (wanted if n == 1 else f"{wanted}-{n}" for n in count(1))
        label = next(each for each in tries if each not in taken)
        return observed.labels.setdefault(name, label)  # another thread may collect as well

    def describe(self) -> Iterable[Metric]:
        """Give all metrics without values: the registry asks for their names."""
        return _exposition([])

    def collect(self) -> Iterable[Metric]:
        """Give all metrics of all pools."""
        return _exposition([*self._pictures()])

    def _pictures(self) -> Iterator[Picture]:
        pools = [(observed, pool) for observed in [*self._observed] for pool in observed.pools()]
        # For long on purpose, most likely, and its view tells of it.
        by_views = {
            id(holder.conn) for _, pool in pools if is_view(pool) for holder in pool.holders()
        }
        for observed, pool in pools:
            name, view = pool.name, is_view(pool)
            ages = (each.age for each in pool.holders() if view or id(each.conn) not in by_views)
            yield Picture(
                labels=(self._label(observed, name), "view" if view else "pool"),
                stats=pool.stats(),
                longest_lent=next(ages, 0.0),
                waits=observed.waits.get(name, _NONE),
                uses=observed.uses.get(name, _NONE),
                openings=observed.openings.get(name, _NONE),
            )


_collectors: WeakKeyDictionary[CollectorRegistry, PoolCollector] = WeakKeyDictionary()

_GAUGES: list[tuple[str, str, Callable[[Picture], float]]] = [
    ("max_size", "The most connections that may exist.", lambda p: p.stats.max_size),
    ("min_size", "So many connections are kept open.", lambda p: p.stats.min_size),
    ("waiting", "Callers in line for a connection.", lambda p: p.stats.waiting),
    (
        "longest_lent_seconds",
        "How long ago the connection was lent that is away for the longest; of a pool, none of its views'.",
        lambda p: p.longest_lent,
    ),
]
_COUNTERS: list[tuple[str, str, Callable[[Picture], float]]] = [
    ("acquired", "Connections lent.", lambda p: p.stats.acquired),
    ("timed_out", "Callers that got PoolTimeout.", lambda p: p.stats.timed_out),
    ("rejected", "Callers that got TooManyWaiters.", lambda p: p.stats.rejected),
    ("opened", "Connections opened.", lambda p: p.stats.opened),
    ("open_failed", "Openings that failed.", lambda p: p.stats.open_failed),
    (
        "loop_blocked_seconds",
        "Time for which the event loop was blocked while somebody waited.",
        lambda p: p.stats.blocked_seconds,
    ),
]
_HISTOGRAMS: list[tuple[str, str, Callable[[Picture], Durations]]] = [
    ("wait", "How long callers waited that got a connection, if at all.", lambda p: p.waits),
    ("use", "How long connections were lent that came back.", lambda p: p.uses),
    ("open", "How long openings took that succeeded.", lambda p: p.openings),
]


def _exposition(pictures: list[Picture]) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "aiopool_connections", "Connections, by where they are.", labels=[*LABELS, "state"]
    )
    closed = CounterMetricFamily(
        "aiopool_closed", "Connections closed, by why.", labels=[*LABELS, "reason"]
    )
    for picture in pictures:
        for state in ("idle", "lent", "opening", "checking"):
            connections.add_metric([*picture.labels, state], getattr(picture.stats, state))
        for reason, number in {**dict.fromkeys(REASONS, 0), **picture.stats.closed}.items():
            closed.add_metric([*picture.labels, reason], number)
    yield connections
    yield closed
    for name, words, value in _GAUGES:
        gauge = GaugeMetricFamily(f"aiopool_{name}", words, labels=LABELS)
        for picture in pictures:
            gauge.add_metric(picture.labels, value(picture))
        yield gauge
    for name, words, value in _COUNTERS:
        counter = CounterMetricFamily(f"aiopool_{name}", words, labels=LABELS)
        for picture in pictures:
            counter.add_metric(picture.labels, value(picture))
        yield counter
    for name, words, durations in _HISTOGRAMS:
        histogram = HistogramMetricFamily(f"aiopool_{name}_seconds", words, labels=LABELS)
        for picture in pictures:
            observed = durations(picture)
            histogram.add_metric(picture.labels, observed.buckets(), observed.sum)
        yield histogram
