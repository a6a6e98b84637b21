"""What a pool reports to OpenTelemetry is what there is: on the jumping clock, so to the last digit."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import weakref
from collections import Counter
from itertools import count
from random import Random
from types import SimpleNamespace

import pytest
from clock import turns
from fakes import Conn, FakeConnector, fails, goes, never, slow
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.semconv._incubating.metrics import db_metrics
from readings import POOL_NAME, Metrics, Spans

from aiopool import Pool, PoolClosed, PoolTimeout, RedisCluster, RedisPool, TooManyWaiters
from aiopool.integrations.otel import BOUNDARIES, instrument

OPERATIONS = 100_000
# Names, kinds and units as the semantic conventions have them.
INSTRUMENTS = {
    "db.client.connection.count": ("up-down counter", "{connection}"),
    "db.client.connection.idle.max": ("up-down counter", "{connection}"),
    "db.client.connection.idle.min": ("up-down counter", "{connection}"),
    "db.client.connection.max": ("up-down counter", "{connection}"),
    "db.client.connection.pending_requests": ("up-down counter", "{request}"),
    "db.client.connection.timeouts": ("counter", "{timeout}"),
    "db.client.connection.create_time": ("histogram", "s"),
    "db.client.connection.wait_time": ("histogram", "s"),
    "db.client.connection.use_time": ("histogram", "s"),
}
OURS = {"aiopool.rejections": ("counter", "{rejection}")}


@pytest.fixture
def metrics():
    metrics = Metrics()
    yield metrics
    metrics.end()


@pytest.fixture
def spans():
    spans = Spans()
    yield spans
    spans.end()


def kind(metric) -> str:
    if hasattr(metric.data, "is_monotonic"):
        return "counter" if metric.data.is_monotonic else "up-down counter"
    return "histogram"


# ---- metrics -------------------------------------------------------------------------------------


async def test_each_instrument_is_as_the_conventions_have_it(make_pool, metrics):
    pool, _ = make_pool(name="cache")
    instrument(pool, metrics.provider)
    async with pool.connection():
        pass
    found = metrics.all("aiopool")
    assert {metric.name: (kind(metric), metric.unit) for metric in found} == INSTRUMENTS | OURS
    assert len({metric.description for metric in found}) == len(INSTRUMENTS | OURS)
    for metric in found:
        states = {"idle", "used"} if metric.name.endswith(".count") else {None}
        about = [dict(point.attributes) for point in metric.data.data_points]
        assert {each.pop("db.client.connection.state", None) for each in about} == states
        assert about == [{POOL_NAME: "cache"}] * len(states)


def test_the_names_are_those_of_the_conventions():
    named = {
        value
        for name, value in vars(db_metrics).items()
        if name.startswith("DB_CLIENT_CONNECTION_") and isinstance(value, str)
    }
    assert named == set(INSTRUMENTS)


async def test_the_numbers_are_those_of_the_pool(make_pool, metrics):
    pool, _ = make_pool(name="cache", max_size=3, min_size=1)
    instrument(pool, metrics.provider)
    waits = {"pending_requests": 0, "timeouts": 0, "aiopool.rejections": 0}
    nothing = {"idle": 0, "used": 0} | waits
    assert metrics.gauges("cache") == nothing | {"idle.max": 3, "max": 3, "idle.min": 1}
    await pool.warm(3)
    one, two = [await pool.acquire() for _ in range(2)]
    assert metrics.counts("cache") == (1, 2)
    pool.resize(max_size=2, min_size=0)
    assert (
        metrics.gauges("cache")
        == {
            "idle": 0,
            "used": 2,
            "idle.max": 2,
            "idle.min": 0,
            "max": 2,
        }
        | waits
    )
    waiting = [asyncio.create_task(pool.acquire(timeout=limit)) for limit in (1.0, 2.0, None)]
    await turns(1)
    assert metrics.sum("db.client.connection.pending_requests") == 3
    await asyncio.sleep(1.5)
    assert metrics.sum("db.client.connection.pending_requests") == 2
    assert metrics.sum("db.client.connection.timeouts") == 1
    await asyncio.sleep(1.5)
    assert metrics.sum("db.client.connection.timeouts") == 2
    await pool.release(one)
    await pool.release(two)
    await pool.release(await waiting.pop())
    await asyncio.gather(*waiting, return_exceptions=True)
    await pool.aclose()
    assert metrics.counts("cache") == (0, 0)


async def test_times_are_counted_as_they_were(make_pool, metrics):
    pool, connector = make_pool(name="cache", max_size=1)
    instrument(pool, metrics.provider)
    connector.opens.usual = slow(0.3)

    async def use(seconds: float) -> None:
        async with pool.connection():
            await asyncio.sleep(seconds)

    await asyncio.gather(use(0.002), use(0.04))
    created = metrics.histogram("db.client.connection.create_time", "cache")
    assert (created.count, created.sum) == (1, pytest.approx(0.3))
    waits = metrics.histogram("db.client.connection.wait_time", "cache")
    assert (waits.count, waits.sum) == (2, pytest.approx(0.3 + 0.302))
    uses = metrics.histogram("db.client.connection.use_time", "cache")
    assert (uses.count, uses.sum) == (2, pytest.approx(0.042))
    assert list(uses.explicit_bounds) == BOUNDARIES
    assert uses.bucket_counts[BOUNDARIES.index(0.002_5)] == 1
    assert uses.bucket_counts[BOUNDARIES.index(0.05)] == 1


async def test_a_wait_in_vain_is_counted_but_took_no_time_to_get_a_connection(make_pool, metrics):
    pool, connector = make_pool(name="cache")
    instrument(pool, metrics.provider)
    connector.opens.usual = never
    with pytest.raises(PoolTimeout):
        await pool.acquire()
    assert metrics.sum("db.client.connection.timeouts", "cache") == 1
    assert not metrics.points("db.client.connection.wait_time", "cache")


# ---- a model -------------------------------------------------------------------------------------


class Hopeless(Exception):
    """An error that no second try would mend."""


class Connector(FakeConnector):
    """Counts what is being checked, too."""

    checking = 0

    async def check(self, conn: Conn, /) -> None:
        self.checking += 1
        try:
            await super().check(conn)
        finally:
            self.checking -= 1


# What is done, of a thousand things.
OFTEN = {
    "acquire": 390,
    "release": 410,
    "cancel": 40,
    "mood": 10,
    "break": 3,
    "resize": 2,
    "drain": 2,
    "close": 1,
    "sleep": 142,
}


class Traffic:
    """Callers, a moody server and an operator; and a count of its own of all that is to be seen."""

    def __init__(self, seed: int, pool: Pool[Conn], connector: Connector) -> None:
        self.random = Random(seed)
        self.pool, self.connector = pool, connector
        self.callers: list[asyncio.Task[None]] = []
        self.uses: dict[Conn, asyncio.Future[None]] = {}
        self.asking = self.operations = 0
        self.most = 0  # callers at a time
        self.outcomes: Counter[str] = Counter()
        self.waited = self.used = 0.0
        self.sizes = pool.stats().max_size, pool.stats().min_size

    async def call(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.asking += 1
        try:
            conn = await self.pool.acquire(timeout=timeout)
        except (PoolTimeout, TooManyWaiters, PoolClosed, Hopeless, OSError) as error:
            self.outcomes[type(error).__name__] += 1
            return
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
            raise
        finally:
            self.asking -= 1
        self.outcomes["acquired"] += 1
        self.waited += loop.time() - begun
        since = loop.time()
        self.uses[conn] = loop.create_future()
        try:
            await self.uses[conn]
        finally:
            del self.uses[conn]
            severed = conn not in self.connector.live
            await self.pool.release(conn)
            if not severed:
                self.outcomes["returned"] += 1
                self.used += loop.time() - since

    async def do_something(self) -> None:
        draw = self.random
        (what,) = draw.choices([*OFTEN], [*OFTEN.values()])
        self.callers = [caller for caller in self.callers if not caller.done()]
        match what:
            case "acquire" if len(self.callers) < self.most:
                timeout = draw.choice((None, None, 0.0, draw.random() * 2))
                self.callers.append(asyncio.create_task(self.call(timeout)))
            case "release" if self.uses:
                use = draw.choice([*self.uses.values()])
                if not use.done():
                    use.set_result(None)
            case "cancel" if self.callers:
                draw.choice(self.callers).cancel()
            case "acquire" | "release" | "cancel" | "sleep":
                await asyncio.sleep(draw.choice((0, 0, 0.001, draw.random() / 10)))
                return
            case _:
                await self.operate(what)
        self.operations += 1

    async def operate(self, what: str) -> None:
        draw, pool, connector = self.random, self.pool, self.connector
        match what:
            case "mood":
                self.most = draw.choice((2, 5, 30))
                moods = *[goes] * 6, slow(draw.random()), fails(), fails(Hopeless()), never
                connector.opens.usual, connector.checks.usual = draw.choices(moods, k=2)
            case "break":
                for conn in connector.live:
                    conn.broken = conn.broken or draw.random() < 0.3
            case "resize":
                max_size = draw.randint(1, 8)
                self.sizes = max_size, draw.randint(0, max_size)
                pool.resize(max_size=self.sizes[0], min_size=self.sizes[1])
            case "drain":
                pool.drain()
            case "close":
                await pool.aclose(timeout=draw.choice((0.0, 0.1)))
                await self.reopen()

    async def reopen(self) -> None:
        """Open the pool, and don't wait for the connections that it keeps open."""
        opening = asyncio.create_task(self.pool.open())
        await turns(1)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)

    async def rest(self) -> None:
        """Let everything go on that need not wait for time to pass."""
        loop = asyncio.get_running_loop()
        await turns(2)
        while loop._ready or loop._next_timer <= loop.time():
            await turns(1)

    def expected(self) -> dict[str, int]:
        used = sum(conn in self.connector.live for conn in self.uses)
        return {
            "idle": len(self.connector.live) - used - self.connector.checking,
            "used": used,
            "pending_requests": self.asking,
            "timeouts": self.outcomes["PoolTimeout"],
            "aiopool.rejections": self.outcomes["TooManyWaiters"],
            "max": self.sizes[0],
            "idle.max": self.sizes[0],
            "idle.min": self.sizes[1],
        }


