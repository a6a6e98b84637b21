"""A connector with a gate at each of its methods, and the rules that a pool must keep with it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiopool import Pool
from aiopool._policy import LOST, Policy

Behaviour = Callable[[], Awaitable[None]]


async def goes() -> None:
    """Succeed at once."""


async def never() -> None:
    """Neither succeed nor fail."""
    await asyncio.get_running_loop().create_future()


async def stubborn() -> None:
    """Neither succeed nor fail, nor end when cancelled; only a second cancellation helps."""
    try:
        await never()
    except asyncio.CancelledError:
        await never()


def unmoved(seconds: float) -> Behaviour:
    """Succeed after a while, whether cancelled or not."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(end - loop.time())

    return go


def slow(seconds: float) -> Behaviour:
    """Succeed after a while."""
    return lambda: asyncio.sleep(seconds)


def fails(error: Exception | None = None, after: float = 0.0) -> Behaviour:
    """Fail, by default with what a server that is down gives."""

    async def fail() -> None:
        await asyncio.sleep(after)
        raise error or ConnectionRefusedError("refused")

    return fail


class Gate:
    """What the calls of one method do: the next ones as queued, the others as usual."""

    def __init__(self) -> None:
        self.usual: Behaviour = goes
        self.next: deque[Behaviour] = deque()
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        await (self.next.popleft() if self.next else self.usual)()


class Conn:
    """A connection that can break, and that counts how many use it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.broken = False

    def __repr__(self) -> str:
        return f"Conn({self.number})"


class FakeConnector:
    """Keeps the books that the pool's must agree with: on what is open, and how much at most."""

    def __init__(self) -> None:
        self.opens = Gate()
        self.checks = Gate()
        self.opening = 0
        self.peak_opening = 0
        self.live: set[Conn] = set()
        self.peak = 0
        self.closed: list[Conn] = []
        self.close_error: Exception | None = None
        self.look_error: Exception | None = None

    async def open(self) -> Conn:
        self.opening += 1
        self.peak_opening = max(self.peak_opening, self.opening)
        self.peak = max(self.peak, len(self.live) + self.opening)
        number = self.opens.calls + 1
        try:
            await self.opens()
        finally:
            self.opening -= 1
        conn = Conn(number)
        self.live.add(conn)
        return conn

    async def check(self, conn: Conn, /) -> None:
        assert conn in self.live
        await self.checks()
        if conn.broken:
            raise ConnectionResetError("broken")

    def is_usable(self, conn: Conn, /) -> bool:
        assert conn in self.live
        if self.look_error:
            raise self.look_error
        return not conn.broken

    def close(self, conn: Conn, /) -> None:
        self.live.remove(conn)
        self.closed.append(conn)
        if self.close_error:
            raise self.close_error


class Mortal(Policy[Conn]):
    """As where a connection knows by whose doing it ended: always by its peer's."""

    def name_fault(self, conn: Conn, /, *, idle: bool) -> str:  # noqa: ARG002 - it's always the same
        return LOST


def check_rules(pool: Pool[Conn], connector: FakeConnector) -> None:
    """Check the two rules, and that the pool's books agree with the connector's."""
    places = pool._places
    if places is None:
        return
    idle, lent = list(places.idle), list(places.lent.values())
    checking = list(places.opener._checking.values())
    opening, permits = places.opener.opening, places.permits
    waiting = sum(not waiter.done() for waiter in places.line.waiters)

    # Rule 1: one permit each, and never too many.
    assert permits.taken == len(idle) + len(lent) + len(checking) + opening
    assert len(connector.live) + connector.opening <= permits.taken or places.closing
    assert permits.taken <= permits.total or not idle, "too many, and idle ones among them"
    assert opening <= places.limits.max_opening

    # No connection in two places, none closed that is in one, none open that is in none.
    conns = [entry.conn for entry in (*idle, *lent, *checking)]
    assert len(set(conns)) == len(conns)
    assert connector.live.issuperset(conns)
    assert places.closing or len(connector.live) - len(conns) <= opening

    # Rule 2: nobody waits while there is something to lend, or something to open and nobody at it.
    if waiting:
        assert (
            not idle
            or places.opener.checks_coming >= waiting
            or places.opener._alarm.when <= (places.loop.time())
        )
        paused = places.opener._alarm.when < float("inf")
        limit = 1 if places.opener.failures else places.limits.max_opening
        enough = places.opener.coming >= waiting or opening >= limit
        assert not permits.free or enough or paused, f"{pool}: a waiter is forgotten"
