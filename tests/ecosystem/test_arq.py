"""arq: its client takes a pool, and its worker takes the client."""

import asyncio
from contextlib import asynccontextmanager
from itertools import count

import pytest
from arq import ArqRedis, Retry, Worker, cron, func
from arq.jobs import Job, JobStatus
from servers import PAUSE, Server, eventually
from traffic import MakePool, nobody_went_without, storm

from aiopool import RedisPool

pytestmark = pytest.mark.filterwarnings(
    "ignore:Call to deprecated close:DeprecationWarning"  # redis-py's, of how arq closes its client
)

# Worker and producers hold a connection for a command or a transaction only, so one would do.
LEAST = 1


@pytest.fixture(params=[LEAST, 3])
async def pool(request: pytest.FixtureRequest, make_pool: MakePool) -> RedisPool:
    return make_pool(max_size=request.param)


@pytest.fixture
async def arq(pool: RedisPool) -> ArqRedis:
    return ArqRedis(pool)


@asynccontextmanager
async def working(arq: ArqRedis, **options):
    worker = Worker(redis_pool=arq, handle_signals=False, poll_delay=0.01, **options)
    running = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        tasks = worker.tasks.values()
        await eventually(lambda: all(task.done() for task in tasks), "all jobs have ended")
        await worker.close()  # which also closes the client and the pool
        with pytest.raises(asyncio.CancelledError):
            await running


async def result_of(job: Job):
    """Wait for a job's result, and not with `job.result()`, which takes one done between two looks for lost."""
    while (told := await job.result_info()) is None:  # noqa: ASYNC110 - the library has no event
        await asyncio.sleep(PAUSE)
    return told.result


async def double(context, number: int) -> int:
    assert isinstance(context["redis"], ArqRedis)
    return number * 2


async def third_time_lucky(context) -> int:
    if context["job_try"] < 3:
        raise Retry(defer=0.01)
    return context["job_try"]


async def for_ever(_) -> None:
    await asyncio.Event().wait()


async def test_a_worker_runs_what_is_queued_and_what_failed_again(
    arq: ArqRedis, pool: RedisPool
) -> None:
    async with working(arq, functions=[double, third_time_lucky]) as worker:
        jobs = [await arq.enqueue_job("double", number) for number in range(20)]
        lucky = await arq.enqueue_job("third_time_lucky")
        assert await asyncio.gather(*map(result_of, jobs)) == [*range(0, 40, 2)]
        assert await result_of(lucky) == 3
    assert (worker.jobs_complete, worker.jobs_retried, worker.jobs_failed) == (21, 2, 0)
    assert nobody_went_without(pool)
    assert pool.stats().size == 0  # the worker has closed it


async def test_a_job_runs_at_its_times(arq: ArqRedis, pool: RedisPool) -> None:
    runs = count()

    async def tick(_) -> None:
        next(runs)

    jobs = [cron(tick, second=set(range(60)), microsecond=0)]
    async with working(arq, cron_jobs=jobs):
        await eventually(lambda: repr(runs) == "count(1)", "it has run at the next full second")
    assert nobody_went_without(pool)


async def test_a_running_job_can_be_cancelled_from_afar(arq: ArqRedis, pool: RedisPool) -> None:
    async with working(arq, functions=[for_ever], allow_abort_jobs=True) as worker:
        job = await arq.enqueue_job("for_ever")
        await eventually(lambda: worker.job_tasks, "it runs")
        assert await job.abort(timeout=5, poll_delay=0.01)
        assert await job.status() == JobStatus.complete
    assert nobody_went_without(pool)


async def test_producers_that_are_cancelled_cost_the_others_nothing(
    arq: ArqRedis, pool: RedisPool, server: Server
) -> None:
    async def produced(number: int) -> Job:
        return await arq.enqueue_job("double", number)

    jobs = await storm(produced)
    assert len(jobs) >= 160
    assert server.run("ZCARD", "arq:queue") >= len(jobs)
    async with working(arq, functions=[func(double, keep_result=60)], max_jobs=20):
        results = await asyncio.gather(*map(result_of, jobs))
    assert all(result % 2 == 0 for result in results)
    assert len(set(results)) == len(jobs)
    assert nobody_went_without(pool)