async def test_whatever_happens_the_gauges_are_those_of_a_model(metrics, caplog):
    caplog.set_level(logging.CRITICAL, "aiopool")  # there is much to warn of
    connector = Connector()
    pool = Pool(connector, name="cache", max_size=4, max_waiting=12, max_idle=5.0, check_after=0.5)
    traffic = Traffic(8, pool, connector)
    instrument(pool, metrics.provider)
    seen: Counter[str] = Counter()
    while traffic.operations < OPERATIONS:
        await traffic.do_something()
        if traffic.random.random() < 0.006:
            await traffic.rest()
            found = metrics.gauges("cache")
            assert found == traffic.expected()
            seen.update(name for name, value in found.items() if value)
    for caller in traffic.callers:
        caller.cancel()
    await asyncio.gather(*traffic.callers, return_exceptions=True)
    await pool.aclose(timeout=0)

    waits = metrics.histogram("db.client.connection.wait_time", "cache")
    assert (waits.count, waits.sum) == (
        traffic.outcomes["acquired"],
        pytest.approx(traffic.waited),
    )
    uses = metrics.histogram("db.client.connection.use_time", "cache")
    # Also for no time at all: handed to a caller who was cancelled in that moment.
    handed_back = uses.count - traffic.outcomes["returned"]
    assert 0 <= handed_back <= traffic.outcomes["cancelled"]
    assert uses.sum == pytest.approx(traffic.used)
    assert all(seen[name] > 100 for name in traffic.expected()), seen
    assert traffic.outcomes["acquired"] > OPERATIONS / 10
    for outcome in ("cancelled", "PoolTimeout", "TooManyWaiters", "PoolClosed", "Hopeless"):
        assert traffic.outcomes[outcome] > 100, traffic.outcomes


