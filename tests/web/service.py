"""A service with busy pools and the page that shows them, for the tests of the page; runs until it is ended.

Arguments: the URL of a Redis server, one of it with a wrong password, a port of the loopback, and a name.
"""

import asyncio
import sys

import uvicorn
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from starlette.applications import Starlette
from starlette.routing import Mount

from aiopool import RedisPool
from aiopool.integrations import debug


async def work(pool):
    """Do something all the time."""
    client = pool.client()
    while True:
        await client.incr("n")
        await asyncio.sleep(0.01)


async def hold(pool):
    """Have a connection for ever."""
    async with pool.connection(timeout=None):
        await asyncio.Future()


async def forget(pool):
    """Take a connection and end."""
    return await pool.acquire()


async def fail(pool):
    """Try to connect to where nobody is, once."""
    await asyncio.gather(pool.client().ping(), return_exceptions=True)


async def main(url, wrong_url, port, name):
    retry = Retry(NoBackoff(), 0)
    async with (
        RedisPool(url, max_size=4, leak_after=60) as busy,
        RedisPool(url, max_size=1, name="small") as small,
        RedisPool(wrong_url, name="refused-" * 40, timeout=1, retry=retry) as refused,
        RedisPool(url, max_size=2, name="leaky") as leaky,
    ):
        forgotten = await asyncio.create_task(forget(leaky), name="forgetful " * 20)
        tasks = [asyncio.create_task(work(busy), name=f"worker {n}") for n in range(2)]
        tasks += [asyncio.create_task(hold(busy), name=name)]
        tasks += [asyncio.create_task(hold(small), name=f"patient {n}") for n in range(60)]
        await fail(refused)
        app = Starlette(routes=[Mount("/debug/pool", debug.app(busy, small, refused, leaky))])
        await uvicorn.Server(
            uvicorn.Config(app, port=int(port), log_level="error", ws="none")
        ).serve()
        await leaky.release(forgotten)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
