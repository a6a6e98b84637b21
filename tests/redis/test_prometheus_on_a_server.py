"""Prometheus is shown real traffic, in whatever thread it asks; and what asks it, in `docs/`, fits."""

import asyncio
import gc
import json
import re
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from fleets import ClusterFleet, SentinelFleet, lose_a_node
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError
from servers import STRICT, Server, eventually

from aiopool import PoolTimeout, RedisCluster, RedisPool, SentinelPool, TooManyWaiters
from aiopool.integrations.prometheus import register

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
DASHBOARD = json.loads((GUIDES / "grafana-dashboard.json").read_text(encoding="utf-8"))
ALERTS = (GUIDES / "prometheus-alerts.yml").read_text(encoding="utf-8")

OF_PROMETHEUS = {"job", "instance"}  # labels that it adds to whatever it scrapes


class Shown:
    """A text of the exposition, read back."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [s for f in text_string_to_metric_families(text) for s in f.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Give the sum of all series of a metric that have these labels."""
        found = [
            s.value
            for s in self.samples
            if s.name == f"aiopool_{name}" and labels.items() <= s.labels.items()
        ]
        assert found, f"there is no aiopool_{name} with {labels}"
        return sum(found)

    def pools(self) -> set[str]:
        return {sample.labels["pool"] for sample in self.samples}

    def labels(self) -> dict[str, dict[str, set[str]]]:
        """Give for each metric its labels, with their values."""
        found: dict[str, dict[str, set[str]]] = {}
        for sample in self.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
        return found


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def shown_by(registry: CollectorRegistry) -> Shown:
    return Shown(generate_latest(registry).decode())


@pytest.fixture
def address(registry: CollectorRegistry) -> Iterator[str]:
    """Where the registry is exposed by a thread of `prometheus_client`."""
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def scrape(address: str) -> Shown:
    with urlopen(address, timeout=10) as answer:  # noqa: S310 - its own
        assert answer.status == 200
        return Shown(answer.read().decode())


async def trouble(server: Server, pool: RedisPool) -> None:
    """Have a pool of two do all that it can do: serve, make wait, time out, turn away, fail and close."""
    client = Redis(connection_pool=pool)
    await asyncio.gather(*(client.ping() for _ in range(10)))
    async with pool.connection(), pool.connection():
        with pytest.raises(PoolTimeout):
            await pool.acquire(timeout=0.02)
        waiting = [asyncio.create_task(pool.acquire()) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyWaiters):
            await pool.acquire()
    for task in waiting:
        await pool.release(await task)
    pool.drain()
    server.stop()
    with pytest.raises(RedisConnectionError):
        await pool.acquire()
    server.start()
    assert await client.ping()


# ---- values --------------------------------------------------------------------------------------


async def test_the_values_agree_with_what_was_done(server: Server, registry):
    pool = RedisPool(server.url, name="cache", max_size=3, min_size=1, **STRICT)
    register(pool, registry)
    async with pool:
        client = Redis(connection_pool=pool)
        await asyncio.gather(*(client.incr("n") for _ in range(50)))
        async with pool.connection() as conn:
            waiting = [asyncio.create_task(client.blpop("list", 5)) for _ in range(4)]
            await eventually(lambda: pool.stats().waiting == 2, "two wait, as two of three block")
            shown = shown_by(registry)
            assert shown("connections", pool="cache", state="lent") == 3
            assert shown("connections", pool="cache", state="idle") == 0
            assert shown("waiting", pool="cache") == 2
            assert shown("longest_lent_seconds") <= pool.holders()[0].age
            await conn.send_command("RPUSH", "list", *"abcd")
            assert await conn.read_response() == 4
        replies = await asyncio.gather(*waiting)
        assert sorted(replies) == [(b"list", value) for value in (b"a", b"b", b"c", b"d")]
        shown, stats = shown_by(registry), pool.stats()
    assert (
        shown("acquired_total") == shown("wait_seconds_count") == shown("use_seconds_count") == 55
    )
    assert shown("use_seconds_sum") == pytest.approx(stats.use_seconds)
    # Up to a tick for each, which is 1 ms on uvloop: who is handed one in the same tick has not waited.
    assert shown("wait_seconds_sum") == pytest.approx(stats.wait_seconds, abs=55 * 0.001)
    assert stats.wait_seconds > 0
    assert shown("wait_seconds_bucket", le="+Inf") == 55
    assert shown("opened_total") == shown("open_seconds_count") == 3
    assert shown("open_seconds_sum") == pytest.approx(stats.open_seconds)
    assert (shown("max_size"), shown("min_size")) == (3, 1)
    assert shown("connections", state="idle") == 3
    assert shown_by(registry)("closed_total", reason="pool_closed") == 3