# ---- who reports ---------------------------------------------------------------------------------


async def test_pools_of_one_name_are_told_apart(make_pool, metrics):
    for size in (1, 2, 3):
        instrument(make_pool(name="cache", max_size=size)[0], metrics.provider)
    instrument(make_pool(max_size=4)[0], metrics.provider)
    sizes = {name: metrics.gauges(name)["max"] for name in metrics.pools()}
    assert sizes == {"cache": 1, "cache-2": 2, "cache-3": 3, "pool": 4}


async def test_the_name_of_one_that_is_taken_off_is_free_again(make_pool, metrics):
    one, two = (make_pool(name="cache")[0] for _ in range(2))
    end = instrument(one, metrics.provider)
    end()
    instrument(two, metrics.provider)
    instrument(one, metrics.provider)
    async with one.connection():
        assert (metrics.counts("cache"), metrics.counts("cache-2")) == ((0, 0), (0, 1))


async def test_a_pool_keeps_its_name_when_another_is_dropped(metrics):
    one, two = (Pool(FakeConnector(), name="cache") for _ in range(2))
    instrument(one, metrics.provider)
    instrument(two, metrics.provider)
    del one
    gc.collect()
    assert metrics.pools() == {"cache-2"}
    async with two, two.connection():
        assert metrics.counts("cache-2") == (0, 1)
    assert metrics.histogram("db.client.connection.use_time", "cache-2").count == 1


