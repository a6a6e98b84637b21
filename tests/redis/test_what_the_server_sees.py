"""CLIENT LIST, the server's own account of connections, against the pool's."""

import asyncio
import random

from redis.exceptions import RedisError
from servers import STRICT, eventually

from aiopool import RedisPool


async def test_the_server_sees_as_many_connections_as_stats_says(server, wire):
    async with RedisPool(server.url, max_size=6, **STRICT, **wire) as pool:
        client = pool.client()
        assert len(server.clients()) == pool.stats().size == 0
        assert await pool.warm(6) == 6
        waiting = [asyncio.create_task(client.blpop(["list"], timeout=60)) for _ in range(4)]

        def blocked() -> list[dict[str, str]]:
            return [client for client in server.clients() if "b" in client["flags"]]

        await eventually(lambda: len(blocked()) == 4, "four are blocked")
        stats = pool.stats()
        assert (stats.size, stats.lent, stats.idle, stats.waiting) == (6, 4, 2, 0)
        assert len(server.clients()) == 6
        await client.rpush("list", *range(4))
        await asyncio.gather(*waiting)
        stats = pool.stats()
        assert (stats.size, stats.lent, stats.idle) == (6, 0, 6)
        assert len(server.clients()) == 6
        assert not blocked()


async def test_closing_leaves_no_connection_on_the_server(server, wire):
    pool = RedisPool(server.url, **STRICT, **wire)
    await pool.warm(5)
    lent = await pool.acquire()
    assert len(server.clients()) == 5
    await pool.aclose(timeout=0)
    await eventually(lambda: not server.clients(), "all are closed, the lent one as well")
    await pool.release(lent)
    assert pool.stats().size == 0


async def test_draining_and_resizing_are_seen_by_the_server(server):
    async with RedisPool(server.url, max_size=8, **STRICT) as pool:
        await pool.warm(8)
        first = {client["id"] for client in server.clients()}
        pool.drain()
        await eventually(lambda: not server.clients(), "all are closed")
        await pool.warm(8)
        assert not first & {client["id"] for client in server.clients()}
        pool.resize(max_size=3)
        await eventually(lambda: len(server.clients()) == 3, "three are left")
        assert pool.max_connections == pool.stats().size == 3


async def test_disconnect_closes_idle_and_lent_connections_as_redis_pys_does(server):
    async with RedisPool(server.url, **STRICT) as pool:
        await pool.warm(3)
        conn = await pool.acquire()
        await pool.disconnect(inuse_connections=False)
        await eventually(lambda: len(server.clients()) == 1, "only the lent one is left")
        await pool.disconnect()
        await eventually(lambda: not server.clients(), "none is left")
        await pool.release(conn)
        assert await pool.client().ping()


async def test_under_load_and_cancellations_there_are_never_more_than_max_size(server, wire):
    dice = random.Random(1)
    most = 0

    async with RedisPool(
        server.url, max_size=8, max_opening=8, timeout=60, **STRICT, **wire
    ) as pool:
        client = pool.client()

        async def work(number: int) -> None:
            match number % 4:
                case 0:
                    assert await client.echo(str(number)) == str(number).encode()
                case 1:
                    async with client.pipeline() as pipe:
                        pipe.set(f"key{number}", number).get(f"key{number}")
                        assert (await pipe.execute())[1] == str(number).encode()
                case 2:
                    await client.blpop([f"list{number}"], timeout=0.01)
                case 3:
                    async with pool.connection() as conn:
                        await conn.send_command("ECHO", number)
                        await asyncio.sleep(0)  # the place to be cancelled with a reply unread
                        assert await conn.read_response() == str(number).encode()

        tasks = [asyncio.create_task(work(number)) for number in range(300)]
        while not all(task.done() for task in tasks):
            for task in dice.sample(tasks, 5):
                task.cancel()
            # In this thread, so everything that the pool has closed is closed for the server too.
            most = max(most, len(server.clients()))
            assert pool.stats().size <= 8
            await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        wrong = [r for r in results if isinstance(r, (RedisError, AssertionError))]
        assert not wrong
        assert any(isinstance(r, asyncio.CancelledError) for r in results)
        assert 1 <= most <= 8
        stats = pool.stats()
        assert (stats.lent, stats.waiting) == (0, 0)
        await eventually(lambda: pool.stats().opening == 0, "no more opening is under way")
        await eventually(
            lambda: len(server.clients()) == pool.stats().size == pool.stats().idle,
            lambda: f"{len(server.clients())} connections are {pool.stats()}",
        )
        assert await asyncio.gather(*(client.echo("mine") for _ in range(50))) == [b"mine"] * 50
