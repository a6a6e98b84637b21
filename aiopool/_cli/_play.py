"""One run on a server: the busy time, the quiet time, and the check of what both have left."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from aiopool import PoolTimeout, RedisPool

from ._auditor import Auditor, auditing
from ._book import Book
from ._display import Moment, Show
from ._names import Names
from ._plan import plan
from ._pool import MAX_IDLE, TIMEOUT
from ._report import Report, fakeredis, summarize, versions
from ._traffic import Traffic
from ._verdict import Evidence, losses

BUSY = "Busy: requests arrive in waves; in the highest, some wait in vain."
QUIET = "Quiet: the reaper closes what nobody needs."

_LINGER = 0.8  # beyond `max_idle`, so that the small pool can be seen as well
_AMPLE = (
    20.0  # for what takes no time unless the machine is overloaded; a loss is no question of time
)


async def play(pool: RedisPool, *, seed: int, seconds: float, fake: bool, show: Show) -> Report:
    """Play on this pool, and close it.

    Args:
        pool: Not in use yet.
        seed: Decides which requests arrive.
        seconds: For how long they do.
        fake: Whether the server is fakeredis. It keeps a connection that was cut off amid a slow
            command until the command's end, so it is not asked how many it has.
        show: Is shown ten times a second how it goes.

    Raises:
        RedisError: The server can't be used, or went away.

    """
    names = Names()
    # As a keyword of the pool's, it would come after a name in the URL.
    pool.connection_kwargs["client_name"] = names.run
    book = Book(names)
    traffic = Traffic(pool, book)
    arrivals = plan(seed, seconds)
    async with auditing(pool, names, len(arrivals)) as auditor, pool:
        watcher = _Watcher(pool, traffic, None if fake else auditor, show)
        async with watcher.watching(BUSY):
            await traffic.play(arrivals)
        async with watcher.watching(QUIET):
            await asyncio.sleep(MAX_IDLE + _LINGER)
            await _reaped(pool)
        after_quiet = pool.stats()
        lent_at_once = await _lend_at_once(pool, after_quiet.max_size)
        evidence = Evidence(
            wrong=book.wrong,
            told=list(book.told.values()),
            unknown=book.unknown,
            counted=await auditor.count(),
            missing=await auditor.missing(book.stored),
            hung=traffic.hung,
            after_quiet=after_quiet,
            lent_at_once=lent_at_once,
            at_end=pool.stats(),
            most=max(watcher.most, auditor.seen or 0),
        )
        return Report(
            lost=losses(evidence),
            requests={
                "arrived": traffic.arrived,
                "finished": traffic.ends["finished"],
                "cancelled": traffic.ends["cancelled"],
                "timed_out": traffic.ends["timed_out"],
                "failed": traffic.ends["failed"],
                "hung": traffic.hung,
            },
            errors=dict(traffic.errors),
            wait=summarize(traffic.waits),
            connections={
                "opened": after_quiet.opened,
                "reaped": after_quiet.closed.get("max_idle", 0),
                "most_by_pool": watcher.most,
                "most_by_server": auditor.seen,
                "after_quiet": after_quiet.size,
                "lent_at_once": lent_at_once,
                "lent_at_end": evidence.at_end.lent,
            },
            closed=dict(after_quiet.closed),
            check={
                "counted": evidence.counted,
                "confirmed": len(evidence.told),
                "unknown": evidence.unknown,
                "stored": len(book.stored),
                "missing": len(evidence.missing),
                "wrong": len(evidence.wrong),
            },
            parameters={
                "seed": seed,
                "seconds": seconds,
                "max_size": after_quiet.max_size,
                "min_size": after_quiet.min_size,
                "max_idle": MAX_IDLE,
                "timeout": TIMEOUT,
            },
            versions=versions(fakeredis() if fake else await auditor.version()),
            took=watcher.elapsed,
        )


class _Watcher:
    """Looks ten times a second what there is to be seen, for the display and for the check."""

    def __init__(
        self, pool: RedisPool, traffic: Traffic, auditor: Auditor | None, show: Show
    ) -> None:
        self._pool = pool
        self._traffic = traffic
        self._auditor = auditor
        self._show = show
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self.most = 0
        """The most connections that the pool had, by its own account."""

    @property
    def elapsed(self) -> float:
        return self._now() - self._began

    @asynccontextmanager
    async def watching(self, phase: str) -> AsyncGenerator[None]:
        """Look on as long as the block runs."""
        over = asyncio.Event()
        task = asyncio.create_task(self._watch(phase, over))
        try:
            yield
        finally:
            over.set()
            await task

    async def _watch(self, phase: str, over: asyncio.Event) -> None:
        while not over.is_set():
            stats = self._pool.stats()
            self.most = max(self.most, stats.size)
            self._show(
                Moment(self.elapsed, phase, self._traffic.arrived, self._traffic.ends, stats)
            )
            if self._auditor is not None:
                await self._auditor.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await over.wait()


async def _reaped(pool: RedisPool) -> None:
    """Give the reaper more time, if an overloaded machine makes it late."""
    for _ in range(int(_AMPLE * 10)):
        if pool.stats().size <= pool.stats().min_size:
            return
        await asyncio.sleep(0.1)


async def _lend_at_once(pool: RedisPool, wanted: int) -> int:
    """Lend so many connections at once; tells how many could be, and gives them back."""
    async with AsyncExitStack() as lent:
        for count in range(wanted):
            try:
                conn = await pool.acquire(timeout=_AMPLE)
                lent.push_async_callback(pool.release, conn)
            except PoolTimeout:
                return count
    return wanted
