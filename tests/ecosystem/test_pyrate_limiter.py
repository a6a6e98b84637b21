"""pyrate-limiter: its bucket takes a client, and fastapi-limiter takes the limiter made of it."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from fastapi import Depends, FastAPI
from fastapi_limiter.depends import RateLimiter
from pyrate_limiter import Duration, Limiter, Rate, RedisBucket
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool


# It holds no connection between commands, so one will do.
@pytest.fixture(params=[1, 2])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


@pytest.fixture
async def bucket(pool: RedisPool) -> RedisBucket:
    return await RedisBucket.init([Rate(37, Duration.HOUR)], pool.client(), "bucket")


@asynccontextmanager
async def limiting(bucket: RedisBucket):
    with Limiter(bucket) as limiter:
        yield limiter
        limiter.dispose(bucket)  # at once; else its background task ends within ten seconds


async def test_of_many_at_once_exactly_as_many_pass_as_may(
    bucket: RedisBucket, pool: RedisPool
) -> None:
    async with limiting(bucket) as limiter:
        passed = await asyncio.gather(
            *(limiter.try_acquire_async("user", blocking=False) for _ in range(200))
        )
    assert sum(passed) == 37
    assert await bucket.count() == 37
    assert nobody_went_without(pool)


async def test_who_has_to_wait_passes_when_there_is_room(pool: RedisPool) -> None:
    bucket = await RedisBucket.init([Rate(5, 200)], pool.client(), "bucket")
    async with limiting(bucket) as limiter:
        begun = time.monotonic()
        assert all([await limiter.try_acquire_async("user") for _ in range(6)])
        assert time.monotonic() - begun > 0.15
    assert nobody_went_without(pool)


async def test_who_is_cancelled_costs_the_others_nothing(
    bucket: RedisBucket, pool: RedisPool
) -> None:
    async with limiting(bucket) as limiter:
        passed = await storm(lambda _: limiter.try_acquire_async("user", blocking=False))
    # What a cancelled task has asked for may have been counted all the same.
    assert 36 <= sum(passed) <= 37
    assert await bucket.count() == 37
    assert nobody_went_without(pool)


async def test_fastapi_limiter_turns_away_requests(bucket: RedisBucket, pool: RedisPool) -> None:
    app = FastAPI()

    async def answered() -> int:
        """Make a request and give the status."""
        told: list[dict] = []
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
        }

        async def receive():
            return {"type": "http.request"}

        async def send(message):
            told.append(message)

        await app(scope, receive, send)
        return told[0]["status"]

    async with limiting(bucket) as limiter:

        @app.get("/", dependencies=[Depends(RateLimiter(limiter=limiter))])
        async def root() -> str:
            return "hello"

        statuses = await asyncio.gather(*(answered() for _ in range(60)))
    assert (statuses.count(200), statuses.count(429)) == (37, 23)
    assert nobody_went_without(pool)
