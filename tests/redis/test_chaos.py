"""In chaos: a proxy plays the tricks of a bad network while many tasks ask and are cancelled.

Each round is drawn by a seed; another is tried with `AIOPOOL_CHAOS_SEED=<seed> pytest
tests/redis/test_chaos.py`, and far more of them with `python tests/redis/chaos.py`.
"""

import os

import pytest
from chaos import SIZE, Report, round_of_traffic
from chaos_proxy import KINDS
from redis.asyncio import BlockingConnectionPool
from servers import WIRES, Server

from aiopool import RedisPool

SEED = os.environ.get("AIOPOOL_CHAOS_SEED", "1")
REQUESTS = 1000


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """One that is another for each kind of wire, client and loop."""
    return f"{SEED}/{request.node.name}"


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "client"])
async def test_in_chaos_nobody_gets_the_reply_to_another_and_no_slot_is_lost(
    server: Server, wire, raw, seed
):
    made: list[RedisPool] = []

    def make_pool(*args, **kwargs) -> RedisPool:
        made.append(RedisPool(*args, **kwargs))
        return made[0]

    report = await round_of_traffic(make_pool, server, wire, raw=raw, requests=REQUESTS, seed=seed)
    hint = f"AIOPOOL_CHAOS_SEED={SEED}: {report}"
    assert not report.wrong, hint
    assert not report.odd, hint
    assert (report.lost, report.left) == (0, 0), hint
    assert report.most <= SIZE, hint
    # And there was reason to be wrong.
    assert report.right > REQUESTS / 2, hint
    assert report.interrupted > REQUESTS / 20, hint
    assert report.faults.total() > 50, hint
    stats = made[0].stats()
    assert (stats.size, stats.idle, stats.lent, stats.opening, stats.waiting) == (0, 0, 0, 0, 0)
    assert stats.opened == sum(stats.closed.values()), stats


async def test_every_kind_of_fault_is_injected(server: Server, seed):
    report = Report()
    for number in range(10):
        report += await round_of_traffic(
            RedisPool,
            server,
            WIRES["resp3-hiredis"],
            raw=True,
            requests=REQUESTS,
            seed=f"{seed}/{number}",
        )
        if report.faults.keys() == KINDS:
            break
    assert report.faults.keys() == KINDS


# ---- what the oracle sees in bad pools -------------------------------------------------------------


class Careless(BlockingConnectionPool):
    """Lends what comes back as it is."""

    async def ensure_connection(self, connection):
        await connection.connect()


class Forgetful(BlockingConnectionPool):
    """Does not take the first connection back that comes back closed."""

    forgotten = None

    async def release(self, connection):
        if self.forgotten is None and not connection.is_connected:
            self.forgotten = connection
        else:
            await super().release(connection)


class Generous(BlockingConnectionPool):
    """Has more connections than it should."""

    def __init__(self, *, max_connections: int, **kwargs) -> None:
        super().__init__(2 * max_connections, **kwargs)


async def test_the_oracle_sees_replies_to_another(server: Server, wire, seed):
    report = await round_of_traffic(
        Careless.from_url, server, wire, raw=True, requests=REQUESTS // 2, seed=seed
    )
    assert report.wrong, report


async def test_the_oracle_sees_lost_slots(server: Server, seed, monkeypatch):
    monkeypatch.setattr("chaos.AFTER_CALM", 0.5)
    report = await round_of_traffic(
        Forgetful.from_url, server, {}, raw=True, requests=REQUESTS // 2, seed=seed
    )
    assert report.lost == 1, report


async def test_the_oracle_sees_connections_above_the_size(server: Server, seed):
    report = await round_of_traffic(
        Generous.from_url, server, {}, raw=False, requests=REQUESTS, seed=seed
    )
    assert report.most > SIZE, report
