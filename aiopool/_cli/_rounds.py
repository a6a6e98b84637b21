"""All sizes in turn, again and again: what else a machine does meanwhile hits them all alike."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ._load import Load, measure
from ._measurement import Measurement
from ._report import server_version
from ._requests import LIFETIME, Requests, TimedPool
from ._url import reading_url


class Show(Protocol):
    """Is told what comes next."""

    def __call__(self, size: int, number: int, /) -> None:
        """Show that this size is measured now, in the round of this number, from 0."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured, and where."""

    address: str
    server: str
    measurements: Sequence[Measurement]


async def measure_all(
    url: str, sizes: Sequence[int], rounds: int, load: Load, show: Show
) -> Outcome:
    """Measure every size once in each round, and leave the server as it was.

    Raises:
        BadUrl: redis-py does not take the URL.
        RedisError: The server can't be used, or went away.
        CannotMeasure: At one of the sizes, it can't be done.

    """
    value = "x" * load.value_size
    measurements: list[Measurement] = []
    keeper = _make_pool(url, 1, min_size=1)
    async with keeper, _guest(keeper.client()) as key:
        for number in range(rounds):
            # To and fro, so that no size always comes after the same one.
            for size in sizes if number % 2 == 0 else reversed(sizes):
                show(size, number)
                await keeper.client().set(key, value, ex=LIFETIME)
                pool = _make_pool(url, size)
                requests = Requests(pool, key, value, load.slow)
                measurements.append(await measure(pool, load, requests))
        server = await server_version(keeper.client())
    return Outcome(str(keeper.name), server, measurements)


def _make_pool(url: str, size: int, min_size: int = 0) -> TimedPool:
    with reading_url():
        return TimedPool(
            url,
            max_size=size,
            min_size=min_size,
            client_name="aiopool-bench",
            retry=Retry(NoBackoff(), 0),  # else a failure would be a long request
        )


@asynccontextmanager
async def _guest(client: Redis) -> AsyncGenerator[str]:
    """Give the one key of this run, which nobody else uses; at the end it is deleted."""
    key = f"aiopool-bench-{token_hex(6)}"
    try:
        yield key
    finally:
        with suppress(RedisError):  # of a server that is gone, the block has told, if it matters
            await client.delete(key)
