"""What `aclose()` closes under its holder, redis-py connects again by itself if it is used again."""

import asyncio
import contextlib

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from servers import eventually

from aiopool import RedisPool


async def test_a_holder_that_goes_on_after_the_closing_leaves_no_connection_behind(server):
    pool = RedisPool(server.url)
    async with pool.connection() as conn:
        await pool.aclose(timeout=0)
        with contextlib.suppress(RedisError):
            await conn.send_command("PING")
            await conn.read_response()
    await eventually(lambda: not server.clients(), "its connection is closed", within=2)
    assert pool.stats().size == 0


async def test_a_command_that_is_tried_again_after_the_closing_leaves_no_connection_behind(server):
    pool = RedisPool(server.url, retry=Retry(NoBackoff(), 3))
    blocked = asyncio.create_task(pool.client().blpop(["list"], timeout=0.3))
    await eventually(
        lambda: any("b" in peer["flags"] for peer in server.clients()), "it is blocked"
    )
    await pool.aclose(timeout=0)
    with contextlib.suppress(RedisError):
        await blocked
    await eventually(lambda: not server.clients(), "its connection is closed", within=2)
    assert pool.stats().size == 0
