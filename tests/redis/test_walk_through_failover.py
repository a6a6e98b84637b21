"""redis-py's client of several databases, given pools: it moves when one goes down, and back."""

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio.multidb.client import MultiDBClient
from redis.asyncio.multidb.config import DatabaseConfig, MultiDbConfig
from redis.asyncio.multidb.healthcheck import PingHealthCheck
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from servers import Server, eventually
from walk import Make, Walk, agree

walk = Walk()


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_failing_over_and_back_is_as_with_redis_pys_pools(step, pools, server):
    await agree(step, pools, server)


@contextlib.asynccontextmanager
async def client_of(*pools: Any) -> AsyncIterator[MultiDBClient]:
    """Make a client that prefers the first pool, and is quick."""
    config = MultiDbConfig(
        [DatabaseConfig(from_pool=pool, weight=1 / n) for n, pool in enumerate(pools, 1)],
        command_retry=Retry(ConstantBackoff(0.01), 50),
        min_num_failures=2,
        health_checks=[PingHealthCheck(1, 0.01, 0.5)],
        health_check_interval=0.02,
        auto_fallback_interval=0.05,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is an experiment
        client = MultiDBClient(config)
    try:
        yield client
    finally:
        # Its aclose() lets the checks of health go on, or cuts them off while they connect.
        client._bg_scheduler.stop()
        await asyncio.gather(*client._hc_tasks, return_exceptions=True)
        await client.aclose()
        for pool in pools:
            await pool.aclose()


async def comes(client: MultiDBClient, place: bytes) -> list[Any]:
    """Wait until commands go there, and tell what else they do."""
    async with asyncio.timeout(10):
        while await client.get("place") != place:
            pass  # its health is not seen again yet
    pipe = client.pipeline()
    pipe.get("place").incr("number")

    async def double(pipe: Any) -> None:
        pipe.multi()
        pipe.incrby("number", 10)

    return [place, await pipe.execute(), await client.transaction(double, "number")]


@walk.feature
async def a_client_of_two_databases_moves_and_comes_back(make: Make):
    other = Server()
    try:
        near = make(port=other.port, host="127.0.0.1", max_connections=4)
        far = make(max_connections=4)
        other.run("SET", "place", "near")
        make.server.run("SET", "place", "far")
        async with client_of(near, far) as client:
            told = [await comes(client, b"near")]
            other.stop()
            told.append([await client.get("place")])  # with no error in between
            told.append(await comes(client, b"far"))
            other.start()
            other.run("SET", "place", "near")
            told.append(await comes(client, b"near"))
            await eventually(lambda: len(other.clients()) == 2, "it and its checks are connected")
    finally:
        other.destroy()
    assert [reply[0] for reply in told] == [b"near", b"far", b"far", b"near"]
    return told


@walk.feature
async def its_subscriptions_move_with_it(make: Make):
    other = Server()
    try:
        near, far = make(port=other.port, host="127.0.0.1"), make()
        async with (
            client_of(near, far) as client,
            await client.pubsub(ignore_subscribe_messages=True) as pubsub,
        ):
            await pubsub.subscribe("news")
            await eventually(lambda: other.run("PUBSUB", "NUMSUB", "news")[1], "it is subscribed")
            other.run("PUBLISH", "news", "near")

            async def next_message() -> bytes:
                async with asyncio.timeout(10):
                    while (message := await pubsub.get_message(timeout=0.02)) is None:
                        pass
                return message["data"]

            told = [await next_message()]
            other.stop()
            async with asyncio.timeout(2):
                await client.ping()
            listening = asyncio.create_task(next_message())
            await eventually(
                lambda: make.server.run("PUBSUB", "NUMSUB", "news")[1], "it is subscribed there"
            )
            make.server.run("PUBLISH", "news", "far")
            told.append(await listening)
    finally:
        other.destroy()
    assert told == [b"near", b"far"]
    return told
