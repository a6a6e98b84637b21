"""channels_redis: a layer's `create_pool` is overridden."""

import asyncio

import pytest
from channels_redis.core import RedisChannelLayer
from servers import eventually
from traffic import MakePool, nobody_went_without, storm

from aiopool import PoolTimeout, RedisPool


class PooledLayer(RedisChannelLayer):
    def __init__(self, pool: RedisPool, **options) -> None:
        super().__init__(**options)
        self.pool = pool

    def create_pool(self, index: int) -> RedisPool:  # noqa: ARG002 - the library's signature
        return self.pool


# All that is received for one process goes through one blocking command, and holds its connection.
@pytest.fixture(params=[2, 3])
async def layer(request: pytest.FixtureRequest, make_pool: MakePool):
    layer = PooledLayer(make_pool(max_size=request.param), capacity=1000)
    yield layer
    assert nobody_went_without(layer.pool)
    await layer.flush()


async def test_what_is_sent_to_a_group_reaches_all_that_are_in_it(layer: PooledLayer) -> None:
    inside = [await layer.new_channel() for _ in range(10)]
    outside = await layer.new_channel()
    for channel in [*inside, outside]:
        await layer.group_add("room", channel)
    await layer.group_discard("room", outside)
    for text in ["one", "two"]:
        await layer.group_send("room", {"type": "chat", "text": text})
        received = await asyncio.gather(*map(layer.receive, inside))
        assert [message["text"] for message in received] == [text] * 10
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(outside), 0.05)


async def test_what_is_sent_to_a_channel_reaches_one_receiver_in_order(layer: PooledLayer) -> None:
    for number in range(20):
        await layer.send("tasks", {"type": "task", "number": number})
    received = [(await layer.receive("tasks"))["number"] for _ in range(20)]
    assert received == [*range(20)]


async def test_receivers_that_are_cancelled_cost_the_others_nothing(layer: PooledLayer) -> None:
    channels = [await layer.new_channel() for _ in range(50)]

    async def received(number: int) -> int:
        return (await layer.receive(channels[number]))["number"]

    async def sent() -> None:
        await asyncio.gather(
            *(
                layer.send(channel, {"type": "chat", "number": number})
                for number, channel in enumerate(channels)
            )
        )

    sending = asyncio.create_task(sent())
    results = await storm(received, tasks=50)
    await sending
    assert set(results) <= {*range(50)}
    assert len(results) >= 40


async def test_on_one_connection_nothing_is_sent_while_somebody_waits(make_pool: MakePool) -> None:
    layer = PooledLayer(make_pool(max_size=1, timeout=0.05))
    receiver = asyncio.create_task(layer.receive("tasks"), name="receiver")
    await eventually(lambda: layer.pool.stats().lent, "it waits for a message")
    with pytest.raises(PoolTimeout, match=r"longest lent .* by task 'receiver'"):
        await layer.send("tasks", {"type": "task"})
    receiver.cancel()
    await asyncio.wait([receiver])
    await layer.flush()
