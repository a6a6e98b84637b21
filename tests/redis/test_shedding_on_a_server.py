"""Callers who would be served too late are turned away, of real commands on a real server."""

import asyncio

from fleets import ClusterFleet
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import MaxConnectionsError
from servers import STRICT, Server, eventually

from aiopool import RedisCluster, RedisPool, SentinelPool, TooManyWaiters
from benchmarks.shedding import measurement
from benchmarks.shedding.service import CONSTANT

USE = 0.05


async def test_most_of_a_rush_are_turned_away_the_others_served_and_nothing_is_lost(server: Server):
    async with RedisPool(server.url, max_size=2, timeout=1.0, shed=True, **STRICT) as pool:
        client = pool.client()

        async def use() -> None:
            await client.blpop("nothing", USE)  # it takes that long, or longer

        await asyncio.gather(*(use() for _ in range(10)))
        ends = await asyncio.gather(*(use() for _ in range(200)), return_exceptions=True)
        rejected = [end for end in ends if isinstance(end, TooManyWaiters)]
        # Two have a connection; the last in line expects its own in 0.85 s at most: after 34 returns.
        assert len(rejected) >= 200 - 2 - 34
        assert ends.count(None) >= 2
        assert all(isinstance(error, MaxConnectionsError) for error in rejected)
        assert "s that a use may take of a timeout of 1 s (size=2/2" in str(rejected[0])
        assert len(rejected[0].holders) == 2
        assert pool.stats().rejected == len(rejected)
        assert (pool.stats().lent, pool.stats().waiting) == (0, 0)
        assert await asyncio.gather(*(client.ping() for _ in range(10))) == [True] * 10
        await eventually(lambda: len(server.clients()) <= 2, "there are two connections at most")


def test_it_is_an_option_of_a_sentinel_pool():
    sentinel = Sentinel([("localhost", 26379)])
    client = sentinel.master_for("mymaster", connection_pool_class=SentinelPool, shed=True)
    assert client.connection_pool._core._load is not None


async def test_it_is_an_option_of_each_node_of_a_cluster(cluster_fleet: ClusterFleet):
    port = cluster_fleet.masters()[0].port
    async with RedisCluster(host="127.0.0.1", port=port, shed=True) as cluster:
        pools = [node.pool for node in cluster.get_nodes()]
        assert len(pools) == 6
        assert all(pool._core._load is not None for pool in pools)


def test_the_measurement_measures(monkeypatch):
    monkeypatch.setattr(measurement, "WARM_UP", 0.5)
    monkeypatch.setattr(measurement, "LASTS", 0.5)
    measured = measurement.measure(6.0, CONSTANT, shed=True, seed=1)
    assert measured.tally.served
    assert measured.tally.rejected