async def test_a_pool_reports_but_once(make_pool, metrics):
    pool, _ = make_pool(name="cache")
    end = instrument(pool, metrics.provider)
    with pytest.raises(ValueError, match="instrumented already"):
        instrument(pool, metrics.provider)
    end()
    instrument(pool, metrics.provider)
    async with pool.connection():
        assert metrics.counts("cache") == (0, 1)
    assert metrics.histogram("db.client.connection.use_time", "cache").count == 1


async def test_of_a_client_its_pool_is_reported_on(metrics):
    pool = RedisPool("redis://127.0.0.1", name="cache")
    instrument(pool.client(), metrics.provider)
    assert metrics.pools() == {"cache"}
    with pytest.raises(ValueError, match="instrumented already"):
        instrument(pool, metrics.provider)


@pytest.mark.parametrize(
    ("given", "named"),
    [(None, "NoneType"), (object(), "object"), (RedisCluster, r"the class .*\.RedisCluster")],
    ids=["None", "object", "class"],
)
def test_what_is_no_pool_is_refused_by_its_type(metrics, given, named):
    with pytest.raises(TypeError, match=f"^pool must be a Pool, .*, not {named}$"):
        instrument(given, metrics.provider)
    assert not metrics.all()


async def waits_in_vain(pool: Pool[Conn]) -> None:
    with pytest.raises(PoolTimeout):
        await pool.acquire(timeout=0.1)


async def test_what_is_taken_off_reports_nothing_any_more(make_pool, metrics, spans):
    pool, _ = make_pool(name="cache", max_size=1)
    other, _ = make_pool(name="other")
    await pool.warm(1)
    end = instrument(pool, metrics.provider, spans.provider)
    instrument(other, metrics.provider)
    async with pool.connection():
        assert metrics.counts("cache") == (0, 1)
        end()
        end()  # once more does nothing
        await asyncio.gather(waits_in_vain(pool))
    assert metrics.pools() == {"other"}
    assert metrics.histogram("db.client.connection.wait_time", "cache").count == 1
    assert not metrics.points("db.client.connection.use_time", "cache")
    assert not spans.all()


async def test_a_pool_that_is_dropped_is_collected_and_reports_nothing(metrics, spans):
    pool = Pool(FakeConnector(), name="cache")
    end = instrument(pool, metrics.provider, spans.provider)
    async with pool, pool.connection():
        pass
    assert metrics.pools() == {"cache"}
    dropped = weakref.ref(pool)
    del pool
    gc.collect()
    assert dropped() is None
    assert metrics.pools() == set()
    end()  # nothing is left to do