async def test_a_dropped_pool_is_collected_and_vanishes(server: Server, registry):
    pool = RedisPool(server.url, **STRICT)
    register(pool, registry)
    client = Redis(connection_pool=pool)
    await client.ping()
    assert shown_by(registry).pools() == {pool.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del pool, client
        gc.collect()
    assert shown_by(registry).samples == []


async def test_no_secret_is_exposed(locked_server: Server, registry):
    url = f"redis://default:{locked_server.password}@127.0.0.1:{locked_server.port}/0"
    async with RedisPool(url, **STRICT) as pool:
        register(pool, registry)
        await pool.client().ping()
        text = generate_latest(registry).decode()
    assert f'pool="127.0.0.1:{locked_server.port}/0"' in text
    assert locked_server.password not in text
    assert "default" not in text


async def test_each_node_of_a_cluster_is_a_pool(cluster_fleet: ClusterFleet, registry):
    client = RedisCluster.from_url(cluster_fleet.url, max_size=2)
    take_off = register(client, registry)
    assert shown_by(registry).samples == []
    async with client:
        keys = [f"key{n}" for n in range(60)]
        await asyncio.gather(*(client.set(key, key) for key in keys))
        shown, stats = shown_by(registry), client.node_stats()
        used = {name for name, each in stats.items() if each.acquired}
        assert len(used) >= 3
        assert shown.pools() >= used
        for name in used:
            assert shown("acquired_total", pool=name) == stats[name].acquired
            assert shown("connections", pool=name, state="idle") == stats[name].idle
            assert shown("use_seconds_sum", pool=name) == pytest.approx(stats[name].use_seconds)
        take_off()
        assert shown_by(registry).samples == []
        # A node that another pool goes to as well is told apart from it.
        name = min(used)
        async with RedisPool(f"redis://{name}", name=name, **STRICT) as pool:
            register(pool, registry)
            register(client, registry)
            await client.ping(target_nodes=client.get_node(node_name=name))
            shown = shown_by(registry)
            assert {name, f"{name}-2"} <= shown.pools()
            assert shown("wait_seconds_count", pool=name) == 0
            assert shown("wait_seconds_count", pool=f"{name}-2") == 1


async def test_of_a_node_that_has_gone_nothing_is_kept_not_even_its_name(
    cluster_fleet: ClusterFleet, registry
):
    async with RedisCluster.from_url(cluster_fleet.url, max_size=2) as client:
        register(client, registry)
        await asyncio.gather(*(client.set(f"key{n}", "") for n in range(60)))
        before = shown_by(registry).pools()
        [observed] = client.nodes_manager._settings.listeners
        by_name = [observed.labels, observed.waits, observed.uses, observed.openings]
        used = client.nodes_manager.pools()[0].name
        assert all(used in each for each in by_name)
        lost = lose_a_node(client)
        assert lost == used
        assert shown_by(registry).pools() == before - {lost}
        assert not any(lost in each for each in by_name)
        # Another may have the name now.
        async with RedisPool(f"redis://{lost}", name=lost, **STRICT) as pool:
            register(pool, registry)
            assert shown_by(registry).pools() == before


async def test_a_dropped_client_of_a_cluster_is_collected_and_vanishes(
    cluster_fleet: ClusterFleet, registry
):
    client = RedisCluster.from_url(cluster_fleet.url)
    take_off = register(client, registry)
    await client.ping()
    assert shown_by(registry).pools()
    await client.aclose()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert shown_by(registry).samples == []
    take_off()


async def test_a_view_is_shown_beside_its_pool(server: Server, registry):
    async with RedisPool(server.url, name="cache", max_size=4, **STRICT) as pool:
        view = pool.view(limit=1, name="blocking")
        register(pool, registry)
        register(view, registry)
        async with view.connection():
            waiting = asyncio.create_task(Redis(connection_pool=view).ping())
            await pool.client().ping()
            await eventually(lambda: view.stats().waiting, "it waits")
            shown = shown_by(registry)
        assert await waiting
        assert shown.pools() == {"cache", "blocking of cache"}
        states = {name: shown("connections", pool=name, state="lent") for name in shown.pools()}
        assert states == {"cache": 1, "blocking of cache": 1}
        assert shown("waiting", pool="blocking of cache") == 1
        assert shown("max_size", pool="blocking of cache") == 1
        shown = shown_by(registry)
        assert (
            shown("acquired_total", pool="cache") == shown("use_seconds_count", pool="cache") == 3
        )
        assert shown("wait_seconds_count", pool="blocking of cache") == 2
        assert shown("use_seconds_count", pool="blocking of cache") == 2
        assert shown("closed_total", pool="blocking of cache") == 0


async def test_a_dropped_view_is_collected_and_vanishes(server: Server, registry):
    async with RedisPool(server.url, name="cache", **STRICT) as pool:
        view = pool.view(limit=1, name="blocking")
        take_off = register(view, registry)
        await Redis(connection_pool=view).ping()
        assert shown_by(registry).pools() == {"blocking of cache"}
        del view
        gc.collect()
        assert shown_by(registry).samples == []
        take_off()


async def test_a_pool_of_sentinels_is_shown_by_the_name_of_its_service(
    sentinel_fleet: SentinelFleet, registry
):
    async with Sentinel(sentinel_fleet.addresses) as sentinel:
        service = sentinel_fleet.service
        client = sentinel.master_for(service, connection_pool_class=SentinelPool)
        register(client.connection_pool, registry)
        await client.ping()
        assert shown_by(registry)("acquired_total", pool=f"{service} (master)") == 1
        await client.aclose()


# ---- from another thread -------------------------------------------------------------------------


async def test_it_is_scraped_while_the_loop_is_busy_and_while_it_is_blocked(
    server: Server, registry, address
):
    async with RedisPool(server.url, max_size=4, max_lifetime=0.05, **STRICT) as pool:
        register(pool, registry)
        client = Redis(connection_pool=pool)
        scrapes: list[Shown] = []
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # threads take turns as often as they can
        try:
            scraping = asyncio.get_running_loop().run_in_executor(
                None, lambda: scrapes.extend(scrape(address) for _ in range(20))
            )
            while not scraping.done():
                await asyncio.gather(*(client.ping() for _ in range(20)))
            await scraping
        finally:
            sys.setswitchinterval(before)
        counts = [shown("acquired_total") for shown in scrapes]
        assert counts == sorted(counts)
        assert counts[-1] > counts[0]
        for shown in scrapes:
            assert 0 <= shown("connections") <= 8
            assert shown("wait_seconds_bucket", le="+Inf") == shown("wait_seconds_count")

        # A scrape needs nothing of the loop, which this blocks.
        thread = threading.Thread(target=lambda: scrapes.append(scrape(address)))
        thread.start()
        thread.join()
        assert scrapes[-1]("acquired_total") == pool.stats().acquired
        assert scrapes[-1]("use_seconds_count") == pool.stats().acquired


# ---- dashboard and alerts ------------------------------------------------------------------------

METRIC = re.compile(r"(aiopool_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")


def names_in(expr: str) -> set[str]:
    return {name for name, _ in METRIC.findall(expr)}


def grouping(expr: str) -> set[str]:
    return {label for labels in GROUPING.findall(expr) for label in re.findall(r"\w+", labels)}


def misfits(expr: str, shown: dict[str, dict[str, set[str]]]) -> list[str]:
    """Say what a query asks for that is not there."""
    found = []
    there = set(OF_PROMETHEUS)
    for name, matchers in METRIC.findall(expr):
        labels = shown.get(name)
        if labels is None:
            found.append(f"metric {name}")
            continue
        there |= labels.keys()
        for label, how, value in MATCHER.findall(matchers):
            if label not in labels.keys() | OF_PROMETHEUS:
                found.append(f"label {label} of {name}")
            elif how == "=" and value not in labels.get(label, {value}):
                found.append(f"{label}={value} of {name}")
    return found + [f"label {label} in {expr}" for label in grouping(expr) - there]


def matchers(text: str) -> dict[str, str]:
    return {label: value for label, _, value in MATCHER.findall(text)}


def titles_below(row: str) -> set[str]:
    """Name the panels of a row of the dashboard."""
    titles: dict[str, set[str]] = {}
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            current = titles[panel["title"]] = set()
        else:
            current.add(panel["title"])
    return titles[row]


def panels() -> list[dict]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def alerts() -> list[str]:
    return re.findall(r"^\s*expr: (.*)$", ALERTS, re.MULTILINE)


async def test_dashboard_and_alerts_ask_for_what_is_exposed_and_the_dashboard_for_all_of_it(
    fresh_server: Server, registry
):
    async with RedisPool(fresh_server.url, max_size=2, max_waiting=20, **STRICT) as pool:
        view = pool.view(limit=1)
        for lender in (pool, view):
            register(lender, registry)
        await trouble(fresh_server, pool)
        shown = shown_by(registry)
    for name in ("acquired", "timed_out", "rejected", "opened", "open_failed", "closed"):
        assert shown(f"{name}_total") > 0
    exposed, asked = shown.labels(), set()
    for panel in panels():
        for target in panel["targets"]:
            expr = target["expr"]
            assert misfits(expr, exposed) == [], panel["title"]
            assert names_in(expr)
            in_legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert in_legend <= grouping(expr), panel["title"]
            asked |= names_in(expr)
    assert asked == exposed.keys()

    variables = DASHBOARD["templating"]["list"]
    for variable in variables:
        if variable["type"] == "query":
            query = variable["query"]["query"]
            selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
            assert misfits(selector, exposed) == []
            if label == "pool":
                assert matchers(selector)["kind"] == variable["name"]
            assert label in exposed[METRIC.match(selector)[1]].keys() | OF_PROMETHEUS

    assert len(alerts()) == ALERTS.count("- alert:") >= 3
    for expr in alerts():
        assert names_in(expr)
        assert misfits(expr, exposed) == []
    in_texts = set(re.findall(r"\$labels\.(\w+)", ALERTS))
    assert in_texts <= {"pool", "kind", *OF_PROMETHEUS}


def test_the_dashboard_can_be_imported_and_says_what_to_do():
    assert DASHBOARD["uid"]
    assert DASHBOARD["schemaVersion"] >= 36
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert known == {"datasource", "job", "instance", "pool", "view"}
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(DASHBOARD["panels"])))
    assert used == known | {"__rate_interval"}
    for panel in panels():
        assert len(panel["description"]) > 60, panel["title"]


