"""What a command to a cluster costs, in what can be counted: see `tests/test_hot_path.py`.

After a change, `pytest -vv` shows what is counted now. Put that here if each call that is new is worth its
while: a `GET` through a cluster is to cost what it costs through the client of one pool, and the way to the
node, which is `OF_THE_CLUSTER`. If redis-py has changed, see first whether it does more for a command.
"""

from collections import Counter

import pytest
from counting import asked_of_the_loop, calls_of

from aiopool import RedisCluster


@pytest.fixture(params=[None, 1], ids=["plain", "lanes"])
async def cluster(request, cluster_fleet):
    async with RedisCluster(
        *cluster_fleet.startup[0], max_size=2, lanes=request.param, protocol=3
    ) as cluster:
        await cluster.set("key", "value")
        await cluster.get("key")  # what is done but once is done
        yield cluster


def counted(calls: Counter[str]) -> dict[str, int]:
    """Give the calls of functions; Python 3.12 and later have no comprehensions among them."""
    return {name: number for name, number in calls.items() if "<" not in name}


OF_THE_CLUSTER = {
    "RedisCluster.execute_command": 2,  # it suspends once
    "RedisCluster._node_for": 1,
    "slot_of": 1,
    "Node.ask": 2,
    # of redis-py:
    "BasicKeyCommands.get": 1,
    "ObservabilityInstance.is_enabled": 1,
    "get_observability_instance": 1,
    "key_slot": 1,
}
# What it takes to lend a connection and to take it back: see `test_hot_path_of_commands.py`.
OF_LENDING = {
    "Places.lend_idle": 1,
    "Places.take_back": 1,
    "RedisConnector.is_usable": 1,
    "Lean.may_be_lent": 1,
    "RedisConnector.is_clean": 1,
    "Lean.may_be_put_aside": 1,
    "Lean._is_in_order": 2,
    "Wire.quiet": 2,
    "Ledger.clean": 2,
}
ALONE = {
    "RedisPool.acquire": 1,
    "Pool.acquire": 1,
    "RedisPool.release": 1,
    "Pool.release": 1,
    "Lean.send_now": 1,
    "packed": 1,
    "noteworthy": 1,
    "Ledger.sent": 1,
    "Lean.read_response": 2,  # it suspends once
    "Wire.arrived": 1,
    "Wire.reply": 1,
    "Wire._wait": 1,
    "Wire.reschedule": 1,
    "Wire.data_received": 1,
    "Ledger.answered": 1,
}
# See `test_hot_path_of_lanes.py`.
SHARED = {
    # of each command
    "PipelinedRedis.unobserved": 2,  # it suspends once
    "PipelinedRedis._shareable": 1,
    "packed": 1,
    "RedisCore.is_here": 1,
    "Lanes.ask": 1,
    # of each write
    "Lanes._end_turn": 1,
    "Lanes.in_flight": 1,
    "Lanes._lane": 1,
    "Lanes.ring_at": 1,
    "Lane.send": 1,
    "Lane._forget_answered": 1,
    # of each read
    "Wire.data_received": 1,
    "Lane.read": 1,
    "Lane._take_replies": 1,
    "Lane._go_on": 1,
    "Lanes.has_room": 1,
    # of each lane
    "Lanes._another": 1,
    "Lanes._begin": 1,
    "Lanes._open_lane": 1,
    "RedisCore.lent_to_a_lane": 1,
    "RedisCore.back_from_a_lane": 1,
    "Lane.__init__": 1,
    "Lean.transport": 1,
    "Lane.end": 1,
    "Lane._leave": 1,
    "Lanes.ended": 1,
    "Lean.read_by": 2,
    "Wire.read_by": 2,
}


@pytest.mark.parametrize(
    ("cluster", "its_own"),
    [(None, ALONE), (1, SHARED)],
    ids=["plain", "lanes=1"],
    indirect=["cluster"],
)
async def test_a_get(cluster, its_own):
    with calls_of("aiopool", "redis") as calls:
        assert await cluster.get("key") == b"value"
    assert counted(calls) == OF_THE_CLUSTER | OF_LENDING | its_own


async def test_a_get_calls_nothing_that_is_there_for_type_checkers_only(cluster):
    with calls_of("typing") as calls:
        await cluster.get("key")
    assert calls["cast"] <= 1  # of lending


async def test_a_get_takes_one_future_and_neither_task_nor_timer(cluster, monkeypatch):
    with asked_of_the_loop(monkeypatch) as asked:
        assert await cluster.get("key") == b"value"
    assert asked["futures"] + asked["create_future"] == 1
    assert asked["create_task"] == 0
    assert asked["call_at"] == 0
