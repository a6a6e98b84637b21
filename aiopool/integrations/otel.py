"""OpenTelemetry: the metrics that it has names for in a pool, and a span for each wait in the line.

One more counter, of callers turned away, has a name of our own: there is none for it.

Needs `opentelemetry-api`, which is the extra `otel`; what is exported, and where to, is the business of
the SDK that an application sets up. The metrics are those of the semantic conventions for connection
pools of database clients: https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from time import time_ns
from typing import Any
from weakref import WeakKeyDictionary, ref

from redis.asyncio import Redis

from aiopool import Listener, Pool, PoolTimeout, RedisCluster, Stats, TooManyWaiters, View

from ._lenders import Lender, lender

try:
    from opentelemetry.metrics import (
        CallbackOptions,
        Histogram,
        Meter,
        MeterProvider,
        Observation,
        get_meter_provider,
    )
    from opentelemetry.trace import Status, StatusCode, Tracer, TracerProvider, get_tracer
except ModuleNotFoundError as _error:
    _msg = f"aiopool.integrations.otel needs {_error.name}: pip install 'aiopool[otel]'"
    raise ModuleNotFoundError(_msg, name=_error.name) from _error

Attributes = dict[str, str]
Values = Iterable[tuple[int, Attributes]]  # those of one instrument, with what tells them apart

SCOPE = "aiopool"
METRICS = "db.client.connection."
POOL_NAME = "db.client.connection.pool.name"
IDLE = {"db.client.connection.state": "idle"}
USED = {"db.client.connection.state": "used"}
# There is neither a metric nor an attribute for these in the conventions.
REJECTIONS = "aiopool.rejections"
WAITED = "aiopool.waited"
ERROR_TYPE = "error.type"

# Upper bounds in seconds: from a connection that is had at once to a caller who gives up.
BOUNDARIES = [
    *(0.000_01, 0.000_025, 0.000_05),
    *(0.000_1, 0.000_25, 0.000_5),
    *(0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
]


def instrument(
    pool: Lender | Redis | RedisCluster,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
) -> Callable[[], None]:
    """Report on a pool, or on those of all nodes of a cluster, from now on.

    A pool that is dropped is reported on no more. Two pools of one name get different ones here: the
    second is called `name-2`.

    A caller that stood in the line gets a span, as a child of its current one, with the seconds as
    `aiopool.waited`; one of an error if it waited in vain, or was turned away. Whoever had a connection at
    once gets none.

    Args:
        pool: A `Pool`, `RedisPool` or `SentinelPool`, a view of one, a client of one of these, or a
            `RedisCluster`. It may be in use already; what happened before is not in the histograms.
        meter_provider: Where the metrics go; the global one by default, also if that is set later.
        tracer_provider: Likewise, for the spans.

    Returns:
        What ends that.

    Raises:
        TypeError: It is none of these.
        ValueError: The pool is reported on already, by way of this meter provider.

    """
    reported = lender(pool)
    instruments = _instruments(meter_provider)
    if any(known.reports_on(reported) for known in instruments.reporters):
        msg = f"{reported!r} is instrumented already"
        raise ValueError(msg)
    reporter = _Reporter(reported, instruments, get_tracer(SCOPE, tracer_provider=tracer_provider))
    take_off = reported.on(reporter)
    instruments.reporters.append(reporter)

    def end() -> None:
        take_off()
        reporter.end()

    return end


class _Instruments:
    """The instruments of one meter provider, which are to be made once, and who reports by way of them.

    What can be counted is counted when it is collected, and so can't differ from what there is.
    """

    def __init__(self, meter: Meter) -> None:
        self.reporters: list[_Reporter] = []
        self._meter = meter
        self._count(
            "count",
            "{connection}",
            "How many connections are idle, and how many are lent",
            lambda stats: [(stats.idle, IDLE), (stats.lent, USED)],
        )
        self._count(
            "idle.max",
            "{connection}",
            "The most connections that may be idle at the same time",
            lambda stats: [(stats.max_size, {})],
        )
        self._count(
            "idle.min",
            "{connection}",
            "So many connections are kept open, be they needed or not",
            lambda stats: [(stats.min_size, {})],
        )
        self._count(
            "max",
            "{connection}",
            "The most connections that may exist at the same time",
            lambda stats: [(stats.max_size, {})],
        )
        self._count(
            "pending_requests",
            "{request}",
            "How many callers wait in the line for a connection",
            lambda stats: [(stats.waiting, {})],
        )
        meter.create_observable_counter(
            f"{METRICS}timeouts",
            [self._observe(lambda stats: [(stats.timed_out, {})])],
            "{timeout}",
            "How many callers have waited for a connection in vain",
        )
        meter.create_observable_counter(
            REJECTIONS,
            [self._observe(lambda stats: [(stats.rejected, {})])],
            "{rejection}",
            "How many callers were turned away, as too many waited already",
        )
        self.create_time = self._time("create_time", "How long it took to open a connection")
        self.wait_time = self._time(
            "wait_time", "How long it took to get a connection from the pool, be it at once"
        )
        self.use_time = self._time("use_time", "For how long a connection was lent")

    def _count(
        self, name: str, unit: str, description: str, values: Callable[[Stats], Values]
    ) -> None:
        observe = self._observe(values)
        self._meter.create_observable_up_down_counter(
            f"{METRICS}{name}", [observe], unit, description
        )

    def _observe(
        self, values: Callable[[Stats], Values]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterator[Observation]:
            for reporter in [*self.reporters]:  # a copy: who collects may be another thread
                for attributes, stats in reporter.pictures():
                    for value, others in values(stats):
                        yield Observation(value, attributes | others)

        return observe

    def _time(self, name: str, description: str) -> Histogram:
        return self._meter.create_histogram(
            f"{METRICS}{name}",
            "s",
            description,
            explicit_bucket_boundaries_advisory=BOUNDARIES,
        )


_made: "WeakKeyDictionary[MeterProvider, _Instruments]" = WeakKeyDictionary()
_of_the_global: list[_Instruments] = []  # one, or none yet


def _instruments(provider: MeterProvider | None) -> _Instruments:
    """Give the instruments of this provider.

    The global one may be set after the first use: till then another stands in for it, of which all that
    it made goes on, so its instruments are those of the global one.
    """
    present = get_meter_provider()
    provider = present if provider is None else provider
    if provider is present and _of_the_global:
        return _of_the_global[0]
    if (instruments := _made.get(provider)) is None:
        instruments = _made[provider] = _Instruments(provider.get_meter(SCOPE))
    if provider is present:
        _of_the_global.append(instruments)
    return instruments


class _Reporter(Listener):
    """Reports on one pool, or on those of the nodes of one cluster, and keeps none of them alive."""

    def __init__(
        self, pool: Lender | RedisCluster, instruments: _Instruments, tracer: Tracer
    ) -> None:
        self._pool = ref(pool, lambda _: self.end())
        self._instruments = instruments
        self._tracer = tracer
        self._attributes: dict[str | None, Attributes] = {}  # by a pool's own name
        if not isinstance(pool, RedisCluster):
            self._about(pool.name)  # the names of nodes come with them

    def reports_on(self, pool: Lender | RedisCluster) -> bool:
        """Whether this is its pool."""
        return self._pool() is pool

    def end(self) -> None:
        """Be asked no more, also if there is nothing to end."""
        if self in self._instruments.reporters:
            self._instruments.reporters.remove(self)

    def pictures(self) -> Iterator[tuple[Attributes, Stats]]:
        """Give the state of each pool, if there still is one."""
        pool = self._pool()
        if isinstance(pool, RedisCluster):
            for name, stats in pool.node_stats().items():
                yield self._about(name), stats
        elif pool is not None:
            yield self._about(pool.name), pool.stats()

    def _about(self, name: str | None) -> Attributes:
        if (known := self._attributes.get(name)) is None:
            known = {POOL_NAME: self._unused_name(name or "pool")}
            self._attributes[name] = known
        return known

    def _unused_name(self, name: str) -> str:
        """Find a name like this one under which nobody reports."""
        used = {used for each in [*self._instruments.reporters] for used in each.names()}
        names = (name if number == 1 else f"{name}-{number}" for number in count(1))
        return next(each for each in names if each not in used)

    def names(self) -> list[str]:
        """Under which names it reports; those of nodes that have gone are forgotten."""
        known = [*self._attributes]  # before the nodes are listed: more may come meanwhile
        pool = self._pool()
        if isinstance(pool, RedisCluster):
            there = {*pool.node_stats(), *(each.name for each in pool.nodes_manager.pools())}
            for name in known:
                if name not in there:
                    self._attributes.pop(name, None)
        return [attributes[POOL_NAME] for attributes in [*self._attributes.values()]]

    # ---- what it hears -----------------------------------------------------------------------

    def opened(self, pool: Pool[Any] | View[Any], _conn: object, took: float, /) -> None:
        """Record the time that it took."""
        self._instruments.create_time.record(took, self._about(pool.name))

    def lent(self, pool: Pool[Any] | View[Any], _conn: object, waited: float, /) -> None:
        """Record the wait and, if it was one in the line, show it as a span."""
        self._instruments.wait_time.record(waited, self._about(pool.name))
        if waited:
            self._span(pool.name, waited)

    def returned(self, pool: Pool[Any] | View[Any], _conn: object, used: float, /) -> None:
        """Record for how long it was lent."""
        self._instruments.use_time.record(used, self._about(pool.name))

    def timed_out(self, pool: Pool[Any] | View[Any], error: PoolTimeout, /) -> None:
        """Show the wait as a span that ended badly."""
        self._span(pool.name, error.waited, error)

    def rejected(self, pool: Pool[Any] | View[Any], error: TooManyWaiters, /) -> None:
        """Show as a span, of no length, that there was no wait."""
        self._span(pool.name, 0.0, error)

    def _span(
        self, name: str | None, waited: float, error: PoolTimeout | TooManyWaiters | None = None
    ) -> None:
        attributes = self._about(name)
        end = time_ns()
        span = self._tracer.start_span(
            f"acquire {attributes[POOL_NAME]}",
            attributes={**attributes, WAITED: waited},
            start_time=end - round(waited * 1e9),
        )
        if error is not None:
            # In the pool's words, which know no secrets; its causes have words of their own.
            span.set_attribute(ERROR_TYPE, type(error).__qualname__)
            span.set_status(Status(StatusCode.ERROR, str(error)))
        span.end(end)
