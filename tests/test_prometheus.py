"""What Prometheus is shown is what has happened, however long it took, to each pool by itself."""

import asyncio
import gc
import inspect
import math
import random
import re
from collections import Counter
from random import Random

import pytest
from clock import turns
from counting import calls_of
from fakes import Conn, FakeConnector, fails, goes, slow
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from aiopool import Pool, PoolTimeout, RedisCluster, RedisPool, Stats, TooManyWaiters
from aiopool.integrations.prometheus import BOUNDS, register

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Exposition:
    """The text that a registry exposes, read back."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.text = generate_latest(registry).decode()
        self.families = list(text_string_to_metric_families(self.text))
        samples = [sample for family in self.families for sample in family.samples]
        self.series: Series = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
        assert len(self.series) == len(samples), "a series is there twice"

    def __call__(
        self, name: str, pool: str = "pool", kind: str = "pool", **labels: str
    ) -> float | None:
        about = {"pool": pool, "kind": kind, **labels}
        return self.series.get((f"aiopool_{name}", frozenset(about.items())))

    def labels(self) -> list[dict[str, str]]:
        return [dict(labels) for _, labels in self.series]

    def pools(self) -> set[str]:
        return {labels["pool"] for labels in self.labels()}

    def by(self, label: str, name: str, pool: str = "pool") -> dict[str, float]:
        """Give the values of a metric by one of its labels, but for those that are 0."""
        return {
            labels[label]: value
            for (found, pairs), value in self.series.items()
            if value and found == f"aiopool_{name}" and (labels := dict(pairs))["pool"] == pool
        }

    def buckets(self, name: str, pool: str = "pool") -> dict[float, float]:
        """Give for each bound of a histogram how many were no longer, those of none included."""
        found = {
            float(labels["le"]): value
            for (each, pairs), value in self.series.items()
            if each == f"aiopool_{name}_bucket" and (labels := dict(pairs))["pool"] == pool
        }
        return dict(sorted(found.items()))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def counted(durations: list[float]) -> dict[float, float]:
    """Count durations as a histogram is to."""
    return {bound: sum(d <= bound for d in durations) for bound in (*BOUNDS, math.inf)}


# ---- times ---------------------------------------------------------------------------------------


async def test_every_lending_is_in_the_histogram_of_waits_also_one_that_did_not_wait(
    make_pool, registry
):
    pool, connector = make_pool(max_size=1)
    register(pool, registry)
    connector.opens.usual = slow(0.125)
    conn = await pool.acquire()  # waits for the opening
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(2.0)
    await pool.release(conn)
    await pool.release(await waiting)
    await pool.release(await pool.acquire())  # does not wait
    shown = Exposition(registry)
    assert shown.buckets("wait_seconds") == counted([0.125, 2.0, 0.0])
    assert shown("wait_seconds_count") == shown("acquired_total") == 3
    assert shown("wait_seconds_sum") == 2.125
    assert shown.buckets("use_seconds") == counted([2.0, 0.0, 0.0])
    assert (shown("use_seconds_count"), shown("use_seconds_sum")) == (3, 2.0)
    assert shown.buckets("open_seconds") == counted([0.125])
    assert (shown("open_seconds_count"), shown("open_seconds_sum")) == (1, 0.125)


async def test_a_duration_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed(
    make_pool, registry
):
    pool, _ = make_pool(max_size=1)
    register(pool, registry)
    listener = pool._events.lent[0].__self__
    durations = [0.0, 1e-5, 1.1e-5, 0.0025, 0.003, 50.0, 51.0, 1e6]
    for duration in durations:
        listener.lent(pool, None, duration)
    shown = Exposition(registry)
    assert shown.buckets("wait_seconds") == counted(durations)
    assert shown("wait_seconds_sum") == sum(durations)


async def test_the_longest_lent_is_shown_until_it_comes_back(make_pool, registry):
    pool, _ = make_pool(max_size=2)
    register(pool, registry)
    assert Exposition(registry)("longest_lent_seconds") == 0
    first = await pool.acquire()
    await asyncio.sleep(60)
    second = await pool.acquire()
    await asyncio.sleep(1)
    assert Exposition(registry)("longest_lent_seconds") == 61
    await pool.release(first)
    assert Exposition(registry)("longest_lent_seconds") == 1
    await pool.release(second)
    assert Exposition(registry)("longest_lent_seconds") == 0


async def test_what_a_registered_view_lends_is_not_the_longest_lent_of_its_pool_but_of_the_view(
    make_pool, registry
):
    pool, _ = make_pool(max_size=3)
    view = pool.view(limit=1, name="slow")
    register(pool, registry)
    async with view.connection():
        await asyncio.sleep(60)
        conn = await pool.acquire()
        await asyncio.sleep(1)
        assert Exposition(registry)("longest_lent_seconds") == 61  # nobody has told it of the view
        take_off = register(view, registry)
        shown = Exposition(registry)
        assert shown("longest_lent_seconds") == 1
        assert shown("longest_lent_seconds", view.name, "view") == 61
        await pool.release(conn)
        assert Exposition(registry)("longest_lent_seconds") == 0
        take_off()
        assert Exposition(registry)("longest_lent_seconds") == 61


async def test_every_series_says_whether_it_is_of_a_pool_or_of_a_view(make_pool, registry):
    pool, _ = make_pool(name="cache", max_size=3)
    view = pool.view(limit=1)
    for lender in (view, pool):
        register(lender, registry)
    kinds = {(labels["pool"], labels["kind"]) for labels in Exposition(registry).labels()}
    assert kinds == {("cache", "pool"), (view.name, "view")}
    of_redis = RedisPool("redis://127.0.0.1", name="redis")
    of_redis_too = of_redis.view(limit=1)
    for lender in (of_redis, of_redis_too):
        register(lender, registry)
    kinds = {(labels["pool"], labels["kind"]) for labels in Exposition(registry).labels()}
    assert kinds >= {("redis", "pool"), (of_redis_too.name, "view")}


async def test_a_blocked_loop_is_shown(make_pool, registry):
    pool, _ = make_pool(max_size=1)
    register(pool, registry)
    conn = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(1)
    asyncio.get_running_loop().block(3.0)
    await asyncio.sleep(0.5)
    shown = Exposition(registry)("loop_blocked_seconds_total")
    assert shown == pool.stats().blocked_seconds
    assert shown >= 2
    await pool.release(conn)
    await pool.release(await waiting)


async def test_every_reason_to_close_is_shown_before_there_is_one(make_pool, registry):
    pool, _ = make_pool()
    register(pool, registry)
    shown = Exposition(registry)
    assert shown.by("reason", "closed_total") == {}
    documented = (
        inspect.getsource(Stats).partition("closed: Mapping")[2].partition("wait_seconds")[0]
    )
    for reason in (reasons := re.findall(r"`(\w+)`", documented)):
        assert shown("closed_total", reason=reason) == 0
    assert len(reasons) >= 9


async def test_what_a_registered_pool_costs_a_lending_are_six_calls(make_pool, registry):
    pool, _ = make_pool()
    register(pool, registry)
    await pool.release(await pool.acquire())
    with calls_of("aiopool") as calls:
        await pool.release(await pool.acquire())
    assert {name: number for name, number in calls.items() if "laces" not in name} == {
        "Pool.acquire": 1,
        "Pool.release": 1,
        "Events.tell": 2,
        "Observed.lent": 1,
        "Observed.returned": 1,
        "Durations.add": 2,
    }


# ---- which pools ---------------------------------------------------------------------------------


async def test_pools_have_their_names_and_where_these_are_the_same_a_number(make_pool, registry):
    pools = [make_pool(name=name, max_size=n)[0] for n, name in enumerate("aab", start=1)]
    pools += [make_pool(max_size=n)[0] for n in (4, 5)]  # without a name
    for pool in pools:
        register(pool, registry)
    expected = {"a": 1, "a-2": 2, "b": 3, "pool": 4, "pool-2": 5}
    assert Exposition(registry).by("pool", "max_size", pool="a") == {"a": 1}
    assert {name: Exposition(registry)("max_size", name) for name in expected} == expected
    assert Exposition(registry).pools() == expected.keys()


async def test_a_name_that_looks_like_a_number_was_added_is_told_apart_too(make_pool, registry):
    for name in ("a-2", "a", "a"):
        register(make_pool(name=name)[0], registry)
    assert Exposition(registry).pools() == {"a", "a-2", "a-3"}


async def test_a_dropped_pool_is_collected_and_vanishes_and_the_other_keeps_its_label(registry):
    dropped, kept = Pool(FakeConnector(), name="a", max_size=1), Pool(FakeConnector(), name="a")
    take_off = register(dropped, registry)
    register(kept, registry)
    await kept.release(await kept.acquire())
    assert Exposition(registry).pools() == {"a", "a-2"}
    del dropped
    gc.collect()
    shown = Exposition(registry)
    assert shown.pools() == {"a-2"}
    assert shown("acquired_total", "a-2") == 1
    take_off()
    third = Pool(FakeConnector(), name="a")
    register(third, registry)
    assert Exposition(registry).pools() == {"a", "a-2"}
    await kept.aclose()


async def test_a_pool_that_is_taken_off_is_not_shown_and_tells_nothing(make_pool, registry):
    pool, _ = make_pool(name="a")
    take_off = register(pool, registry)
    await pool.release(await pool.acquire())
    take_off()
    assert Exposition(registry).series == {}
    assert not pool._events.lent
    assert not pool._events.returned
    take_off()
    again = register(pool, registry)
    shown = Exposition(registry)
    assert (shown("wait_seconds_count", "a"), shown("acquired_total", "a")) == (0, 1)
    take_off()
    assert Exposition(registry).pools() == {"a"}
    again()
    assert Exposition(registry).pools() == set()


async def test_a_pool_is_registered_once_with_each_of_several_registries(make_pool, registry):
    pool, _ = make_pool(name="a")
    other = CollectorRegistry()
    take_off = register(pool, registry)
    await pool.release(await pool.acquire())
    register(pool, other)
    await pool.release(await pool.acquire())
    with pytest.raises(ValueError, match=r"Pool 'a' .* is registered already"):
        register(pool, registry)
    assert Exposition(registry)("wait_seconds_count", "a") == 2
    assert Exposition(other)("wait_seconds_count", "a") == 1
    take_off()
    assert Exposition(registry).pools() == set()
    assert Exposition(other).pools() == {"a"}


async def test_a_registry_that_has_such_a_metric_already_refuses(make_pool, registry):
    Gauge("aiopool_waiting", "Somebody else's", registry=registry)
    pool, _ = make_pool()
    with pytest.raises(ValueError, match="aiopool_waiting"):
        register(pool, registry)
    assert not pool._events.lent


async def test_of_a_client_its_pool_is_registered(registry):
    pool = RedisPool("redis://127.0.0.1", name="cache")
    register(pool.client(), registry)
    register(Redis(connection_pool=pool.view(limit=1, name="slow")), registry)
    assert "cache" in Exposition(registry).pools()
    with pytest.raises(ValueError, match="is registered already"):
        register(pool, registry)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (None, "NoneType"),
        ("redis://user:s3cret@host", "str"),
        (RedisCluster, "the class aiopool.redis._cluster._client.RedisCluster"),
        (
            Redis(host="s3cret"),
            "redis.asyncio.client.Redis whose pool is a redis.asyncio.connection.ConnectionPool",
        ),
    ],
    ids=["None", "url", "class", "client"],
)
def test_what_is_no_pool_is_refused_by_its_type(registry, given, named):
    with pytest.raises(TypeError) as raised:
        register(given, registry)
    assert str(raised.value) == (
        "pool must be a Pool, RedisPool or SentinelPool of aiopool, a view or a client of one, "
        f"or an aiopool.RedisCluster, not {named}"
    )
    assert not Exposition(registry).text


async def test_single_metrics_can_be_asked_for(make_pool, registry):
    pool, _ = make_pool(name="a")
    register(pool, registry)
    wanted = ["aiopool_acquired_total", "aiopool_use_seconds_count"]
    shown = Exposition(registry.restricted_registry(wanted))
    assert {name for name, _ in shown.series} == {*wanted}


# ---- what is shown, and what happens -------------------------------------------------------------


class Crowd:
    """Callers who do whatever comes to mind, and what they and the connector know of it."""

    def __init__(self, pool: Pool[Conn], connector: FakeConnector, seed: int) -> None:
        self.pool = pool
        self.connector = connector
        self.draw = Random(seed)
        random.seed(seed)  # the pool draws from that
        self.lent: dict[Conn, float] = {}
        self.asking: list[asyncio.Task[None]] = []
        self.outcomes: Counter[str] = Counter()
        self.waits: list[float] = []
        self.uses: list[float] = []

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            conn = await self.pool.acquire(timeout=self.draw.choice([0.01, 1.0, 20.0]))
        except (PoolTimeout, TooManyWaiters, ConnectionRefusedError) as error:
            self.outcomes[type(error).__name__] += 1
        else:
            self.waits.append(loop.time() - begun)
            self.lent[conn] = loop.time()

    async def give_back(self) -> None:
        conn = self.draw.choice([*self.lent])
        conn.broken = self.draw.random() < 0.1
        self.uses.append(asyncio.get_running_loop().time() - self.lent.pop(conn))
        await self.pool.release(conn)

    async def do_something(self) -> None:
        draw = self.draw
        what = draw.random()
        if what < 0.4:
            task = asyncio.create_task(self.ask())
            self.asking.append(task)
            task.add_done_callback(self.asking.remove)
        elif what < 0.75 and self.lent:
            await self.give_back()
        elif what < 0.8:
            await turns(10)  # who is still asking then has not been handed one
            if not self.asking:
                return
            draw.choice(self.asking).cancel()
        elif what < 0.9:
            await asyncio.sleep(draw.expovariate(10))
        elif what < 0.93:
            self.connector.opens.usual = draw.choice([goes, slow(0.02), slow(1.0), fails()])
        elif what < 0.94:
            self.pool.drain()
        elif what < 0.98:
            self.pool.resize(max_size=draw.randint(1, 8))

    def agrees(self, shown: Exposition) -> None:
        connector = self.connector
        states = shown.by("state", "connections")
        assert states.get("lent", 0) == len(self.lent)
        assert states.get("opening", 0) == connector.opening
        assert sum(states.values()) == len(connector.live) + connector.opening
        assert shown("waiting") == len(self.asking)
        now = asyncio.get_running_loop().time()
        assert shown("longest_lent_seconds") == now - min(self.lent.values(), default=now)

        assert shown("acquired_total") == len(self.waits)
        assert shown("timed_out_total") == self.outcomes["PoolTimeout"]
        assert shown("rejected_total") == self.outcomes["TooManyWaiters"]
        # What was drained while it was being opened is closed without having been opened.
        assert shown("opened_total") <= len(connector.live) + len(connector.closed)
        closed = sum(shown.by("reason", "closed_total").values())
        assert shown("opened_total") - closed == len(connector.live)
        for name, durations in [("wait", self.waits), ("use", self.uses)]:
            assert shown.buckets(f"{name}_seconds") == counted(durations)
            assert shown(f"{name}_seconds_sum") == pytest.approx(sum(durations))
        assert shown("open_seconds_count") == shown("opened_total")


@pytest.mark.parametrize("seed", range(4))
async def test_after_whatever_was_done_to_a_pool_the_numbers_are_those_of_its_users(
    make_pool, registry, seed
):
    pool, connector = make_pool(max_size=4, min_size=1, max_waiting=6)
    asyncio.get_running_loop().watches.clear()  # that the pool is right is shown elsewhere
    register(pool, registry)
    crowd = Crowd(pool, connector, seed)
    for number in range(2000):
        await crowd.do_something()
        if number % 40 == 0:
            await turns(10)
            crowd.agrees(Exposition(registry))
    while crowd.lent or crowd.asking:
        if crowd.lent:
            await crowd.give_back()
        await asyncio.sleep(0.1)
    crowd.agrees(shown := Exposition(registry))
    assert min(shown(f"{name}_total") for name in ("acquired", "timed_out", "rejected")) > 0
    assert {"drained", "resized", "unusable"} <= shown.by("reason", "closed_total").keys()


async def test_the_text_is_as_prometheus_would_have_it(make_pool, registry):
    pool, _ = make_pool(name='quotes " and \\ and\nlines')
    register(pool, registry)
    shown = Exposition(registry)
    assert shown.pools() == {pool.name}
    kinds = {family.name.removeprefix("aiopool_"): family.type for family in shown.families}
    assert kinds == {
        **dict.fromkeys(
            ["connections", "max_size", "min_size", "waiting", "longest_lent_seconds"], "gauge"
        ),
        **dict.fromkeys(
            ["acquired", "timed_out", "rejected", "opened", "open_failed", "closed"], "counter"
        ),
        "loop_blocked_seconds": "counter",
        **dict.fromkeys(["wait_seconds", "use_seconds", "open_seconds"], "histogram"),
    }
    assert all(family.documentation.endswith(".") for family in shown.families)
