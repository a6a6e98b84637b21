"""Every public call, for the type checkers: this file is checked, not run."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, assert_type

import redis.asyncio
import redis.asyncio.sentinel
from aiohttp import web
from fastapi import FastAPI
from redis.asyncio.connection import AbstractConnection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from aiopool import (
    Connector,
    Holder,
    Listener,
    NotLent,
    Pool,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolTimeout,
    RedisCluster,
    RedisPool,
    SentinelPool,
    Stats,
    TooManyWaiters,
    View,
    Waiting,
    WrongLoop,
)
from aiopool.integrations import aiohttp, debug, otel, prometheus, starlette


class Line:
    """Something to lend."""

    number: int = 0


class Lines:
    """A connector by shape alone."""

    async def open(self) -> Line:
        return Line()

    async def check(self, conn: Line, /) -> None:
        conn.number += 1

    def is_usable(self, conn: Line, /) -> bool:
        return conn.number >= 0

    def close(self, conn: Line, /) -> None:
        conn.number = -1


async def use_pool() -> None:
    connector: Connector[Line] = Lines()
    pool = Pool(
        connector,
        max_size=10,
        min_size=1,
        timeout=5.0,
        max_waiting=None,
        max_idle=300,
        max_lifetime=None,
        check_after=30.0,
        max_opening=4,
        leak_after=None,
        name="lines",
    )
    assert_type(pool, Pool[Line])
    async with pool as entered:
        assert_type(entered, Pool[Line])
        line = await pool.acquire()
        assert_type(line, Line)
        await pool.release(line)
        line = await pool.acquire(timeout=None)
        await pool.release(line)
        async with pool.connection(timeout=1) as lent:
            assert_type(lent, Line)
        assert_type(await pool.warm(3), int)
        pool.drain()
        pool.resize(max_size=20, min_size=0)
    await pool.open()
    await pool.aclose(timeout=1.5)


async def use_redis_pool() -> None:
    pool = RedisPool("redis://localhost", max_size=10, decode_responses=True)
    other = RedisPool.from_url("redis://localhost", max_connections=3)
    assert_type(other, RedisPool)
    async with pool as entered:
        assert_type(entered, RedisPool)
        conn = await pool.acquire(timeout=0.5)
        assert_type(conn, AbstractConnection)
        await pool.release(conn)
        async with pool.connection() as lent:
            assert_type(lent, AbstractConnection)
        client = pool.client()
        assert_type(client, redis.asyncio.Redis)
        redis.asyncio.Redis(connection_pool=pool)
        redis.asyncio.Redis.from_pool(pool)
        await pool.warm(3)
        pool.drain()
        pool.resize(max_size=5)
    await pool.aclose(timeout=None)


async def use_sentinel_pool() -> None:
    sentinel = redis.asyncio.sentinel.Sentinel([("localhost", 26379)])  # type: ignore[no-untyped-call]  # not typed
    pool = SentinelPool(
        "mymaster", sentinel, is_master=False, fall_back_to_master=False, max_size=3
    )
    async with pool as entered:
        assert_type(entered, SentinelPool)
        assert_type(pool.client(), redis.asyncio.Redis)
        assert_type(await pool.get_master_address(), tuple[str, int])
        async for address in pool.rotate_replicas():
            assert_type(address, tuple[str, int])
    assert_type(pool.shared("mymaster", sentinel, is_master=False), SentinelPool)


def look(pool: Pool[Line] | RedisPool) -> str:
    stats: Stats = pool.stats()
    holders: list[Holder] = pool.holders()
    return f"{pool.name}: {stats.size + stats.waiting} {stats.closed.get('max_idle', 0)} {holders}"


def report(pool: Pool[Line] | RedisPool, cluster: RedisCluster) -> list[Callable[[], None]]:
    reported = pool, pool.view(limit=1), cluster
    return [
        *(otel.instrument(each, None, tracer_provider=None) for each in reported),
        *(prometheus.register(each) for each in reported),
    ]


class Audit(Listener):
    """Hears of the lendings of one kind of pool."""

    def lent(self, pool: Pool[Line], conn: Line, waited: float, /) -> None:
        assert_type(pool.waiters(), list[Waiting])
        conn.number += round(waited)

    def timed_out(self, pool: Pool[Line], error: PoolTimeout, /) -> None:
        assert_type(error.stats, Stats)
        assert_type(error.holders, list[Holder])
        assert_type(error.blocked + error.waited, float)
        assert_type(pool.last_error, str | None)


async def look_on(pool: Pool[Line], redis_pool: RedisPool, cluster: RedisCluster) -> None:
    audit = Audit()
    offs = [pool.on(audit), redis_pool.on(audit), cluster.on(audit)]
    view = pool.view(limit=3, name="few")
    assert_type(view, View[Line])
    async with view.connection(timeout=1.0) as lent:
        assert_type(lent, Line)
    await view.release(await view.acquire())
    assert_type(view.stats(), Stats)
    assert_type(redis_pool.view(limit=3), RedisPool)
    for off in offs:
        off()


async def show(pool: Pool[Line], redis_pool: RedisPool, cluster: RedisCluster) -> None:
    few, shared = redis_pool.view(limit=3), redis_pool.pipelined()
    assert_type(debug.snapshot(pool, pool.view(limit=3), cluster), dict[str, Any])
    assert_type(debug.app(redis_pool, few, shared), Starlette)
    async with debug.serve(redis_pool, redis_pool.client(), path="/run/pool.sock") as nothing:
        assert_type(nothing, None)


LINES: web.AppKey[Pool[Line]] = web.AppKey("lines", Pool[Line])


def in_frameworks(pool: Pool[Line], redis_pool: RedisPool) -> list[Starlette | web.Application]:
    few = redis_pool.view(limit=3)
    assert_type(starlette.connection(pool, timeout=1.0), Callable[[], AsyncGenerator[Line]])
    assert_type(starlette.connection(pool.view(limit=3)), Callable[[], AsyncGenerator[Line]])
    assert_type(starlette.connection(few), Callable[[], AsyncGenerator[AbstractConnection]])
    apps: list[Starlette | web.Application] = [
        kind(
            lifespan=starlette.lifespan(pool, redis_pool, timeout=None),
            exception_handlers=starlette.exception_handlers,
        )
        for kind in (FastAPI, Starlette)
    ]
    app = web.Application(middlewares=[aiohttp.unavailable])
    app.cleanup_ctx.append(aiohttp.cleanup_ctx(redis_pool))
    app.cleanup_ctx.append(aiohttp.cleanup_ctx(pool, LINES, timeout=1.0))
    assert_type(app[aiohttp.POOL], RedisPool)
    assert_type(app[LINES], Pool[Line])
    return [*apps, app]


async def in_requests(request: Request, websocket: WebSocket, redis_pool: RedisPool) -> Response:
    assert_type(await starlette.client(redis_pool)(), redis.asyncio.Redis)
    assert_type(await starlette.unavailable(websocket, PoolTimeout()), None)
    return await starlette.unavailable(request, PoolTimeout())


def explain(error: PoolError) -> str:
    match error:
        case PoolDeadlock():
            return "nested"
        case PoolTimeout() | TooManyWaiters():
            return error.report()
        case PoolClosed() | NotLent() | WrongLoop():
            return "misused"
        case _:
            return "else"


if __name__ == "__main__":
    asyncio.run(use_pool())
