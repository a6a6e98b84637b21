"""Troubles of a server under load, and what its callers have of them: each for any of two pools.

`python tests/redis/troubles.py --pool aiopool` goes through them all and prints a row for each. (With
`--pool blocking` it is redis-py's `BlockingConnectionPool`, with the same keywords.)
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import sys
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from operator import attrgetter
from typing import Any, NamedTuple, Self

import redis
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from servers import ADMIN, PAUSE, Server, eventually, version

from aiopool import RedisPool

SIZE = 8
CALLERS = 24
FEWER = 3  # connections, where a trouble allows no more

POOLS: dict[str, type[ConnectionPool]] = {"aiopool": RedisPool, "blocking": BlockingConnectionPool}

# ---- connections that note when they are made ----------------------------------------------------


@dataclass(eq=False)
class Dial:
    """One attempt to connect, up to the end of the handshake."""

    by_pool: bool  # in a task of its own, not in that of a caller
    begun: float
    ended: float | None = None
    well: bool = False


class Dialling(Connection):
    """A connection of redis-py's that notes its attempts to connect."""

    def __init__(self, *args: Any, dials: list[Dial], **kwargs: Any) -> None:
        self._dials = dials
        super().__init__(*args, **kwargs)

    async def _connect(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        dial = Dial(by_pool=task.get_name() == "aiopool-open", begun=time.monotonic())
        self._dials.append(dial)
        self._dial = dial
        try:
            await super()._connect()
        except BaseException:
            dial.ended = time.monotonic()
            raise

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        dial = self._dial
        try:
            await super().on_connect_check_health(check_health)
            dial.well = True
        finally:
            dial.ended = time.monotonic()


# ---- load ----------------------------------------------------------------------------------------

AFTER_ERROR = 0.02  # a caller who got an error does something else before the next request
PATIENCE = 10.0  # more than a request may take


class Request(NamedTuple):
    kind: str
    begun: float
    ended: float
    error: Exception | None


class Load:
    """Callers who use a pool all the time, each request with a token that no other has."""

    def __init__(self, pool: ConnectionPool, callers: int = CALLERS) -> None:
        self.pool = pool
        self.callers = callers
        self.requests: list[Request] = []
        self.wrong: list[str] = []
        self.stuck = 0  # callers whose last request did not end
        self._client = Redis(connection_pool=pool)
        self._at_work = callers
        self._resting = 0
        self._changed = asyncio.Event()  # how many are to be at work
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._work(number), name=f"caller-{number}")
            for number in range(self.callers)
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._over = True
        self._changed.set()
        ended, stuck = await asyncio.wait(self._tasks, timeout=PATIENCE)
        self.stuck = len(stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        for task in ended:
            task.result()

    async def only(self, callers: int) -> None:
        """Have so many go on, and wait until the others rest."""
        self._at_work = callers
        self._changed.set()
        self._changed = asyncio.Event()
        await eventually(
            lambda: self._resting == self.callers - callers, f"only {callers} are at work"
        )

    async def _work(self, number: int) -> None:
        for turn in count():
            if number >= self._at_work:
                await self._rest(number)
            if self._over:
                break
            kind, ask = (("echo", self._echo), ("write", self._write))[turn % 2]
            token = f"{number}.{turn}"
            begun, error = time.monotonic(), None
            try:
                reply, expected = await ask(token)
                if reply != expected:
                    self.wrong.append(f"{reply!r} instead of {expected!r}")
            except Exception as caught:  # noqa: BLE001 - they are what is to be reported
                error = caught
            self.requests.append(Request(kind, begun, time.monotonic(), error))
            if error is not None:
                await asyncio.sleep(AFTER_ERROR)

    async def _rest(self, number: int) -> None:
        self._resting += 1
        while number >= self._at_work and not self._over:
            await self._changed.wait()
        self._resting -= 1

    async def _echo(self, token: str) -> tuple[object, object]:
        return await self._client.echo(token), token.encode()

    async def _write(self, token: str) -> tuple[object, object]:
        async with self._client.pipeline(transaction=True) as pipe:
            reply = await pipe.set("token", token).get("token").execute()
        return reply, [True, token.encode()]

    def recovered_after(self, moment: float) -> float | None:
        """Say how long after this moment requests of each kind succeeded; None: not yet."""
        succeeded = set()
        later = bisect(self.requests, moment, key=attrgetter("ended"))
        for request in islice(self.requests, later, None):
            if request.error is None:
                succeeded.add(request.kind)
            if len(succeeded) == 2:
                return request.ended - moment
        return None


async def lendable(pool: ConnectionPool, within: float = 5.0) -> int:
    """Lend as many connections at once as there may be, and say how many answer."""
    lent = []
    good = 0
    try:
        with contextlib.suppress(redis.RedisError, TimeoutError):
            async with asyncio.timeout(within):
                for number in range(pool.max_connections):
                    lent.append(await pool.get_connection())
                    await lent[-1].send_command("ECHO", str(number))
                    good += await lent[-1].read_response() == str(number).encode()
    finally:
        for conn in lent:
            await pool.release(conn)
    return good


class Watcher:
    """Counts the server's clients, from a thread, since the server may not answer."""

    def __init__(self, server: Server) -> None:
        self.counts: list[tuple[float, int]] = []  # when, how many
        self._admin = server.admin()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._look()  # which connects, too
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._admin.close()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(redis.RedisError):
                self._look()

    def _look(self) -> None:
        clients = self._admin.client_list(_type="normal")  # not the link of a replica
        ours = sum(client["name"] != ADMIN for client in clients)
        self.counts.append((time.monotonic(), ours))

    def between(self, begun: float, ended: float) -> int:
        """Say how many there were at most in this time."""
        return max((number for when, number in self.counts if begun <= when <= ended), default=0)

    def reached_after(self, moment: float, number: int) -> float | None:
        """Say how long after this moment there were so many; None: not yet."""
        later = (when for when, many in self.counts if when > moment and many >= number)
        return next((when - moment for when in later), None)


# ---- troubles ------------------------------------------------------------------------------------

Begin = Callable[[Server, Load, float], contextlib.AbstractAsyncContextManager[None]]


class Trouble(NamedTuple):
    begin: Begin
    lasts: float
    socket_timeout: float


TROUBLES: dict[str, Trouble] = {}


def trouble(*, lasts: float, socket_timeout: float = 5.0) -> Callable[[Begin], Begin]:
    """Register a trouble, which usually lasts so long; with connections that wait so long."""

    def register(begin: Begin) -> Begin:
        TROUBLES[begin.__name__] = Trouble(begin, lasts, socket_timeout)
        return begin

    return register


@trouble(lasts=0.4)
@contextlib.asynccontextmanager
async def killed(server: Server, _load: Load, _lasts: float) -> AsyncIterator[None]:
    """It is killed and started again."""
    await asyncio.to_thread(server.kill)
    yield
    await asyncio.to_thread(server.start)


@trouble(lasts=0.4)
@contextlib.asynccontextmanager
async def shut_down(server: Server, _load: Load, _lasts: float) -> AsyncIterator[None]:
    """It is told to end, and started again."""
    with contextlib.suppress(redis.ConnectionError):  # which is how that is answered
        server.run("SHUTDOWN", "NOSAVE")
    await asyncio.to_thread(server.stop)
    yield
    await asyncio.to_thread(server.start)


@trouble(lasts=0.8, socket_timeout=0.3)
@contextlib.asynccontextmanager
async def frozen(server: Server, _load: Load, _lasts: float) -> AsyncIterator[None]:
    """It hangs for longer than callers wait: connections can be made, but nothing is answered."""
    with server.frozen():
        yield


KILLED_EVERY = 0.05


@trouble(lasts=0.4)
@contextlib.asynccontextmanager
async def clients_killed(server: Server, _load: Load, _lasts: float) -> AsyncIterator[None]:
    """It closes all connections again and again."""
    over = asyncio.Event()

    async def kill() -> None:
        while not over.is_set():
            server.run("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(KILLED_EVERY)

    killing = asyncio.create_task(kill())
    try:
        yield
    finally:
        over.set()
        await killing


@trouble(lasts=0.5)
@contextlib.asynccontextmanager
async def paused(server: Server, _load: Load, lasts: float) -> AsyncIterator[None]:
    """CLIENT PAUSE, for less long than callers wait."""
    server.run("CLIENT", "PAUSE", int(lasts * 1000))
    yield
    await asyncio.to_thread(server.run, "PING")  # which has to wait, too


@trouble(lasts=0.5)
@contextlib.asynccontextmanager
async def asleep(server: Server, _load: Load, lasts: float) -> AsyncIterator[None]:
    """DEBUG SLEEP, for less long than callers wait."""
    sleep = asyncio.create_task(asyncio.to_thread(server.run, "DEBUG", "SLEEP", lasts))
    yield
    await sleep


@trouble(lasts=0.6)
@contextlib.asynccontextmanager
async def too_many_clients(server: Server, load: Load, _lasts: float) -> AsyncIterator[None]:
    """It takes fewer clients than the pool would have."""
    before = server.run("CONFIG", "GET", "maxclients")[1]
    async with nothing_open(server, load):
        admins = int(server.run("INFO", "clients")["connected_clients"])
        server.run("CONFIG", "SET", "maxclients", admins + FEWER)
    yield
    server.run("CONFIG", "SET", "maxclients", before)


@trouble(lasts=0.6)
@contextlib.asynccontextmanager
async def out_of_descriptors(server: Server, load: Load, _lasts: float) -> AsyncIterator[None]:
    """This process may open fewer sockets than the pool would."""
    with contextlib.ExitStack() as stack:
        async with nothing_open(server, load):
            stack.enter_context(descriptors_left(FEWER))
        yield


@contextlib.asynccontextmanager
async def nothing_open(server: Server, load: Load) -> AsyncIterator[None]:
    """Have callers rest meanwhile, and no connection open."""
    await load.only(0)
    await load.pool.disconnect(inuse_connections=False)
    await eventually(lambda: not server.clients(), "no connection is left")
    yield
    await load.only(load.callers)


@contextlib.contextmanager
def descriptors_left(few: int) -> Iterator[None]:
    """Let this process open no more than so many descriptors meanwhile."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # New ones get the lowest number that is free, and the limit is one of the numbers. They can't be
    # counted in another way: a thread that waits in accept() has taken one that nobody sees.
    *_, limit = numbers = [os.open(os.devnull, os.O_RDONLY) for _ in range(few + 1)]
    for number in numbers:
        os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@trouble(lasts=0.3)
@contextlib.asynccontextmanager
async def idle_ones_closed(server: Server, load: Load, _lasts: float) -> AsyncIterator[None]:
    """It has closed what was idle for a second, when all callers come back."""
    server.run("CONFIG", "SET", "timeout", 1)
    await load.only(1)
    await eventually(lambda: len(server.clients()) <= 1, "it has closed the idle ones")
    await load.only(load.callers)
    yield
    server.run("CONFIG", "SET", "timeout", 0)


@trouble(lasts=0.4)
@contextlib.asynccontextmanager
async def out_of_memory(server: Server, _load: Load, _lasts: float) -> AsyncIterator[None]:
    """It has no memory for writes."""
    server.run("CONFIG", "SET", "maxmemory", 1)
    yield
    server.run("CONFIG", "SET", "maxmemory", 0)


@trouble(lasts=0.4)
@contextlib.asynccontextmanager
async def read_only(server: Server, _load: Load, _lasts: float) -> AsyncIterator[None]:
    """It is made the replica of another."""
    primary = await asyncio.to_thread(Server)
    try:
        server.run("REPLICAOF", "127.0.0.1", primary.port)
        yield
        server.run("REPLICAOF", "NO", "ONE")
    finally:
        await asyncio.to_thread(primary.destroy)


def troubled_server() -> Server:
    """Start a server that can be had in all these troubles."""
    # Since version 7 it has to be told that DEBUG is allowed.
    return Server(**({"enable_debug_command": "yes"} if version() >= (7,) else {}))


# ---- what came of it -----------------------------------------------------------------------------

RECOVERY = 10.0  # longer is not waited for what should have come within a second


@dataclass(frozen=True)
class Report:
    """What callers saw of a trouble from its beginning, and what it cost."""

    lasted: float
    ok: int
    wrong: list[str]
    stuck: int
    errors: Counter[type[Exception]]
    texts: Counter[str]  # with … for numbers
    recovered_after: float | None  # the trouble's end; None: not at all
    grown_after: float | None  # likewise, until there were as many connections as may be
    longest: float  # request
    dials: list[Dial] = field(repr=False)  # while it lasted
    slots: int
    peak: int  # of connections at the server
    peak_meanwhile: int  # once the trouble was there

    def row(self) -> dict[str, Any]:
        """Give the figures by the names of their columns."""
        by_pool = sum(dial.by_pool for dial in self.dials)
        return {
            "requests": self.ok + sum(self.errors.values()),
            "ok": self.ok,
            "wrong": len(self.wrong),
            "stuck": self.stuck,
            "recovered s": self.recovered_after,
            "longest s": self.longest,
            "dials": len(self.dials),
            "by pool": by_pool,
            "dials/s": len(self.dials) / self.lasted,
            "slots": f"{self.slots}/{SIZE}",
            "grown s": self.grown_after,
            "peak": self.peak,
            "errors": {kind.__name__: number for kind, number in self.errors.items()},
        }


def make_pool(
    pool_class: type[ConnectionPool], server: Server, dials: list[Dial], **keywords: Any
) -> ConnectionPool:
    """Make a pool of either kind, with keywords that both have."""
    made: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "max_connections": SIZE,
        "timeout": 5.0,
        "connection_class": Dialling,
        "dials": dials,
    }
    return pool_class(**made | keywords)


async def suffer(
    name: str, server: Server, pool_class: type[ConnectionPool] = RedisPool, **keywords: Any
) -> Report:
    """Go through a trouble under load."""
    begin, lasts, socket_timeout = TROUBLES[name]
    dials: list[Dial] = []
    pool = make_pool(pool_class, server, dials, **{"socket_timeout": socket_timeout, **keywords})
    async with pool:
        assert await lendable(pool) == SIZE
        with Watcher(server) as watcher:
            async with Load(pool) as load:
                await eventually(lambda: load.recovered_after(0) is not None, "all goes well")
                begun = time.monotonic()
                async with begin(server, load, lasts):
                    there = time.monotonic()
                    await asyncio.sleep(lasts)
                ended = time.monotonic()
                while (
                    load.recovered_after(ended) is None
                    or watcher.reached_after(ended, SIZE) is None
                ):
                    if time.monotonic() > ended + RECOVERY:
                        break
                    await asyncio.sleep(PAUSE)
        slots = await lendable(pool)
    requests = [request for request in load.requests if request.ended > begun]
    errors = [request.error for request in requests if request.error is not None]
    return Report(
        lasted=ended - begun,
        ok=len(requests) - len(errors),
        wrong=load.wrong,
        stuck=load.stuck,
        errors=Counter(type(error) for error in errors),
        texts=Counter(
            f"{type(error).__name__}: {re.sub('[0-9]+', '…', str(error))}" for error in errors
        ),
        recovered_after=load.recovered_after(ended),
        grown_after=watcher.reached_after(ended, SIZE),
        longest=max(request.ended - request.begun for request in requests),
        dials=[dial for dial in dials if begun < dial.begun < ended],
        slots=slots,
        peak=watcher.between(0, time.monotonic()),
        peak_meanwhile=watcher.between(there, ended),
    )


# ---- the table -----------------------------------------------------------------------------------


def shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for name, number in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.2f}"
    return "never" if value is None else str(value)


def in_columns(first: str, cells: Iterable[str]) -> str:
    *narrow, last = cells
    return f"{first:<18}" + "".join(f"{cell:>12}" for cell in narrow) + f"  {last}\n"


def main() -> None:
    """Go through all troubles, or one, and print what came of each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pool", choices=POOLS, default="aiopool")
    parser.add_argument("--trouble", choices=TROUBLES)
    parser.add_argument(
        "--retries",
        type=int,
        default=0,
        help="as many as redis-py's Retry gets; 0 if not given (redis-py's own default is 10)",
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    texts: list[str] = []
    if not args.json:
        sys.stdout.write(f"{args.pool}, {args.retries} retries\n")
    for number, name in enumerate([args.trouble] if args.trouble else TROUBLES):
        server = troubled_server()
        retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), args.retries)
        try:
            report = asyncio.run(suffer(name, server, POOLS[args.pool], retry=retry))
        finally:
            server.destroy()
        row = report.row()
        if args.json:
            line = {"pool": args.pool, "trouble": name, **row, "texts": report.texts}
            sys.stdout.write(json.dumps(line) + "\n")
        else:
            if not number:
                sys.stdout.write(in_columns("", row))
            sys.stdout.write(in_columns(name, map(shown, row.values())))
            texts += (f"{name}: {many} {text}\n" for text, many in report.texts.items())
        sys.stdout.flush()
    sys.stdout.writelines(texts)


if __name__ == "__main__":
    main()
