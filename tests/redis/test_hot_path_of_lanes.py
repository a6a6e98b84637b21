"""What a command on a shared connection costs, in what can be counted: see `tests/test_hot_path.py`.

After a change, `pytest -vv` shows what is counted now, to be put here if that is to be.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest
from counting import asked_of_the_loop, calls_of
from servers import HIREDIS

from aiopool import RedisPool
from aiopool.redis._lean import Lean

MANY = 1000


@pytest.fixture
async def client(server):
    async with RedisPool(server.url, max_size=2, protocol=3, **HIREDIS) as pool:
        client = pool.pipelined()
        await client.set("key", "value")
        await client.get("key")  # what is done but once is done
        yield client


def counted(calls: Counter[str]) -> dict[str, int]:
    """Give the calls of functions; Python 3.12 and later have no comprehensions among them."""
    return {name: number for name, number in calls.items() if "<" not in name}


# ---- calls ---------------------------------------------------------------------------------------

OF_EACH_COMMAND = {
    "PipelinedRedis.execute_command": 2,  # it suspends once
    "PipelinedRedis._shareable": 1,
    "packed": 1,
    "RedisCore.is_here": 1,
    "Lanes.ask": 1,
    # of redis-py:
    "BasicKeyCommands.get": 1,
    "CaseInsensitiveDict.get": 1,
    "ObservabilityInstance.is_enabled": 1,
    "get_observability_instance": 1,
}
OF_EACH_WRITE = {
    "Lanes._end_turn": 1,
    "Lanes.in_flight": 1,
    "Lanes._lane": 1,
    "Lanes.ring_at": 1,
    "Lane.send": 1,
    "Lane._forget_answered": 1,
}
OF_EACH_READ = {
    "Wire.data_received": 1,
    "Lane.read": 1,
    "Lane._take_replies": 1,
    "Lane._go_on": 1,
    "Lanes.has_room": 1,
}
OF_EACH_LANE = {
    # To lend a connection, and take it back.
    "Lanes._another": 1,
    "Places.lend_idle": 1,
    "Lanes._begin": 1,
    "Lanes._open_lane": 1,
    "RedisCore.lent_to_a_lane": 1,
    "RedisCore.back_from_a_lane": 1,
    "Lane.__init__": 1,
    "Lean.transport": 1,
    "Lane.end": 1,
    "Lane._leave": 1,
    "Lanes.ended": 1,
    "Places.take_back": 1,
    "Lean.read_by": 2,
    "Wire.read_by": 2,
    # A look at all of it, then at all but the socket.
    "RedisConnector.is_usable": 1,
    "Lean.may_be_lent": 1,
    "RedisConnector.is_clean": 1,
    "Lean.may_be_put_aside": 1,
    "Lean._is_in_order": 2,
    "Wire.quiet": 2,
    "Ledger.clean": 2,
}


async def test_a_get_alone(client):
    with calls_of("aiopool", "redis") as calls:
        assert await client.get("key") == b"value"
    assert counted(calls) == OF_EACH_COMMAND | OF_EACH_WRITE | OF_EACH_READ | OF_EACH_LANE


async def test_a_thousand_gets_in_one_turn(client):
    with calls_of("aiopool", "redis") as calls:
        replies = await asyncio.gather(*[client.get("key") for _ in range(MANY)])
    assert replies == [b"value"] * MANY
    # The replies may arrive in several parts. All else is done once for all of them.
    reads = calls["Wire.data_received"]
    assert reads < 10
    assert counted(calls) == (
        {name: number * MANY for name, number in OF_EACH_COMMAND.items()}
        | OF_EACH_WRITE
        | {name: number * reads for name, number in OF_EACH_READ.items()}
        | OF_EACH_LANE
    )


# ---- writes --------------------------------------------------------------------------------------


class Noting:
    """A transport that notes how much is written at a time."""

    def __init__(self, transport: Any, sizes: list[int]) -> None:
        self._transport = transport
        self._sizes = sizes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._sizes.append(len(data))
        self._transport.write(data)


@pytest.fixture
def writes(monkeypatch):
    """The sizes of what lanes write."""
    sizes = []
    real = Lean.transport.fget
    monkeypatch.setattr(Lean, "transport", property(lambda conn: Noting(real(conn), sizes)))
    return sizes


GET = len(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")


async def test_what_is_asked_for_in_one_turn_is_written_at_once(client, writes):
    await asyncio.gather(*[client.get("key") for _ in range(MANY)])
    assert writes == [MANY * GET]


async def test_64_kib_are_written_at_a_time(client, writes):
    key = "k" * 1000
    length = GET + len(key) - len("key") + len("1000") - len("3")
    await asyncio.gather(*[client.get(key) for _ in range(150)])
    each = -(-65536 // length)  # so many commands
    assert writes == [each * length, each * length, (150 - 2 * each) * length]


# ---- what the event loop is asked for ------------------------------------------------------------


async def test_a_get_takes_one_future_and_neither_task_nor_timer(client, monkeypatch):
    with asked_of_the_loop(monkeypatch) as asked:
        assert await client.get("key") == b"value"
    # asyncio's loop can be asked whether anything else is to run in this turn, uvloop's can't.
    write_later = not hasattr(asyncio.get_running_loop(), "_ready")
    assert asked == {"create_future": 1, "call_soon": 1 + write_later}  # 1: that it has come


async def test_a_thousand_gets_take_a_future_each_and_neither_tasks_nor_timers(client, monkeypatch):
    tasks = [asyncio.create_task(client.get("key")) for _ in range(MANY)]
    with asked_of_the_loop(monkeypatch) as asked:
        await tasks[-1]  # which gets its reply last
    assert all(task.done() for task in tasks)
    # Each task hears of its reply, and this one of the last task; one write.
    assert asked == {"create_future": MANY, "call_soon": MANY + 1 + 1}


async def test_a_thousand_gets_in_a_row_take_no_more_timers_than_one(client, monkeypatch):
    with asked_of_the_loop(monkeypatch) as asked:
        for _ in range(MANY):
            await client.get("key")
    assert asked["call_at"] <= 1
    assert asked["create_task"] == 0
    assert asked["create_future"] + asked["futures"] == MANY
