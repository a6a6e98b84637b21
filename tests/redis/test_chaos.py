"""In chaos: a proxy plays the tricks of a bad network while many tasks ask and are cancelled.

Each round is drawn by a seed; another is tried with `AIOPOOL_CHAOS_SEED=<seed> pytest
tests/redis/test_chaos.py`, and far more of them with `python tests/redis/chaos.py`.
"""

import os
from collections import deque
from random import Random

import pytest
from chaos import LANES, RARITY, SIZE, WAYS, Report, round_of_traffic
from chaos_proxy import KINDS
from redis.asyncio import BlockingConnectionPool
from servers import WIRES, Server

from aiopool import RedisPool
from aiopool.redis._lane import Lane
from aiopool.redis._lanes import Lanes

SEED = os.environ.get("AIOPOOL_CHAOS_SEED", "1")
REQUESTS = 1000


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """One that is another for each kind of wire, client and loop."""
    return f"{SEED}/{request.node.name}"


# For lanes one wire of each protocol, with one parser each, is enough: they read in ways of their own.
COMBINATIONS = [
    pytest.param(wire, way, id=f"{name}-{way}")
    for name, wire in WIRES.items()
    for way in WAYS
    if way not in LANES or name in {"resp2-python", "resp3-hiredis"}
]


@pytest.mark.parametrize(("wire", "way"), COMBINATIONS)
async def test_in_chaos_nobody_gets_the_reply_to_another_and_no_slot_is_lost(
    server: Server, wire, way, seed
):
    made: list[RedisPool] = []

    def make_pool(*args, **kwargs) -> RedisPool:
        made.append(RedisPool(*args, **kwargs))
        return made[0]

    report = await round_of_traffic(make_pool, server, wire, way=way, requests=REQUESTS, seed=seed)
    hint = f"AIOPOOL_CHAOS_SEED={SEED}: {report}"
    assert not report.wrong, hint
    assert not report.odd, hint
    assert (report.lost, report.left) == (0, 0), hint
    assert report.most <= SIZE, hint
    # And there was reason to be wrong.
    assert report.right > REQUESTS / 2, hint
    assert report.interrupted > REQUESTS / 20, hint
    assert report.faults.total() > 50 / (RARITY if way in LANES else 1), hint
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
            way="raw",
            requests=REQUESTS,
            seed=f"{seed}/{number}",
        )
        if report.faults.keys() == KINDS:
            break
    assert report.faults.keys() == KINDS


ONCE = pytest.mark.asyncio(loop_factories=["asyncio"])  # is enough for what is wrong on any loop


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
        Careless.from_url, server, wire, way="raw", requests=REQUESTS // 2, seed=seed
    )
    assert report.wrong, report


@ONCE
async def test_the_oracle_sees_lost_slots(server: Server, seed, monkeypatch):
    monkeypatch.setattr("chaos.AFTER_CALM", 0.5)
    report = await round_of_traffic(
        Forgetful.from_url, server, {}, way="raw", requests=REQUESTS // 2, seed=seed
    )
    assert report.lost == 1, report


@ONCE
async def test_the_oracle_sees_connections_above_the_size(server: Server, seed):
    report = await round_of_traffic(
        Generous.from_url, server, {}, way="client", requests=REQUESTS, seed=seed
    )
    assert report.most > SIZE, report


# ---- what it sees in bad lanes ---------------------------------------------------------------------


async def until_something_is_wrong(server: Server, wire, way: str, seed: str) -> Report:
    """Have several rounds, if need be: not in each is there an occasion."""
    report = Report()
    for number in range(10):
        report += await round_of_traffic(
            RedisPool, server, wire, way=way, requests=REQUESTS // 2, seed=f"{seed}/{number}"
        )
        if report.wrong:
            break
    return report


class Forgetting(deque):
    """Replies that are waited for, without those to callers who have left."""

    def popleft(self):
        while True:
            waiting = super().popleft()
            if not waiting.done() or not self:
                return waiting


@ONCE
@pytest.mark.parametrize("wire", [WIRES["resp2-python"], WIRES["resp3-hiredis"]])
async def test_the_oracle_sees_the_reply_to_a_cancelled_caller_given_to_the_next(
    server: Server, wire, seed, monkeypatch
):
    def take_over(self, *args):
        begin(self, *args)
        self.sent = Forgetting()

    begin = Lane.__init__
    monkeypatch.setattr(Lane, "__init__", take_over)
    report = await until_something_is_wrong(server, wire, "lane", seed)
    assert report.wrong, report


@ONCE
async def test_the_oracle_sees_two_replies_that_are_swapped_now_and_then(
    server: Server, seed, monkeypatch
):
    def send(self, replies, commands, now):
        if len(replies) > 1 and draw.random() < 0.1:
            replies[:2] = reversed(replies[:2])
        write(self, replies, commands, now)

    draw = Random(seed)
    write = Lane.send
    monkeypatch.setattr(Lane, "send", send)
    report = await until_something_is_wrong(server, WIRES["resp3-hiredis"], "lanes", seed)
    assert report.wrong, report


@ONCE
@pytest.mark.parametrize("way", LANES)
async def test_the_oracle_sees_a_connection_that_a_lane_keeps(
    server: Server, seed, way, monkeypatch
):
    def ended(self, lane):
        if kept:
            give_back(self, lane)
        else:
            kept.append(lane)
            self._open.remove(lane)

    kept = []
    give_back = Lanes.ended
    monkeypatch.setattr(Lanes, "ended", ended)
    monkeypatch.setattr("chaos.AFTER_CALM", 0.5)
    report = await round_of_traffic(
        RedisPool, server, {}, way=way, requests=REQUESTS // 2, seed=seed
    )
    assert report.lost == 1, report
