"""Tasks that run from their creation to their first wait at once, where Python has them.

The marker `eager` runs other tests with them as well: everyday use, cancellations.
"""

import asyncio
import random

import pytest
from servers import STRICT, eventually

from aiopool import RedisPool

pytestmark = pytest.mark.eager


def tasks_are_eager() -> bool:
    factory = asyncio.get_running_loop().get_task_factory()
    return factory is not None and factory is getattr(asyncio, "eager_task_factory", None)


async def test_the_marker_adds_loops_with_eager_tasks(request):
    name = request.node.name
    assert tasks_are_eager() is ("-eager" in name)
    begun = []

    async def begin() -> None:
        begun.append(True)

    task = asyncio.create_task(begin())
    assert bool(begun) is tasks_are_eager()
    await task


async def test_a_task_that_runs_at_once_has_its_connection_at_once(pool):
    client = pool.client()
    await client.ping()
    command = asyncio.create_task(client.echo("mine"), name="report")
    lent = {holder.task for holder in pool.holders()}
    assert lent == ({"report"} if tasks_are_eager() else set())
    assert await command == b"mine"
    assert (pool.stats().opened, pool.stats().idle) == (1, 1)


async def test_a_hundred_tasks_on_three_connections_get_their_own_replies_or_are_cancelled(
    server, wire
):
    dice = random.Random(1)
    async with RedisPool(server.url, max_size=3, timeout=60, **STRICT, **wire) as pool:
        client = pool.client()

        async def work(number: int) -> bool:
            key, value = f"key{number}", str(number).encode()
            await client.set(key, number)
            async with client.pipeline() as pipe:
                replies = await pipe.get(key).echo(number).execute()
            return replies == [value, value] and await client.getdel(key) == value

        tasks = [asyncio.create_task(work(number)) for number in range(100)]
        for unlucky in dice.sample(tasks, 33):
            unlucky.cancel()
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results.count(True) >= 67
        cancelled = [r for r in results if isinstance(r, asyncio.CancelledError)]
        assert results.count(True) + len(cancelled) == 100
        assert len(cancelled) > 10
        assert pool.stats().size <= 3
        words = [str(number) for number in range(30)]
        assert await asyncio.gather(*map(client.echo, words)) == [word.encode() for word in words]
        await eventually(
            lambda: len(server.clients()) == pool.stats().size == pool.stats().idle,
            lambda: f"{len(server.clients())} connections are {pool.stats()}",
        )
