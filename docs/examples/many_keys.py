"""Do something with each of very many keys: so many at a time, and once.

`fill` makes items, `walk` works out the total of each that has none yet, `clear` removes them. REDIS_URL
says where Redis is.
"""

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from aiopool import RedisPool

KINDS = ["book", "lamp", "chair"]
PAGE = 1000  # keys that are asked for, or written, at once


async def fill(redis: Redis, number: int) -> None:
    """Make so many items; one of 10,000 is broken."""
    for first in range(0, number, PAGE):
        pipeline = redis.pipeline(transaction=False)
        for n in range(first, min(first + PAGE, number)):
            price = "for sale" if n % 10_000 == 0 else f"{n % 97}.50"
            item = {"kind": KINDS[n % len(KINDS)], "price": price, "stock": n % 7}
            pipeline.hset(f"item:{n:06}", mapping=item)
        await pipeline.execute()
    print(f"{number:,} items are there")


async def clear(redis: Redis) -> None:
    """Remove all items."""
    removed = 0
    async for keys in pages(redis):
        removed += await redis.unlink(*keys)
    print(f"{removed:,} items were removed")


async def pages(redis: Redis) -> AsyncIterator[list[str]]:
    """Find all items, some hundred at a time; some may come twice, if others are added meanwhile."""
    cursor = 0
    while True:
        cursor, keys = await redis.scan(cursor, match="item:*", count=PAGE)
        if keys:
            yield keys
        if cursor == 0:
            return


class Walk:
    """What is to be done with each key, and what has become of it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.seen = 0
        self.before = 0  # had a total already
        self.done: Counter[str] = Counter()  # by kind
        self.failed: dict[str, Exception] = {}

    async def through(self, keys: list[str], workers: int) -> None:
        """Go through these keys, so many at a time."""
        each = iter(keys)  # the workers share it: each takes the next
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(workers):
                    tasks.create_task(self._work(each))
        except ExceptionGroup as group:  # Redis is gone, as one of them can tell
            raise group.exceptions[0] from None

    async def _work(self, keys: Iterator[str]) -> None:
        for key in keys:
            try:
                await self._work_out(key)
            except (ResponseError, ValueError, TypeError, OverflowError) as error:
                self.failed[key] = error  # it is this key's; others end the walk
            self.seen += 1

    async def _work_out(self, key: str) -> None:
        kind, price, stock, total = await self._redis.hmget(key, "kind", "price", "stock", "total")
        if total is not None:
            self.before += 1
        # HSETNX: a key that has come twice is done once.
        elif await self._redis.hsetnx(key, "total", f"{float(price) * int(stock):.2f}"):
            self.done[kind or "(none)"] += 1

    def report(self) -> str:
        """Tell what has become of all keys."""
        lines = [
            f"{self.done.total():,} done, {self.before:,} done before, {len(self.failed):,} failed"
        ]
        lines += [f"  {kind:<6} {number:>7,}" for kind, number in sorted(self.done.items())]
        lines += [f"  {key}: {error}" for key, error in list(self.failed.items())[:5]]
        return "\n".join(lines)


@contextmanager
def progress(expected: int) -> Iterator[Callable[[int], None]]:
    """Show how far it is: by a bar in a terminal, elsewhere by a line for each tenth."""
    console = Console()
    if console.is_terminal:
        columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=expected)
            yield lambda seen: bar.update(task, completed=seen)
    else:
        told = 0

        def tell(seen: int) -> None:
            nonlocal told
            if (tenths := seen * 10 // max(expected, 1)) > told:
                told = tenths
                print(f"{seen:,} of {expected:,}", flush=True)

        yield tell


async def walk(pool: RedisPool, workers: int, *, pipelined: bool) -> None:
    """Go through all items, and tell what became of them, also if that ends too early."""
    redis = pool.pipelined() if pipelined else pool.client()
    walk, expected, began = Walk(redis), await redis.dbsize(), time.perf_counter()
    try:
        with progress(expected) as show:
            async for keys in pages(redis):
                await walk.through(keys, workers)
                show(walk.seen)
    finally:
        print(walk.report())
        took = time.perf_counter() - began
        print(f"{walk.seen:,} of {expected:,} keys in {took:.1f} s")
        print(f"connections opened: {pool.stats().opened}")


async def main(options: argparse.Namespace) -> None:
    """Do what is asked for."""
    url = os.environ.get("REDIS_URL", "redis://localhost:6379")
    # What is no UTF-8 stays as it is: a key goes back as it came.
    text = {"decode_responses": True, "encoding_errors": "surrogateescape"}
    async with RedisPool(url, max_size=options.connections, **text) as pool:
        match options.what:
            case "fill":
                await fill(pool.client(), options.keys)
            case "walk":
                await walk(pool, options.workers, pipelined=options.pipelined)
            case "clear":
                await clear(pool.client())


def positive(text: str) -> int:
    """Read a number that is at least 1."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fill", "walk", "clear"])
    parser.add_argument("--keys", type=positive, default=100_000, help="how many to make")
    parser.add_argument("--workers", type=positive, default=100, help="how many keys at a time")
    parser.add_argument("--connections", type=positive, default=10, help="at most")
    parser.add_argument("--pipelined", action="store_true", help="let the workers share one")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # for keys that are no text
    try:
        asyncio.run(main(options))
    except KeyboardInterrupt:
        sys.exit("interrupted: the next walk goes on from here")
    except RedisError as error:
        sys.exit(f"stopped: {error}")
