"""Who asks: HTTP/1.1 clients that wait for each answer, and requests that come whether others are answered or not."""

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from math import ceil
from time import perf_counter
from typing import cast

DEADLINE = 1.0  # seconds of a request, from when it should have been sent
_AT_ONCE = 50  # connections
_REQUEST = b"GET /items/tea HTTP/1.1\r\nHost: service\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Address = tuple[str, int]


@dataclass(slots=True)
class Tally:
    """What became of requests: how many seconds each took, from when it should have been sent."""

    requests: int = 0
    """How many there were. What is in none of the others was not answered within the deadline."""
    served: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])
    """Told 503."""
    failed: int = 0
    """Answered in another way, or cut off."""

    def note(self, status: int, seconds: float) -> None:
        """Count an answer, unless it came too late."""
        if seconds > DEADLINE:
            return
        match status:
            case HTTPStatus.OK:
                self.served.append(seconds)
            case HTTPStatus.SERVICE_UNAVAILABLE:
                self.refused.append(seconds)
            case _:
                self.failed += 1


class Connection(asyncio.Protocol):
    """A connection, with at most one request under way."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._answer: asyncio.Future[int] | None = None
        self._said = b""

    @classmethod
    async def to(cls, address: Address) -> "Connection":
        """Connect."""
        _, made = await asyncio.get_running_loop().create_connection(cls, *address)
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Give the status, once all of the answer is there."""
        self._said += data
        head, _, body = self._said.partition(b"\r\n\r\n")
        if (length := _LENGTH.search(head)) is None or len(body) < int(length[1]):
            return
        self._said = b""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits for an answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("it was closed"))

    async def ask(self) -> int:
        """Ask for an item, and give the status of the answer. If that is cancelled, it is closed."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            msg = "it is closed"
            raise ConnectionResetError(msg)
        self._transport.write(_REQUEST)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.abort()
            raise

    def abort(self) -> None:
        """Close it, whatever is under way."""
        self._transport.abort()


async def in_turn(
    address: Address, clients: int, warm_up: float, seconds: float, mark: Callable[[], object]
) -> Tally:
    """Have so many clients ask, each again as soon as it is answered; what is answered after the warm-up counts.

    Args:
        address: Of the service.
        clients: How many there are.
        warm_up: Seconds.
        seconds: That count.
        mark: Is called at the beginning and at the end of these.

    """
    begin = perf_counter() + warm_up
    end = begin + seconds
    tally = Tally()

    async def client() -> None:
        connection = await Connection.to(address)
        try:
            while (asked := perf_counter()) < end:
                status = await connection.ask()
                if begin <= (now := perf_counter()) < end:
                    tally.requests += 1
                    tally.note(status, now - asked)
        finally:
            connection.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
        await asyncio.sleep(begin - perf_counter())
        mark()
        await asyncio.sleep(end - perf_counter())
        mark()
    return tally


async def at_random(
    address: Address,
    rate: float,
    warm_up: float,
    seconds: float,
    mark: Callable[[], object],
    draw: random.Random,
) -> Tally:
    """Have requests come at random, so many a second, however others fare; those due after the warm-up count.

    The time of each counts from when it was due, so nothing is left out if it could not even be sent then.

    Args:
        address: Of the service.
        rate: How many come each second.
        warm_up: Seconds.
        seconds: That count.
        mark: Is called at the beginning and at the end of these.
        draw: When they come.

    """
    crowd = _Crowd(address, rate, draw)
    await crowd.connect()
    begin = perf_counter() + warm_up
    await crowd.come(perf_counter(), begin, Tally())
    mark()
    tally = Tally()
    await crowd.come(begin, begin + seconds, tally)
    mark()
    await crowd.leave()
    return tally


class _Crowd:
    """Requests that nothing keeps from coming.

    There are as many connections as requests come within a deadline, all made beforehand, so that it is not the
    making of connections that is measured. One that is late keeps its connection until it is answered, as the
    service does not hear that nobody waits any more. If none is left, the service is late with all of them; the
    next is not sent, and as late as they are.
    """

    def __init__(self, address: Address, rate: float, draw: random.Random) -> None:
        self._address = address
        self._rate = rate
        self._draw = draw
        self._idle: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        for _ in range(ceil(self._rate * DEADLINE / _AT_ONCE)):
            made = [Connection.to(self._address) for _ in range(_AT_ONCE)]
            self._idle += await asyncio.gather(*made)

    async def come(self, due: float, end: float, tally: Tally) -> None:
        while (due := due + self._draw.expovariate(self._rate)) < end:
            if (pause := due - perf_counter()) > 0:
                await asyncio.sleep(pause)
            tally.requests += 1
            if self._idle:
                task = asyncio.create_task(self._ask(self._idle.pop(), due, tally))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _ask(self, connection: Connection, due: float, tally: Tally) -> None:
        try:
            status = await connection.ask()
        except OSError:
            tally.failed += 1
        else:
            self._idle.append(connection)
            tally.note(status, perf_counter() - due)

    async def leave(self) -> None:
        """Wait for the last for as long as it may take, and no longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DEADLINE)
        for connection in self._idle:
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def until_at_rest(address: Address) -> None:
    """Wait until the server has done what it still had to do, and answers quickly again."""
    quick = 0
    connection = await Connection.to(address)
    try:
        while quick < 3:  # noqa: PLR2004 - times in a row
            begin = perf_counter()
            await connection.ask()
            quick = quick + 1 if perf_counter() - begin < 0.1 else 0  # noqa: PLR2004 - seconds
    finally:
        connection.abort()
