"""The load: many tasks that share a pool of one size, and what that comes to."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from statistics import fmean
from time import perf_counter, thread_time

from aiopool import PoolClosed

from ._measurement import Measurement, percentile
from ._requests import Requests, TimedPool

_PAUSE = 0.01  # after a failure: what is in trouble is not to be hammered


class CannotMeasure(Exception):
    """A size that can't be loaded, or at which not one request succeeds."""


@dataclass(frozen=True, slots=True)
class Load:
    """What every size has to bear. All durations are seconds."""

    tasks: int
    """How many make requests, one after the other each."""
    mix: Mapping[str, int]
    """What the requests are, by kind, in which proportions."""
    value_size: int
    """How many bytes are written and read."""
    slow: float
    """For how much longer a slow request keeps its connection."""
    think: float
    """For how long a task needs no connection between two requests, on average."""
    seconds: float
    """For how long a size is measured in each round."""


async def measure(pool: TimedPool, load: Load, requests: Requests) -> Measurement:
    """Measure the size of this pool, and close it.

    Raises:
        RedisError: No connection can be opened.
        CannotMeasure: Not all connections can be opened, or not one request succeeded.

    """
    size = pool.max_connections
    crowd = _Crowd(load, requests)
    async with pool:
        if (opened := await pool.warm(size)) < size:
            msg = f"the server gave {opened} of the {size} connections that --sizes asks for"
            raise CannotMeasure(msg)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(crowd.serve()) for _ in range(load.tasks)]
            try:
                measurement = await _measure(pool, load, crowd)
            finally:
                # Sends away those in line and lets the others finish, so that no command is under
                # way when the key is deleted.
                await pool.aclose()
                for task in tasks:
                    task.cancel()
    if measurement is None:
        msg = f"no request finished within --seconds {load.seconds:g}; give it more"
        if crowd.last_error is not None:
            msg = f"no request succeeded with max_size={size}: {crowd.last_error}"
        raise CannotMeasure(msg)
    return measurement


async def _measure(pool: TimedPool, load: Load, crowd: "_Crowd") -> Measurement | None:
    # From then on the line is as long as it will be. Without that, a second of measuring could not
    # show a wait of two.
    await crowd.steady.wait()
    pool.waits.clear()
    crowd.took.clear()
    crowd.errors.clear()
    began, computed = perf_counter(), thread_time()
    used, queued = _used(pool), pool.stats().wait_seconds
    await asyncio.sleep(load.seconds)
    seconds, computed = perf_counter() - began, thread_time() - computed
    used, queued = _used(pool) - used, pool.stats().wait_seconds - queued
    waits, took = sorted(pool.waits), sorted(crowd.took)
    if not (waits and took):
        return None
    return Measurement(
        size=pool.max_connections,
        seconds=seconds,
        finished=len(took),
        wait_mean=fmean(waits),
        wait_p50=percentile(waits, 50),
        wait_p99=percentile(waits, 99),
        request_mean=fmean(took),
        request_p50=percentile(took, 50),
        request_p99=percentile(took, 99),
        in_use=used / seconds,
        in_line=queued / seconds,
        busy=computed / seconds,
        errors=dict(crowd.errors),
    )


def _used(pool: TimedPool) -> float:
    """Add up for how long connections were lent, with those that are."""
    return pool.stats().use_seconds + sum(holder.age for holder in pool.holders())


class _Crowd:
    """What the tasks do, and what becomes of it."""

    def __init__(self, load: Load, requests: Requests) -> None:
        self._load = load
        self._kinds = [getattr(requests, kind) for kind in load.mix]
        self._weights = [*load.mix.values()]
        self._random = Random(1)  # noqa: S311 - all sizes shall get the same requests
        self._served = 0
        self.steady = asyncio.Event()
        """Set once every task has had its first request served."""
        self.took: list[float] = []
        """How long each request took that succeeded."""
        self.errors: Counter[str] = Counter()
        """How many failed, by class of error."""
        self.last_error: Exception | None = None

    async def serve(self) -> None:
        """Be one task: make requests until the pool is closed."""
        with suppress(PoolClosed):
            await self._request()
            self._served += 1
            if self._served == self._load.tasks:
                self.steady.set()
            while True:
                await self._request()

    async def _request(self) -> None:
        if self._load.think:
            # Not the same for all, else they would come in step.
            await asyncio.sleep(self._random.uniform(0, 2 * self._load.think))
        (request,) = self._random.choices(self._kinds, self._weights)
        began = perf_counter()
        try:
            await request()
        except PoolClosed:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the report shall tell
            self.errors[type(error).__name__] += 1
            self.last_error = error
            await asyncio.sleep(_PAUSE)
        else:
            self.took.append(perf_counter() - began)
