"""A server to which dials have a price, and who dials it."""

import asyncio
from collections import Counter, deque
from errno import EMFILE

BACKLOG = 511  # Redis's tcp-backlog
MAXCLIENTS = 10_000  # Redis's default
ROUND_TRIP = 0.0005
CONNECT_TIMEOUT = 5.0  # redis-py's default
RESEND_AFTER = 1.0  # what the kernel does with a SYN that nobody answers; then 2 s, 4 s, ...
BIN = 0.01  # dials are counted in so many seconds


class Conn:
    """A connection, which its server ends by being another one since."""

    __slots__ = ("life", "server")

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.life = server.life

    @property
    def alive(self) -> bool:
        """Whether the server has not been restarted since."""
        return self.life == self.server.life


class Server:
    """Greets one connection after the other; `BACKLOG` may wait for that, more are not heard.

    Every dial ends in one of `accepted`, `refused`, `turned_away` (there are `maxclients`) and
    `unheard` (its time was up, or its caller's). What commands cost the server is left out.
    """

    def __init__(self, greeting: float, *, maxclients: int = MAXCLIENTS) -> None:
        """Make one that needs so many seconds for the greeting of a connection."""
        self._greeting = greeting
        self._maxclients = maxclients
        self._loop = asyncio.get_running_loop()
        self._busy_until = 0.0
        self.life = 0
        self.up = True
        self.open = 0
        self.most = 0
        self.heard = 0  # those in the backlog
        self.dials = 0
        self.accepted = self.refused = self.turned_away = self.unheard = self.under_way = 0
        self.dropped = 0  # SYNs that found the backlog full
        self.by_bin: Counter[int] = Counter()  # when what came, that which came again included

    @property
    def failed(self) -> int:
        """How many dials came to nothing."""
        return self.refused + self.turned_away + self.unheard

    def stop(self) -> None:
        """Go down, with all connections."""
        self.life += 1
        self.up = False
        self.open = self.heard = 0
        self._busy_until = 0.0

    def start(self) -> None:
        """Come back."""
        self.up = True

    async def connect(self, delay: float = 0.0) -> Conn:
        """Dial.

        Args:
            delay: So many seconds pass before the dial leaves its process.

        Raises:
            ConnectionRefusedError: It is down, or goes down meanwhile.
            TimeoutError: It did not hear of it within `CONNECT_TIMEOUT`.
            OSError: It has `maxclients` connections.

        """
        self.dials += 1
        self.under_way += 1
        try:
            return await self._connect(delay)
        except asyncio.CancelledError:
            self.unheard += 1
            raise
        finally:
            self.under_way -= 1

    async def _connect(self, delay: float) -> Conn:
        await asyncio.sleep(delay + ROUND_TRIP)
        await self._get_heard()
        life = self.life
        self.heard += 1
        self._busy_until = max(self._loop.time(), self._busy_until) + self._greeting
        # Greeted even if the caller gives up meanwhile: the server can't know.
        self._loop.call_at(self._busy_until, self._greet, life)
        await asyncio.sleep(self._busy_until - self._loop.time())
        if self.life != life:
            self._refuse()
        if self.open >= self._maxclients:
            self.turned_away += 1
            raise OSError(EMFILE, "max number of clients reached")
        self.accepted += 1
        self.open += 1
        self.most = max(self.most, self.open)
        return Conn(self)

    def _greet(self, life: int) -> None:
        if life == self.life:
            self.heard -= 1

    async def _get_heard(self) -> None:
        """Get into the backlog."""
        patience, pause = CONNECT_TIMEOUT, RESEND_AFTER
        while True:
            self.by_bin[int(self._loop.time() / BIN)] += 1
            if not self.up:
                self._refuse()
            if self.heard < BACKLOG:
                return
            self.dropped += 1
            await asyncio.sleep(min(pause, patience))
            patience -= pause
            pause *= 2
            if patience <= 0:
                self.unheard += 1
                msg = "timed out"
                raise TimeoutError(msg)

    def _refuse(self) -> None:
        self.refused += 1
        msg = "refused"
        raise ConnectionRefusedError(msg)

    def part(self, conn: Conn) -> None:
        """Have a connection closed by its client."""
        if conn.alive:
            self.open -= 1

    def most_dials(self, seconds: float, since: float, until: float) -> int:
        """Say how many came in the worst span of so many seconds, from one time to another."""
        width, worst, span = round(seconds / BIN), 0, 0
        window = deque[int]()
        for last in sorted(n for n in self.by_bin if int(since / BIN) <= n <= int(until / BIN)):
            window.append(last)
            span += self.by_bin[last]
            while window[0] <= last - width:
                span -= self.by_bin[window.popleft()]
            worst = max(worst, span)
        return worst


class Processor:
    """The one core of an application process: it begins one dial after the other."""

    def __init__(self, dial: float) -> None:
        """Make one that is busy for so many seconds with each dial."""
        self._dial = dial
        self._free_at = 0.0

    def take_on(self) -> float:
        """Take on one dial more; says in how many seconds it is done."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + self._dial
        return self._free_at - now


class Dialler:
    """An `aiopool.Connector` to one server."""

    def __init__(self, server: Server, processor: Processor) -> None:
        self._server = server
        self._processor = processor
        self.open_now = 0

    async def open(self) -> Conn:
        """Dial."""
        conn = await self._server.connect(self._processor.take_on())
        self.open_now += 1
        return conn

    async def check(self, conn: Conn, /) -> None:
        """Ask the server whether it is there."""
        await asyncio.sleep(ROUND_TRIP)
        if not conn.alive:
            msg = "reset"
            raise ConnectionResetError(msg)

    def is_usable(self, conn: Conn, /) -> bool:
        """Look whether the server has ended it."""
        return conn.alive

    def close(self, conn: Conn, /) -> None:
        """Hang up."""
        self.open_now -= 1
        self._server.part(conn)
