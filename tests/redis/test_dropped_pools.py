"""A pool that is dropped without being closed is collected, and its connections with it."""

import asyncio
import gc
import warnings
import weakref

from servers import STRICT, Server, eventually

from aiopool import RedisPool


async def test_a_dropped_pool_is_collected_although_somebody_has_waited(server: Server, wire):
    pool = RedisPool(server.url, max_size=1, timeout=60, **STRICT, **wire)
    conn = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    await pool.release(conn)
    await pool.release(await waiting)
    await asyncio.sleep(0)
    gone = weakref.ref(pool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # redis-py's, of an open connection
        del pool, waiting, conn
        gc.collect()
    assert gone() is None
    await eventually(lambda: not server.clients(), "its connection is closed")
