"""A queue that loses no job: one that is taken moves to another list, and leaves that when it is done.

Whoever takes a job has it for a time, its lease. If it is not done by then its worker is no more, and it
goes back into the queue. So it may happen that a job is done twice, but not that it is never done.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import uuid4

from redis.asyncio import Redis

WAITING, TAKEN = "jobs", "jobs:taken"
LEASE = 10.0  # seconds, of which the job itself may take half
KEPT = 24 * 3600  # seconds for which one can look at the result

# Only who takes it off the one list puts it into the other, at the end that is next.
PUT_BACK = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) > 0 then redis.call('RPUSH', KEYS[2], ARGV[1]) end
"""

logger = logging.getLogger(__name__)


class Jobs:
    """The queue, and what its workers do."""

    def __init__(
        self, redis: Redis, reader: Redis, do: Callable[[str], Awaitable[str]], lease: float = LEASE
    ) -> None:
        self._redis = redis
        self._reader = (
            reader  # of a view: each worker has one of its connections nearly all the time
        )
        self._do = do
        self._lease = lease
        self._put_back = redis.register_script(PUT_BACK)
        self._suspects: set[str] = set()

    async def push(self, text: str) -> str:
        """Add a job, and give its name."""
        job = uuid4().hex
        async with self._redis.pipeline() as transaction:
            transaction.hset(f"job:{job}", mapping={"state": "queued", "text": text})
            transaction.expire(f"job:{job}", KEPT)
            transaction.lpush(WAITING, job)
            await transaction.execute()
        return job

    async def find(self, job: str) -> dict[str, str]:
        """Give what is known of it; nothing, if there is no such job."""
        return await self._redis.hgetall(f"job:{job}")

    async def work(self) -> None:
        """Do a job, if one comes within a second.

        Don't cancel it while it waits: the server may be about to hand over a job. It would be done when
        its lease is over.
        """
        if job := await self._reader.blmove(WAITING, TAKEN, 1, "RIGHT", "LEFT"):
            try:
                await self._redis.set(f"lease:{job}", "", px=int(1000 * self._lease))
                await self._finish(job, await self._outcome(job))
            except asyncio.CancelledError:  # the service ends, and does not wait any longer
                await self._put_back(keys=[TAKEN, WAITING], args=[job])
                raise

    async def _outcome(self, job: str) -> dict[str, str]:
        text = await self._redis.hget(f"job:{job}", "text")
        try:
            async with asyncio.timeout(self._lease / 2):
                return {"state": "done", "result": await self._do(text)}
        except Exception:
            logger.exception("job %s", job)
            return {"state": "failed"}  # why is not for everybody

    async def _finish(self, job: str, outcome: dict[str, str]) -> None:
        async with self._redis.pipeline() as transaction:
            transaction.hset(f"job:{job}", mapping=outcome)
            transaction.expire(f"job:{job}", KEPT)
            transaction.lrem(TAKEN, 1, job)
            transaction.delete(f"lease:{job}")
            await transaction.execute()

    async def put_back_the_lost(self) -> None:
        """Look for jobs without a lease; what had none a second ago either has no worker any more."""
        without = {
            job
            for job in await self._redis.lrange(TAKEN, 0, -1)
            if not await self._redis.exists(f"lease:{job}")
        }
        for job in without & self._suspects:
            await self._put_back(keys=[TAKEN, WAITING], args=[job])
        self._suspects = without - self._suspects
        await asyncio.sleep(1)
