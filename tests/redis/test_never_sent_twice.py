"""Commands that must never be sent twice, on a pool that waits for its server all the same.

`Retry(NoBackoff(), 10, supported_errors=())`: no error of a command is tried again, since none is among
those that are; the number alone counts for the pool's own connects.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import Server, eventually

from aiopool import RedisPool


async def increment(client: Any) -> None:
    await client.incr("count")


async def increment_in_a_pipeline(client: Any) -> None:
    async with client.pipeline(transaction=False) as pipeline:
        await pipeline.incr("count").execute()


async def increment_in_a_transaction(client: Any) -> None:
    async with client.pipeline(transaction=True) as pipeline:
        await pipeline.incr("count").execute()


WAYS = {
    "client": (RedisPool.client, increment),
    "pipeline": (RedisPool.client, increment_in_a_pipeline),
    "transaction": (RedisPool.client, increment_in_a_transaction),
    "pipelined": (RedisPool.pipelined, increment),
}


def once() -> Retry:
    return Retry(NoBackoff(), 10, supported_errors=())


@pytest.mark.parametrize(("make", "count"), WAYS.values(), ids=WAYS)
async def test_a_command_without_an_answer_in_time_is_sent_once(
    fresh_server: Server,
    make: Callable[[RedisPool], Any],
    count: Callable[[Any], Coroutine[Any, Any, None]],
):
    async with RedisPool(fresh_server.url, socket_timeout=0.1, retry=once()) as pool:
        client = make(pool)
        await count(client)
        with fresh_server.frozen():
            call = asyncio.create_task(count(client))
            await asyncio.wait({call}, timeout=1)  # one that is tried again would go on
        with pytest.raises(RedisTimeoutError):
            await call
        # What was sent was taken by the system, and is carried out.
        await eventually(lambda: fresh_server.run("GET", "count") != "1", "it was carried out")
        assert fresh_server.run("GET", "count") == "2"
        # And nobody gets its reply.
        assert await client.echo("mine") == b"mine"
        assert pool.stats().closed["unusable"] == 1


async def test_a_command_whose_connection_breaks_is_sent_once(fresh_server: Server):
    async with RedisPool(fresh_server.url, retry=once()) as pool:
        waiting = asyncio.create_task(pool.client().blpop("list", timeout=3))
        await eventually(lambda: any("b" in c["flags"] for c in fresh_server.clients()), "blocked")
        fresh_server.run("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(RedisConnectionError):
            await waiting
        calls = fresh_server.run("INFO", "commandstats")["cmdstat_blpop"]["calls"]
        assert calls == 1


async def test_who_asks_while_the_server_is_away_is_served_when_it_is_back(fresh_server: Server):
    async with RedisPool(fresh_server.url, timeout=60, retry=once()) as pool:
        await pool.client().ping()
        fresh_server.stop()
        asking = [asyncio.create_task(pool.client().incr("count")) for _ in range(20)]
        await eventually(lambda: pool.stats().open_failed >= 3, "it was tried in vain")
        assert not any(task.done() for task in asking)
        await asyncio.to_thread(fresh_server.start)
        async with asyncio.timeout(30):
            assert sorted(await asyncio.gather(*asking)) == [*range(1, 21)]


async def test_a_subscriber_is_told_and_does_not_subscribe_anew(fresh_server: Server):
    async with (
        RedisPool(fresh_server.url, retry=once()) as pool,
        pool.client().pubsub() as pubsub,
    ):
        await pubsub.subscribe("news")
        assert await pubsub.get_message(timeout=5)
        fresh_server.run("CLIENT", "KILL", "TYPE", "pubsub")
        for _ in range(2):
            with pytest.raises(RedisConnectionError):
                await pubsub.get_message(timeout=5)
