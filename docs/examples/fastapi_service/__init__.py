"""A web service on one pool: a cache, a rate limiter, events for browsers, and a queue with workers.

::

    REDIS_URL=redis://localhost:6379 uvicorn fastapi_service:app --timeout-graceful-shutdown 10
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException, Response
from fastapi.responses import StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from aiopool import RedisPool
from aiopool.integrations import debug, prometheus, starlette

from .cache import Cache
from .events import Events
from .jobs import LEASE, Jobs
from .limiter import Limiter
from .outage import Deadline, handlers
from .stopping import repeat, told_at_once

GRACE = 5.0  # seconds that jobs may still take when the service ends
DEADLINE = 5.0  # seconds within which an answer has to begin


def create_app(  # noqa: C901 - so many paths does it have
    pool: RedisPool,
    redis: Redis | None = None,
    *,
    allowed: int = 20,
    streams: int = 8,
    workers: int = 2,
    lease: float = LEASE,
) -> FastAPI:
    """Make the service.

    Args:
        pool: Of text (`decode_responses=True`), with more connections than streams and workers.
        redis: What sends short commands, if not `pool.client()`.
        allowed: How many items a client may ask for within ten seconds.
        streams: How many streams of events there may be at once.
        workers: How many jobs are done at once; with 0 all are left to other processes.
        lease: Seconds after which a job that was taken is another's.

    """
    redis = redis or pool.client()
    views = [
        pool.view(limit=streams, name="streams"),
        pool.view(limit=max(workers, 1), name="workers"),
    ]
    registry = CollectorRegistry()
    asked = Counter("origin_requests", "Items that the origin was asked for.", registry=registry)
    for each in (pool, *views):
        prometheus.register(each, registry)

    async def origin(name: str) -> str:
        asked.inc()
        await asyncio.sleep(0.5)  # a database, say
        return json.dumps({"name": name, "length": len(name)})

    async def count_words(text: str) -> str:
        await asyncio.sleep(0.2)  # hard work
        return f"{len(text.split())} words"

    cache = Cache(redis, origin)
    events = Events(views[0].client())
    jobs = Jobs(redis, views[1].client(), count_words, lease)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        stopping = events.stopping = asyncio.Event()  # of this event loop; tests may have several
        steps = [*[jobs.work] * workers, jobs.put_back_the_lost]
        async with starlette.lifespan(pool, timeout=1.0)(app):
            with told_at_once(stopping):
                tasks = [asyncio.create_task(repeat(step, stopping)) for step in steps]
                tasks.append(asyncio.create_task(events.end()))
                yield
            stopping.set()  # if it was not a signal
            await asyncio.wait(tasks, timeout=GRACE)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)  # for jobs to be put back, if Redis answers

    app = FastAPI(lifespan=lifespan, exception_handlers=handlers)
    app.add_middleware(Deadline, seconds=DEADLINE)

    @app.get("/items/{name}", dependencies=[Depends(Limiter(redis, allowed))])
    async def item(name: str) -> Response:
        return Response(await cache.get(name), media_type="application/json")

    @app.get("/events/{channel}")  # noqa: FAST003 - the dependency takes it
    async def listen(pubsub: Annotated[PubSub, Depends(events.subscribed)]) -> StreamingResponse:
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(events.stream(pubsub), 200, headers, "text/event-stream")

    @app.post("/events/{channel}")
    async def publish(channel: str, text: Annotated[str, Body(embed=True)]) -> dict[str, int]:
        return {"listeners": await redis.publish(channel, json.dumps({"text": text}))}

    @app.post("/jobs", status_code=202)
    async def push(text: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        return {"job": await jobs.push(text)}

    @app.get("/jobs/{job}")
    async def look(job: str) -> dict[str, str]:
        if found := await jobs.find(job):
            return found
        raise HTTPException(404, "no such job")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app.mount("/debug/pool", debug.app(pool, *views))
    return app


app = create_app(
    RedisPool(
        os.environ.get("REDIS_URL", "redis://localhost:6379"),
        max_size=20,
        timeout=1.0,
        socket_timeout=2.0,  # more than workers wait for a job
        socket_connect_timeout=0.5,
        decode_responses=True,
    )
)