def test_nothing_is_counted_twice_that_a_view_lends_and_none_alarms_that_is_full_on_purpose():
    of_views = titles_below("Views")
    assert len(of_views) >= 3
    for panel in panels():
        kind = "view" if panel["title"] in of_views else "pool"
        for target in panel["targets"]:
            for name, text in METRIC.findall(target["expr"]):
                asked = matchers(text)
                if name != "aiopool_loop_blocked_seconds_total":  # the largest is asked for
                    assert asked.pop("kind") == kind, panel["title"]
                own = {each: f"${each}" for each in ("job", "instance")} | {"pool": f"${kind}"}
                assert own.items() <= asked.items(), panel["title"]
    told = dict(re.findall(r"- alert: (\w+)\n\s+expr: (.*)", ALERTS))
    for alert in ("AiopoolExhausted", "AiopoolConnectionLeaked"):
        for _, text in METRIC.findall(told[alert]):
            assert matchers(text)["kind"] == "pool"


def test_what_asks_for_something_else_would_be_found():
    exposed = {"aiopool_connections": {"pool": {"a"}, "state": {"idle"}}}
    assert misfits('sum by (state) (aiopool_connections{pool=~"$pool", job="x"})', exposed) == []
    assert misfits("aiopool_conections", exposed) == ["metric aiopool_conections"]
    assert misfits('aiopool_connections{stat="idle"}', exposed)
    assert misfits('aiopool_connections{state="idel"}', exposed)
    assert misfits("sum by (le) (aiopool_connections)", exposed)
