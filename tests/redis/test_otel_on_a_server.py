"""What OpenTelemetry sees of real traffic, beside redis-py's own telemetry."""

import asyncio
import gc
import logging
import warnings

import pytest
from fleets import ClusterFleet, lose_a_node
from metrics import Telemetry
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from readings import Metrics, Spans
from redis.asyncio import Redis
from servers import STRICT, Server, eventually

from aiopool import PoolTimeout, RedisCluster, RedisPool
from aiopool.integrations.otel import instrument


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


async def test_everything_agrees_with_what_a_client_did(server: Server, metrics, spans):
    pool = RedisPool(server.url, max_size=2, min_size=1, **STRICT)
    name = f"127.0.0.1:{server.port}/0"
    instrument(pool, metrics.provider, spans.provider)
    loop = asyncio.get_running_loop()
    async with pool:
        client = Redis(connection_pool=pool)
        begun = loop.time()
        blocked = [asyncio.create_task(client.blpop("list", 0)) for _ in range(2)]
        await eventually(lambda: pool.stats().lent == 2, "both are lent one")
        with pytest.raises(PoolTimeout):
            await pool.acquire(timeout=0.02)
        tracer = trace.get_tracer("test", tracer_provider=spans.provider)
        with tracer.start_as_current_span("request") as request:
            waiting = asyncio.create_task(client.get("key"))
        await eventually(lambda: pool.stats().waiting, "the third waits")
        assert metrics.gauges(name) == {
            "idle": 0,
            "used": 2,
            "idle.max": 2,
            "idle.min": 1,
            "max": 2,
            "pending_requests": 1,
            "timeouts": 1,
            "aiopool.rejections": 0,
        }
        server.run("RPUSH", "list", "one", "two")
        await asyncio.gather(*blocked, waiting)
        took = loop.time() - begun
        assert metrics.counts(name) == (2, 0)
        for _ in range(10):
            await client.ping()
    assert metrics.counts(name) == (0, 0)

    waits = metrics.histogram("db.client.connection.wait_time", name)
    uses = metrics.histogram("db.client.connection.use_time", name)
    created = metrics.histogram("db.client.connection.create_time", name)
    assert (waits.count, uses.count, created.count) == (13, 13, 2)
    stats = pool.stats()
    assert (uses.sum, created.sum) == pytest.approx((stats.use_seconds, stats.open_seconds))
    assert created.sum < took
    assert took < uses.sum < 3 * took

    failed, *others = [span for span in spans.of_waits() if "error.type" in span.attributes] + [
        span for span in spans.of_waits() if span.parent is not None
    ]
    assert failed.attributes["error.type"] == "PoolTimeout"
    assert failed.attributes["aiopool.waited"] > 0.019
    (waited,) = others
    assert waited.name == f"acquire {name}"
    assert waited.parent.span_id == request.get_span_context().span_id
    assert waited.attributes["aiopool.waited"] == pytest.approx(
        (waited.end_time - waited.start_time) / 1e9
    )


async def test_no_command_without_a_wait_makes_a_span(server: Server, spans):
    async with RedisPool(server.url, **STRICT) as pool:
        await pool.warm(1)
        instrument(pool, NoOpMeterProvider(), spans.provider)
        for _ in range(100):
            await pool.client().ping()
    assert not spans.all()


async def test_a_name_shows_no_credentials(locked_server: Server, metrics, spans):
    async with RedisPool(
        locked_server.url, password=locked_server.password, max_size=1, **STRICT
    ) as pool:
        instrument(pool, metrics.provider, spans.provider)
        conn = await asyncio.create_task(pool.acquire())
        with pytest.raises(PoolTimeout):
            await pool.acquire(timeout=0.01)
        await pool.release(conn)
        assert metrics.sum("db.client.connection.timeouts") == 1
        told = metrics.reader.get_metrics_data().to_json() + "".join(
            span.to_json() for span in spans.all()
        )
    assert f"127.0.0.1:{locked_server.port}/0" in told
    assert "s3cret" not in told


async def test_a_dropped_pool_is_reported_no_more(server: Server, metrics):
    pool = RedisPool(server.url, **STRICT)
    end = instrument(pool, metrics.provider)
    await pool.client().ping()
    assert metrics.counts(f"127.0.0.1:{server.port}/0") == (1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del pool
        gc.collect()
    assert metrics.pools() == set()
    end()


async def test_each_node_of_a_cluster_reports_under_its_name(
    cluster_fleet: ClusterFleet, metrics, spans
):
    host, port = cluster_fleet.startup[0]
    cluster = RedisCluster(host, port, max_size=3)
    end = instrument(cluster, metrics.provider, spans.provider)
    assert metrics.pools() == set()  # none is known yet
    async with cluster:
        await asyncio.gather(*(cluster.set(f"key:{number}", "") for number in range(100)))
        stats = cluster.node_stats()
        assert metrics.pools() == stats.keys()
        used = {name for name, each in stats.items() if each.acquired}
        assert len(used) > 1
        for name in used:
            assert metrics.counts(name) == (stats[name].idle, 0)
            waits = metrics.histogram("db.client.connection.wait_time", name)
            created = metrics.histogram("db.client.connection.create_time", name)
            assert (waits.count, created.count) == (stats[name].acquired, stats[name].opened)
            assert waits.sum == pytest.approx(stats[name].wait_seconds, abs=0.01)
        assert {f"acquire {name}" for name in used} >= {span.name for span in spans.of_waits()}
        end()
        assert metrics.pools() == set()


async def test_the_name_of_a_node_that_has_gone_is_forgotten_and_free_again(
    cluster_fleet: ClusterFleet, metrics
):
    async with RedisCluster.from_url(cluster_fleet.url, max_size=3) as cluster:
        instrument(cluster, metrics.provider)
        await asyncio.gather(*(cluster.set(f"key:{number}", "") for number in range(100)))
        before = metrics.pools()
        lost = lose_a_node(cluster)
        assert lost in before
        assert metrics.pools() == before - {lost}
        async with RedisPool(f"redis://{lost}", name=lost, **STRICT) as pool:
            instrument(pool, metrics.provider)
            assert metrics.pools() == before


async def test_redis_pys_telemetry_goes_on_beside_it(server: Server, caplog):
    telemetry = Telemetry()
    try:
        with caplog.at_level(logging.WARNING, "opentelemetry"):
            async with RedisPool(server.url, name="ours", **STRICT) as pool:
                instrument(pool, telemetry.provider)
                theirs = f"127.0.0.1:{server.port}_{pool._pool_id}"
                client = pool.client()
                for _ in range(5):
                    await client.ping()
                async with pool.connection():
                    assert telemetry.counts("ours") == telemetry.counts(theirs) == (0, 1)
                assert telemetry.counts("ours") == telemetry.counts(theirs) == (1, 0)
                for name in ("ours", theirs):
                    waits = telemetry.histogram("db.client.connection.wait_time", name)
                    assert waits.count == 6
                assert telemetry.operations() == {"PING": 5}
        assert not caplog.records
    finally:
        telemetry.end()
