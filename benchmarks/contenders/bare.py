"""The floor: one connection, asyncio's `Protocol`, hiredis and a deque of futures.

It has no pool, no timeouts, no retries and does not reconnect: less can hardly be done in Python.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast

from benchmarks.contender import Client, Contender, Place


class _Bare(asyncio.Protocol):
    """Sends what many tasks ask for in one write, and gives each its replies."""

    def __init__(self) -> None:
        hiredis: Any = import_module("hiredis")  # it need not be installed
        self._loop = asyncio.get_running_loop()
        self._pack = hiredis.pack_command
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[object]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is of no such class

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future = self._waiting.popleft()
            if future.done():  # whoever asked was cancelled
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def ask(self, *words: str | bytes | int) -> asyncio.Future[object]:
        """Send a command, with all others of this turn of the loop unless it is the only one."""
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(self._pack(words))
        future: asyncio.Future[object] = self._loop.create_future()
        self._waiting.append(future)
        return future

    def _send(self) -> None:
        self._transport.write(b"".join(self._unsent))
        self._unsent.clear()


@asynccontextmanager
async def _client(place: Place) -> AsyncGenerator[Client]:
    transport, bare = await asyncio.get_running_loop().create_connection(_Bare, *place.address)

    def get(key: str) -> asyncio.Future[object]:
        return bare.ask("GET", key)

    def set_(key: str, value: bytes) -> asyncio.Future[object]:
        return bare.ask("SET", key, value)

    async def pipeline(key: str, times: int) -> None:
        for future in [bare.ask("GET", key) for _ in range(times)]:
            await future

    async def transaction(key: str) -> None:
        bare.ask("MULTI")
        bare.ask("INCR", key)
        bare.ask("EXPIRE", key, 60)
        await bare.ask("EXEC")

    try:
        yield Client(get, set_, pipeline, transaction)
    finally:
        transport.close()


BARE = Contender("asyncio + hiredis", package="hiredis", client=_client, needs=("hiredis",))