async def test_a_view_reports_what_it_lends(make_pool, metrics, spans):
    pool, _ = make_pool(name="cache", max_size=2)
    view = pool.keeps = pool.view(limit=1, name="slow")
    await pool.warm(2)
    instrument(pool, metrics.provider)
    instrument(view, metrics.provider, spans.provider)

    async def use() -> None:
        async with view.connection():
            await asyncio.sleep(1.0)

    using = [asyncio.create_task(use()) for _ in range(2)]
    await turns(2)
    assert metrics.gauges(view.name) == {
        "idle": 0,
        "used": 1,
        "idle.max": 1,
        "idle.min": 0,
        "max": 1,
        "pending_requests": 1,
        "timeouts": 0,
        "aiopool.rejections": 0,
    }
    assert metrics.counts("cache") == (1, 1)
    await asyncio.gather(*using)
    uses = metrics.histogram("db.client.connection.use_time", view.name)
    assert (uses.count, uses.sum) == (2, 2.0)
    assert [span.attributes["aiopool.waited"] for span in spans.of_waits()] == [1.0]

    conns = [await pool.acquire() for _ in range(2)]
    using = asyncio.create_task(use())  # waits in the pool's line
    await asyncio.sleep(2.0)
    for conn in conns:
        await pool.release(conn)
    await using
    assert [span.attributes["aiopool.waited"] for span in spans.of_waits()] == [1.0, 2.0]


async def test_the_instruments_are_made_once(make_pool, metrics, caplog):
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            instrument(make_pool(name=name)[0], metrics.provider)
        assert metrics.pools() == {"one", "two"}
    assert not caplog.records


