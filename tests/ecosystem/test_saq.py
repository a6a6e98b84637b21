"""saq: its queue takes a client."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from saq import CronJob, Job, Queue, Status, Worker
from saq.queue.redis import RedisQueue
from servers import PAUSE, Server, eventually
from traffic import MakePool, nobody_went_without, storm

from aiopool import PoolTimeout, RedisPool

pytestmark = pytest.mark.filterwarnings(
    "ignore:Call to deprecated setex:DeprecationWarning"  # redis-py's, of a command that saq sends
)

CONCURRENCY = 2
# Each of the worker's tasks holds a connection while it waits for a job, whoever waits for results another one.
LEAST = CONCURRENCY + 2


@pytest.fixture
async def pool(make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=LEAST)


async def double(_, *, number: int) -> int:
    return number * 2


async def third_time_lucky(context) -> int:
    if context["job"].attempts < 3:
        raise ValueError(context["job"].attempts)
    return context["job"].attempts


async def tick(_) -> str:
    return "tick"


@asynccontextmanager
async def queue_on(pool: RedisPool):
    queue = RedisQueue(pool.client())
    yield queue
    await queue.disconnect()
    await queue._pubsub.pubsub.aclose()  # which saq forgets to do


@pytest.fixture
async def queue(pool: RedisPool):
    async with queue_on(pool) as queue:
        yield queue


@asynccontextmanager
async def working(queue: Queue, server: Server, **options):
    worker = Worker(queue, [double, third_time_lucky], concurrency=CONCURRENCY, **options)
    running = asyncio.create_task(worker.start())
    # Its first sweep may take a job that was begun meanwhile for one that has been left.
    await eventually(lambda: server.run("EXISTS", "saq:default:sweep"), "it has swept")
    try:
        yield worker
    finally:
        running.cancel()  # of which it makes a shutdown
        await running


async def test_a_worker_runs_what_is_queued_and_what_failed_again(
    queue: RedisQueue, pool: RedisPool, server: Server
) -> None:
    async with working(queue, server):
        numbers = [{"number": number} for number in range(20)]
        assert await queue.map("double", numbers) == [*range(0, 40, 2)]
        assert await queue.apply("third_time_lucky", retries=3) == 3
    assert nobody_went_without(pool)


async def test_a_job_runs_at_its_times_and_another_at_the_time_it_was_put_off_to(
    queue: RedisQueue, pool: RedisPool, server: Server
) -> None:
    cron = CronJob(tick, cron="* * * * * *", unique=True)
    async with working(queue, server, cron_jobs=[cron]):
        assert await queue.apply("double", number=3, scheduled=int(time.time()) + 1) == 6
        while (job := await queue.job("cron:tick")) is None or job.status != Status.COMPLETE:  # noqa: ASYNC110 - it is there before it is done
            await asyncio.sleep(PAUSE)
        assert job.result == "tick"
    assert nobody_went_without(pool)


async def test_producers_that_are_cancelled_cost_the_others_nothing(
    queue: RedisQueue, pool: RedisPool, server: Server
) -> None:
    async def produced(number: int) -> Job:
        return await queue.enqueue("double", number=number)

    async with working(queue, server):
        jobs = await storm(produced)
        assert len(jobs) >= 160
        await asyncio.gather(*(job.refresh(until_complete=5) for job in jobs))
    assert all(job.result == job.kwargs["number"] * 2 for job in jobs)
    assert nobody_went_without(pool)


async def test_with_no_more_connections_than_wait_for_jobs_none_comes(
    make_pool: MakePool, server: Server
) -> None:
    pool = make_pool(max_size=CONCURRENCY, timeout=0.05)
    async with queue_on(pool) as queue, working(queue, server):
        await eventually(lambda: pool.stats().lent == CONCURRENCY, "all wait for jobs")
        with pytest.raises(PoolTimeout, match="size=2/2, idle=0, lent=2"):
            await queue.enqueue("double", number=1)
