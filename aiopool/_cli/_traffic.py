"""The web application: lets the requests arrive and notes what becomes of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import cast

from redis.asyncio.connection import AbstractConnection

from aiopool import PoolTimeout, RedisPool

from ._book import Book
from ._names import LIFETIME
from ._plan import Arrival

_PATIENCE = 10.0  # for the last requests; each waits far shorter for its connection


class Traffic:
    """The requests of one run."""

    def __init__(self, pool: RedisPool, book: Book) -> None:
        self._pool = pool
        self._client = pool.client()
        self._book = book
        self._tasks: list[asyncio.Task[None]] = []
        self._ways = {
            "connection": self._by_connection,
            "client": self._by_client,
            "pipeline": self._by_pipeline,
        }
        self.ends: Counter[str] = Counter()
        """How many requests ended in each way."""
        self.errors: Counter[str] = Counter()
        """The errors of those that failed, by class."""
        self.waits: list[float] = []
        """How long each `pool.connection()` took until it had lent one."""
        self.hung = 0
        """Requests that came to no end."""

    @property
    def arrived(self) -> int:
        """How many requests there were so far."""
        return len(self._tasks)

    async def play(self, arrivals: Sequence[Arrival]) -> None:
        """Let all arrive at their time; returns when they have come to an end."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            for arrival in arrivals:
                await asyncio.sleep(start + arrival.at - loop.time())
                task = loop.create_task(self._serve(self.arrived, arrival))
                self._tasks.append(task)
                if arrival.cancel_after is not None:
                    loop.call_later(arrival.cancel_after, task.cancel)
            if self._tasks:
                _, hanging = await asyncio.wait(self._tasks, timeout=_PATIENCE)
                self.hung = len(hanging)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, request: int, arrival: Arrival) -> None:
        try:
            await self._ways[arrival.way](request, arrival)
        except asyncio.CancelledError:
            self.ends["cancelled"] += 1
            raise
        except PoolTimeout:
            # If it was for the increment: without a connection it was not sent.
            self._book.asked.discard(request)
            self.ends["timed_out"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the report shall tell
            self.ends["failed"] += 1
            self.errors[type(error).__name__] += 1
        else:
            self.ends["finished"] += 1

    async def _by_connection(self, request: int, arrival: Arrival) -> None:
        """Keep one connection for the whole request, which has a slow command."""
        book, names = self._book, self._book.names
        asked_at = asyncio.get_running_loop().time()
        async with self._pool.connection() as conn:
            self.waits.append(asyncio.get_running_loop().time() - asked_at)
            set_token = ("SET", names.key(request), names.token(request), "EX", LIFETIME)
            book.set_answered(request, await _ask(conn, *set_token))
            book.asked.add(request)
            book.incr_answered(request, await _ask(conn, "INCR", names.counter))
            # The list never gets an element: a command that takes its time and is answered by nil.
            book.blpop_answered(request, await _ask(conn, "BLPOP", names.never, arrival.slow))
            book.get_answered(request, await _ask(conn, "GET", names.key(request)))

    async def _by_client(self, request: int, _arrival: Arrival) -> None:
        """Let redis-py's client lend a connection for each command."""
        book, names, client = self._book, self._book.names, self._client
        reply = await client.set(names.key(request), names.token(request), ex=LIFETIME)
        book.set_answered(request, reply)
        book.asked.add(request)
        book.incr_answered(request, await client.incr(names.counter))
        book.get_answered(request, await client.get(names.key(request)))

    async def _by_pipeline(self, request: int, _arrival: Arrival) -> None:
        """Send all commands at once."""
        book, names = self._book, self._book.names
        async with self._client.pipeline() as pipeline:
            pipeline.set(names.key(request), names.token(request), ex=LIFETIME)
            pipeline.incr(names.counter)
            pipeline.get(names.key(request))
            book.asked.add(request)
            stored, count, token = await pipeline.execute()
        book.set_answered(request, stored)
        book.incr_answered(request, count)
        book.get_answered(request, token)


async def _ask(conn: AbstractConnection, *command: str | float) -> object:
    await conn.send_command(*command)
    return cast("object", await conn.read_response())