def run(script: str) -> None:
    done = subprocess.run(  # noqa: S603 - its own words
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


USE = """
import asyncio
from aiopool import Pool
from aiopool.integrations.otel import instrument

class Connector:
    async def open(self): return object()
    async def check(self, conn): ...
    def is_usable(self, conn): return True
    def close(self, conn): ...

async def use(pool):
    asyncio.get_running_loop().slow_callback_duration = 60  # nobody's fault on a busy machine
    async with pool, pool.connection():
        pass
"""


def test_the_api_is_enough():
    run(f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.semconv")):
            raise ModuleNotFoundError(f"{{name}} is not there", name=name)

sys.meta_path.insert(0, Refuse())
{USE}
pool = Pool(Connector())
end = instrument(pool)
asyncio.run(use(pool))
end()
""")


def test_the_global_providers_may_be_set_later():
    run(f"""
from opentelemetry import metrics, trace
from readings import Metrics, Spans
{USE}
early, late, explicit = (Pool(Connector(), name=name) for name in ("early", "late", "explicit"))
instrument(early)
read, spans = Metrics(), Spans()
metrics.set_meter_provider(read.provider)
trace.set_tracer_provider(spans.provider)
instrument(late)
instrument(explicit, metrics.get_meter_provider())
for pool in (early, late, explicit):
    asyncio.run(use(pool))
    assert read.histogram("db.client.connection.use_time", pool.name).count == 1
assert read.pools() == {{"early", "late", "explicit"}}
assert [span.name for span in spans.all()] == ["acquire early", "acquire late", "acquire explicit"]
read.end()
spans.end()
""")


# ---- spans ---------------------------------------------------------------------------------------


async def test_who_gets_a_connection_at_once_gets_no_span(make_pool, monkeypatch):
    asked, clock = [], count(asyncio.get_running_loop().time())
    provider = SimpleNamespace(
        get_tracer=lambda *_args, **_kwargs: SimpleNamespace(
            start_span=lambda *args, **kwargs: asked.append((args, kwargs))
        )
    )
    pool, _ = make_pool(max_size=1)
    view = pool.keeps = pool.view(limit=1, name="view")
    await pool.warm(1)
    for lender in (pool, view):
        instrument(lender, NoOpMeterProvider(), provider)
    # As if everything took its time.
    monkeypatch.setattr(pool._places, "time", lambda: next(clock))
    for lender in (pool, view) * 3:
        async with lender.connection():
            await asyncio.sleep(0.1)
    assert not asked


async def test_a_wait_is_a_span_of_the_callers(make_pool, spans, monkeypatch):
    pool, _ = make_pool(name="cache", max_size=1)
    await pool.warm(1)
    instrument(pool, NoOpMeterProvider(), spans.provider)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("aiopool.integrations.otel.time_ns", lambda: round(loop.time() * 1e9))
    tracer = trace.get_tracer("test", tracer_provider=spans.provider)

    async def request(number: int) -> float:
        with tracer.start_as_current_span(f"request {number}"):
            asked = loop.time()
            async with pool.connection():
                await asyncio.sleep(0.25)
            return asked

    asked = [asyncio.create_task(request(number)) for number in range(3)]
    begun = await asyncio.gather(*asked)
    parents = {span.name: span for span in spans.all() if span.name.startswith("request")}
    found = spans.of_waits()
    assert len(found) == 2
    for number, span in enumerate(found, 1):
        parent = parents[f"request {number}"]
        assert span.name == "acquire cache"
        assert span.parent.span_id == parent.context.span_id
        assert dict(span.attributes) == {
            POOL_NAME: "cache",
            "aiopool.waited": pytest.approx(0.25 * number),
        }
        assert span.start_time == pytest.approx(begun[number] * 1e9, abs=1000)
        assert span.end_time == pytest.approx((begun[number] + 0.25 * number) * 1e9, abs=1000)
        assert span.status.status_code is trace.StatusCode.UNSET


async def test_a_wait_in_vain_is_a_span_with_its_error(make_pool, spans):
    pool, connector = make_pool(name="cache", max_size=1)
    instrument(pool, NoOpMeterProvider(), spans.provider)
    connector.opens.usual = fails(EOFError("s3cret"))
    with (
        trace.get_tracer("test", tracer_provider=spans.provider).start_as_current_span("request"),
        pytest.raises(PoolTimeout) as raised,
    ):
        await pool.acquire(timeout=0.5)
    (span,) = spans.of_waits()
    (parent,) = [span for span in spans.all() if span.name == "request"]
    assert span.parent.span_id == parent.context.span_id
    assert span.attributes["error.type"] == "PoolTimeout"
    assert span.attributes["aiopool.waited"] == 0.5
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == str(raised.value)
    assert span.end_time - span.start_time == 500_000_000
    assert not span.events
    assert "s3cret" not in span.to_json()


async def test_who_is_turned_away_is_counted_and_a_span_of_no_length_with_its_error(
    make_pool, metrics, spans
):
    pool, _ = make_pool(name="cache", max_size=1, max_waiting=1)
    view = pool.keeps = pool.view(limit=1, name="slow")
    await pool.warm(1)
    for lender in (pool, view):
        instrument(lender, metrics.provider, spans.provider)
    tracer = trace.get_tracer("test", tracer_provider=spans.provider)
    async with view.connection():
        waiting = [asyncio.create_task(lender.acquire()) for lender in (pool, view)]
        await turns(2)
        errors = []
        for lender in (pool, view, view):
            with (
                tracer.start_as_current_span("request"),
                pytest.raises(TooManyWaiters) as raised,
            ):
                await lender.acquire()
            errors.append(str(raised.value))
        found, parents = spans.of_waits(), [s for s in spans.all() if s.name == "request"]
        for task in waiting:
            task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert metrics.gauges("cache")["aiopool.rejections"] == 1
    assert metrics.gauges(view.name)["aiopool.rejections"] == 2
    assert metrics.sum("db.client.connection.timeouts") == 0
    for name, error, span, parent in zip(
        ("cache", view.name, view.name), errors, found, parents, strict=True
    ):
        assert span.name == f"acquire {name}"
        assert span.parent.span_id == parent.context.span_id
        assert span.end_time == span.start_time
        assert dict(span.attributes) == {
            POOL_NAME: name,
            "aiopool.waited": 0.0,
            "error.type": "TooManyWaiters",
        }
        assert span.status.status_code is trace.StatusCode.ERROR
        assert span.status.description == error


async def test_who_gives_up_waiting_leaves_no_span_behind(make_pool, spans):
    """Nor is a later acquire of the same task, which finds a connection at once, taken for a wait."""
    pool, _ = make_pool(name="cache", max_size=1)
    await pool.warm(1)
    instrument(pool, NoOpMeterProvider(), spans.provider)
    conn = await pool.acquire()

    async def try_twice() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await pool.acquire(timeout=None)
        await asyncio.sleep(1.0)
        async with pool.connection():
            pass

    trying = asyncio.create_task(try_twice())
    await asyncio.sleep(1.5)
    await pool.release(conn)
    await trying
    assert not spans.of_waits()
