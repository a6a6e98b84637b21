"""The pool that aiopool is compared with: one as it is written in an evening."""

import asyncio

from .server import Conn, Dialler


class NaivePool:
    """Whoever gets a slot and finds no connection dials, and dials again at once until it succeeds.

    It has the same size and the same time limit for callers as aiopool, is as fair, and looks at
    connections before it lends them. What it lacks is what the opener does: no limit to the dials but
    the slots, no pause, no dial in which one finds out for all.
    """

    def __init__(self, connector: Dialler, *, max_size: int = 10, timeout: float = 5.0) -> None:
        self._connector = connector
        self._timeout = timeout
        self._slots = asyncio.Semaphore(max_size)
        self._idle: list[Conn] = []

    async def acquire(self) -> Conn:
        """Lend a connection.

        Raises:
            TimeoutError: There was none in time.

        """
        async with asyncio.timeout(self._timeout):
            await self._slots.acquire()
            try:
                return self._take() or await self._dial()
            except BaseException:
                self._slots.release()
                raise

    def _take(self) -> Conn | None:
        while self._idle:
            conn = self._idle.pop()
            if self._connector.is_usable(conn):
                return conn
            self._connector.close(conn)
        return None

    async def _dial(self) -> Conn:
        while True:
            try:
                return await self._connector.open()
            except OSError:
                continue

    async def release(self, conn: Conn) -> None:
        """Take it back."""
        if self._connector.is_usable(conn):
            self._idle.append(conn)
        else:
            self._connector.close(conn)
        self._slots.release()

    async def aclose(self, timeout: float | None = None) -> None:  # noqa: ARG002 - as a Pool's
        """Close what is idle."""
        while self._idle:
            self._connector.close(self._idle.pop())
