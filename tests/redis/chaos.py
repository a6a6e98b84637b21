"""Many tasks ask through one pool while the network is bad, and each knows the answers it must get.

Every request has a token of its own, and so has every reply to it. A reply to another request of the
same lending is the network's doing if the proxy swallowed something in that lending. A reply to
another lending is what no pool may ever let happen.

Where requests of many tasks share a connection, what the proxy swallows or repeats shifts the replies to
others, too. There it says for each of these requests which reply came in its place, and when: only that
very reply is the network's doing, and only if the request was under way when it came. Had it come before,
with nothing else under way, the connection would have been one to close.

As a program: a large run over all kinds of connections, clients and event loops, for this pool or for
redis-py's (`python chaos.py --help`).
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from itertools import count, cycle, product
from math import inf
from random import Random
from secrets import token_hex
from typing import Any, Self

from chaos_proxy import TOKEN, ChaosProxy, Shift
from hiredis import Reader
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import WIRES, Server

from aiopool import RedisPool

SIZE = 10
TASKS = 150
PATIENCE = 0.2  # for a reply, and for a connection; on a busy machine, too
TO_ACQUIRE = 1.0
RUSH = 0.3  # for so long nobody pauses between requests, then for so long everybody does
LONGEST_PAUSE = 0.2
AFTER_CALM = 5.0  # for every slot to be lent
EXPIRY = 60  # of keys, on which nobody waits
SUBSCRIBERS = 2  # at a time
LOOKS = 0.025  # between two looks at the server's list of clients
SET, RPUSH = b"*5\r\n$3\r\nSET\r\n", b"*3\r\n$5\r\nRPUSH\r\n"
DATABASE = "number of this database"  # a key in those that are used
KEY = re.compile(rb"\b[0-9a-f]{8}:(\d+)\b")  # of a lending
EXAMPLES = 20

# How requests are made: on connections themselves, through clients, or through clients whose commands
# share so many connections.
LANES = {"lane": 1, "lanes": 3}
WAYS = ["raw", "client", *LANES]
RARITY = 10  # of faults where requests share connections, for each befalls so many more

# What redis-py documents for bad connections. (Both are raised by pools as well.)
EXPECTED = RedisConnectionError, RedisTimeoutError, WatchError

MakePool = Callable[..., ConnectionPool]


@dataclass
class Report:
    """What came of it."""

    requests: int = 0
    right: int = 0  # replies
    wrong: Counter[str] = field(default_factory=Counter)  # replies to somebody else, by request
    shifted: int = 0  # replies to another request that are the proxy's doing
    cancelled: int = 0  # requests, from outside
    timed_out: int = 0  # requests, by asyncio.timeout() and wait_for()
    errors: Counter[str] = field(default_factory=Counter)  # those that may occur
    odd: Counter[str] = field(default_factory=Counter)  # all others
    lost: int = 0  # slots that could not be lent after the calm
    most: int = 0  # connections on the server at a time
    left: int = 0  # connections and tasks after the pool was closed
    connects: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    recovery: float = 0.0  # the longest time from the calm to the first success
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)  # of what is wrong or odd

    def __add__(self, other: Self) -> "Report":
        """Sum two up."""
        total = Report()
        for name in (each.name for each in fields(Report)):
            one, two = getattr(self, name), getattr(other, name)
            together = max(one, two) if name in {"most", "recovery"} else one + two
            setattr(total, name, together)
        return total

    @property
    def interrupted(self) -> int:
        return self.cancelled + self.timed_out

    @property
    def failed(self) -> bool:
        """Whether it shows what a good pool would not."""
        return bool(self.wrong or self.odd or self.lost or self.left or self.most > SIZE)

    def note(self, what: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)


# ---- requests ------------------------------------------------------------------------------------


class Lending:
    """The tokens of one lending."""

    def __init__(self, run: str, number: int) -> None:
        self.number = number
        self.key = f"{run}:{number}"  # nobody else's
        self._numbers = count()

    def token(self, *, last: bool = False) -> bytes:
        """Give a new token, the `last` for that to whose reply no other follows."""
        return b"<%d.%d%b>" % (self.number, next(self._numbers), b"!" * last)


class Asked:
    """A single command, and what came of it."""

    def __init__(self, words: tuple[Any, ...]) -> None:
        self.name = words[0]
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.frame = b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded
        )
        self.at = time.monotonic()
        self.outcome: object = None  # a reply or an error


class Request:
    """What one task asks for in one go, and whether it gets that."""

    def __init__(self, traffic: "Traffic", draw: Random) -> None:
        self._traffic = traffic
        self._draw = draw
        self.begun = time.monotonic()
        self.asked: Asked | None = None  # if what goes on now is that
        self.kind = draw.choice(RAW_KINDS if traffic.raw else CLIENT_KINDS)
        self.lending = self._lend()
        # Some have only so long from when they have a connection.
        self.in_haste = draw.uniform(0, 0.015) if traffic.raw and draw.random() < 0.1 else None

    def __call__(self) -> Coroutine[Any, Any, None]:
        return self.kind(self)

    def _lend(self) -> Lending:
        self.lending = self._traffic.lending()
        return self.lending

    def _check(self, reply: object, expected: object) -> None:
        asked, self.asked = self.asked, None
        if reply == expected:
            self._traffic.report.right += 1
            return
        kind = self.kind.__name__
        what = f"{kind}: {reply!r} instead of {expected!r}"
        others = {int(number) for number in TOKEN.findall(repr(reply).encode())}
        suspect = Suspect(self, kind, what, others - {self.lending.number}, asked, reply)
        self._traffic.suspects.append(suspect)

    # ---- through a client --------------------------------------------------------------------

    async def _ask(self, *words: Any) -> Any:
        """Ask by a single command."""
        self.asked = asked = Asked(words)
        answered = self._traffic.answered
        answered[asked.frame] = inf
        asked.outcome = await self._traffic.client.execute_command(*words)
        answered[asked.frame] = time.monotonic()
        return asked.outcome

    async def echo(self) -> None:
        token = self.lending.token(last=True)
        self._check(await self._ask("ECHO", token), token)

    async def set_and_get(self) -> None:
        # That which the second lending gets is said in the first.
        first, second = self.lending, self._lend()
        token = second.token(last=True)
        self.lending = first
        self._check(await self._ask("SET", first.key, token, "EX", EXPIRY), expected=True)
        self.lending = second
        self._check(await self._ask("GET", first.key), token)

    async def evaluate(self) -> None:
        tokens = [self.lending.token(), self.lending.token(last=True)]
        script = "return {ARGV[1], ARGV[2]}"
        self._check(await self._ask("EVAL", script, 0, *tokens), tokens)

    async def pipeline(self) -> None:
        await self._pipeline(transaction=False)

    async def transaction(self) -> None:
        await self._pipeline(transaction=True)

    async def _pipeline(self, *, transaction: bool) -> None:
        expected: list[object] = []
        async with self._traffic.client.pipeline(transaction=transaction) as pipe:
            for _ in range(self._draw.randint(1, 4)):
                expected.append(self.lending.token())
                pipe.echo(expected[-1])
            expected += [True, self.lending.token()]
            pipe.set(self.lending.key, expected[-1], ex=EXPIRY)
            pipe.get(self.lending.key)
            expected.append(self.lending.token(last=True))
            pipe.echo(expected[-1])
            self._check(await pipe.execute(), expected)

    async def watched_transaction(self) -> None:
        key, before, after = self.lending.key, self.lending.token(), self.lending.token(last=True)
        async with self._traffic.client.pipeline() as pipe:
            self._check(await pipe.watch(key), expected=True)
            self._check(await pipe.get(key), None)
            self._check(await pipe.set(key, before, ex=EXPIRY), expected=True)
            await pipe.unwatch()
            await pipe.watch(key)
            self._check(await pipe.get(key), before)
            pipe.multi()
            pipe.set(key, after, ex=EXPIRY)
            pipe.get(key)
            self._check(await pipe.execute(), [True, after])

    async def blocked_in_vain(self) -> None:
        self._check(await self._ask("BLPOP", self.lending.key, 0.01), None)

    async def blocked_and_served(self) -> None:
        first, second = self.lending, self._lend()
        token = second.token(last=True)
        self.lending = first
        length = await self._ask("RPUSH", first.key, token)
        self._check(length in (1, 2, 3), expected=True)  # it may have been tried again
        self.lending = second
        # In a circle, for that can be tried again, too.
        again = ("BLMOVE", first.key, first.key, "LEFT", "RIGHT", 0.05)
        self._check(await self._ask(*again), token)
        await self._ask("EXPIRE", first.key, EXPIRY)

    async def message(self) -> None:
        # Who waits for a second connection with one in hand: if all did so, none could go on.
        if self._traffic.subscribers == SUBSCRIBERS:
            return await self.echo()
        self._traffic.subscribers += 1
        try:
            await self._message()
        finally:
            self._traffic.subscribers -= 1

    async def _message(self) -> None:
        subscription, token = self.lending, self.lending.token()
        channel = subscription.key.encode()
        async with self._traffic.client.pubsub() as subscriber:
            await subscriber.subscribe(channel)
            await self._heard(subscriber, "subscribe", channel, 1)
            self._lend()
            receivers = await self._ask("PUBLISH", channel, token)
            self._check(isinstance(receivers, int), expected=True)
            self.lending = subscription
            await self._heard(subscriber, "message", channel, token)

    async def _heard(self, subscriber: Any, *expected: object) -> None:
        """Wait for a message, but not for one that the proxy has swallowed."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            said = await subscriber.get_message(timeout=PATIENCE / 3)
            if said is None or said["channel"] == b"chaos":  # that is the proxy's
                continue
            if said["type"] != "subscribe" or expected[0] == "subscribe":  # else after a reconnect
                self._check((said["type"], said["channel"], said["data"]), expected)
                break

    # ---- on the connection itself, with other things to do in between -------------------------

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator["Holder"]:
        traffic = self._traffic
        connection = await traffic.pool.get_connection()
        if connection in traffic.lent:
            traffic.report.wrong["lent twice"] += 1
        traffic.lent.add(connection)
        try:
            async with asyncio.timeout(self.in_haste):
                yield Holder(connection, self._draw)
        finally:
            traffic.lent.discard(connection)
            await traffic.pool.release(connection)

    async def raw_echoes(self) -> None:
        async with self._lent() as holder:
            for left in reversed(range(self._draw.randint(1, 4))):
                token = self.lending.token(last=left == 0)
                self._check(await holder.ask("ECHO", token), token)

    async def raw_echoes_whatever_happens(self) -> None:
        """Go on after an error, with a connection that redis-py makes anew."""
        async with self._lent() as holder:
            for left in reversed(range(3)):
                token = self.lending.token(last=left == 0)
                try:
                    await holder.send("ECHO", token)
                    self._check(await holder.connection.read_response(), token)
                except EXPECTED as error:
                    self._traffic.report.errors[type(error).__name__] += 1

    async def raw_batch(self) -> None:
        async with self._lent() as holder:
            tokens = [self.lending.token() for _ in range(self._draw.randint(1, 4))]
            tokens.append(self.lending.token(last=True))
            await holder.send_all([("ECHO", token) for token in tokens])
            for token in tokens:
                self._check(await holder.read(), token)

    async def raw_set_and_get(self) -> None:
        async with self._lent() as holder:
            key, token = self.lending.key, self.lending.token(last=True)
            self._check(await holder.ask("SET", key, token, "EX", EXPIRY), b"OK")
            self._check(await holder.ask("GET", key), token)

    async def raw_eval(self) -> None:
        async with self._lent() as holder:
            token = self.lending.token(last=True)
            self._check(await holder.ask("EVAL", "return ARGV[1]", 0, token), token)

    async def raw_transaction(self) -> None:
        async with self._lent() as holder:
            key, token = self.lending.key, self.lending.token(last=True)
            if self._draw.random() < 0.5:
                self._check(await holder.ask("WATCH", key), b"OK")
            self._check(await holder.ask("MULTI"), b"OK")
            await asyncio.sleep(0.003)  # it takes a while to work out what is to be set
            self._check(await holder.ask("SET", key, token, "EX", EXPIRY), b"QUEUED")
            self._check(await holder.ask("GET", key), b"QUEUED")
            self._check(await holder.ask("EXEC"), [b"OK", token])

    async def raw_database(self) -> None:
        async with self._lent() as holder:
            await self._is_in(0, holder)
            token = self.lending.token(last=True)
            self._check(await holder.ask("ECHO", token), token)

    async def raw_other_database(self) -> None:
        async with self._lent() as holder:
            self._check(await holder.ask("SELECT", 1), b"OK")
            await asyncio.sleep(0.002)
            await self._is_in(1, holder)
            self._check(await holder.ask("SELECT", 0), b"OK")
            await self._is_in(0, holder)
            token = self.lending.token(last=True)
            self._check(await holder.ask("ECHO", token), token)

    async def _is_in(self, database: int, holder: "Holder") -> None:
        self._check(await holder.ask("GET", DATABASE), b"%d" % database)

    async def raw_blocked_in_vain(self) -> None:
        async with self._lent() as holder:
            self._check(await holder.ask("BLPOP", self.lending.key, 0.01), None)
            token = self.lending.token(last=True)
            self._check(await holder.ask("ECHO", token), token)


CLIENT_KINDS = [
    *[Request.echo] * 3,
    *[Request.set_and_get] * 2,
    Request.evaluate,
    *[Request.pipeline] * 2,
    *[Request.transaction] * 2,
    Request.watched_transaction,
    Request.blocked_in_vain,
    Request.blocked_and_served,
    Request.message,
]
RAW_KINDS = [
    *[Request.raw_echoes] * 3,
    Request.raw_echoes_whatever_happens,
    *[Request.raw_batch] * 2,
    *[Request.raw_set_and_get] * 2,
    Request.raw_eval,
    *[Request.raw_transaction] * 2,
    *[Request.raw_database] * 2,
    Request.raw_other_database,
    Request.raw_blocked_in_vain,
]


class Holder:
    """Has a connection, and now and then something else to do, where it can be cancelled as well."""

    def __init__(self, connection: AbstractConnection, draw: Random) -> None:
        self.connection = connection
        self._draw = draw
        # Else a connection whose reader gave up comes back as one with a reply yet to come.
        self._disconnects = draw.random() < 0.7

    async def ask(self, *words: Any) -> Any:
        await self.send(*words)
        return await self.read()

    async def send(self, *words: Any) -> None:
        await self.connection.send_command(*words)
        await self._do_something_else()

    async def send_all(self, commands: list[tuple[Any, ...]]) -> None:
        await self.connection.send_packed_command(self.connection.pack_commands(commands))
        await self._do_something_else()

    async def read(self) -> Any:
        reply = await self.connection.read_response(disconnect_on_error=self._disconnects)
        await self._do_something_else()
        return reply

    async def _do_something_else(self) -> None:
        if self._draw.random() < 0.3:
            await asyncio.sleep(self._draw.choice([0, 0.002, 0.005]))


# ---- traffic -------------------------------------------------------------------------------------


@dataclass
class Suspect:
    """What is wrong or odd, unless it is the proxy's doing."""

    request: Request
    kind: str
    what: str
    others: set[int]  # lendings to which belongs what was got
    asked: Asked | None  # if it is about that
    reply: object  # or the error
    odd: bool = False

    def __post_init__(self) -> None:
        self.lending = self.request.lending.number
        self.since = self.request.begun


class Traffic:
    """The tasks, who is cancelled when, and what becomes of it."""

    def __init__(self, pool: ConnectionPool, *, way: str, requests: int, seed: object) -> None:
        self.pool = pool
        self.raw = way == "raw"
        self.shares = way in LANES
        clients = [Redis(connection_pool=pool)]
        if self.shares:
            assert isinstance(pool, RedisPool)
            clients = [pool.pipelined(lanes=LANES[way])]
        elif isinstance(pool, RedisPool):
            clients.append(pool.client())
        self._clients = cycle(clients)
        self.report = Report()
        self.suspects: list[Suspect] = []
        # When single commands were answered.
        self.answered: dict[bytes, float] = {}
        self.lent: set[AbstractConnection] = set()
        self._most = requests
        self._seed = seed
        self._run = token_hex(4)
        self._lendings = count(1)
        self.subscribers = 0
        self._usual = 0.02  # the time that a request takes

    @property
    def client(self) -> Redis:
        """redis-py's client, or one of the pool's own."""
        return next(self._clients)

    def lending(self) -> Lending:
        return Lending(self._run, next(self._lendings))

    async def flow(self) -> None:
        tasks = [asyncio.create_task(self._task(number)) for number in range(TASKS)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _task(self, number: int) -> None:
        draw = Random(f"{self._seed}/{number}")
        while self.report.requests < self._most:
            self.report.requests += 1
            await self._request(draw)
            if int(time.monotonic() / RUSH) % 2:
                await asyncio.sleep(draw.uniform(0, LONGEST_PAUSE))

    async def _request(self, draw: Random) -> None:
        request, report = Request(self, draw), self.report
        way = draw.choices([_patiently, _timeout, _wait_for, _cancel], [80, 5, 5, 10])[0]
        begun = time.monotonic()
        try:
            await way(request(), draw.uniform(0, 1.2 * self._usual), draw)
            self._usual += (time.monotonic() - begun - self._usual) * 0.02
        except EXPECTED as error:
            report.errors[type(error).__name__] += 1
        except Exception as error:  # noqa: BLE001 - it is reported
            limited = way in {_timeout, _wait_for} or request.in_haste is not None
            if isinstance(error, TimeoutError) and limited:
                report.timed_out += 1
            else:
                self._suspect(request, error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if way is _cancel:
                report.cancelled += 1
            else:
                self._suspect(request, error)

    def _suspect(self, request: Request, error: BaseException) -> None:
        kind = f"{type(error).__name__} in {request.kind.__name__}"
        if request.asked is not None:
            request.asked.outcome = error
        what = f"{kind}: {error}"
        self.suspects.append(Suspect(request, kind, what, set(), request.asked, error, odd=True))

    def judge(self, proxy: ChaosProxy) -> None:
        """Decide about what may have been the proxy's doing."""
        report = self.report
        shifts = Shifts(proxy.shifts, self.answered, self.client)
        for suspect in self.suspects:
            if self.shares:
                innocent = shifts.explain(suspect)
            else:
                innocent = not suspect.others and suspect.lending in proxy.tampered
            if innocent:
                report.shifted += 1
            else:
                (report.odd if suspect.odd else report.wrong)[suspect.kind] += 1
                report.note(suspect.what)


class Shifts:
    """The replies that the proxy has put in the places of others."""

    def __init__(
        self, shifts: Iterable[Shift], answered: dict[bytes, float], client: Redis
    ) -> None:
        self._answered = answered
        self._callbacks = client.response_callbacks
        self._by_request: dict[bytes, list[Shift]] = {}
        self._by_lending: dict[int, list[Shift]] = {}
        self._unseen: list[Shift] = []  # those of which the proxy does not know the requests
        for shift in shifts:
            if not shift.request:
                self._unseen.append(shift)
                continue
            self._by_request.setdefault(shift.request, []).append(shift)
            mentioned = TOKEN.findall(shift.request) + KEY.findall(shift.request)
            for number in {int(number) for number in mentioned}:
                self._by_lending.setdefault(number, []).append(shift)

    def explain(self, suspect: Suspect) -> bool:
        """Whether what was got is what the proxy has put there, and nobody could know."""
        asked = suspect.asked
        if suspect.reply is None and self._was_not_stored(suspect):
            return True
        if asked is not None:
            known = self._by_request.get(asked.frame, [])
            return any(self._is_it(shift, asked) for shift in known) or self._take_unseen(
                lambda shift: self._is_it(shift, asked)
            )
        # One of several requests on a connection of its own, which was shared before. What came before
        # that had the connection closed.
        shifts = self._by_lending.get(suspect.lending, ())
        came = {int(number) for shift in shifts for number in TOKEN.findall(shift.reply)}
        return (
            bool(shifts)
            and suspect.others <= came
            and all(shift.given > suspect.since for shift in shifts)
        )

    def _was_not_stored(self, suspect: Suspect) -> bool:
        """Whether it was to be stored before by a request to which the reply was another's."""
        token = b"<%d." % suspect.lending
        shifts = self._by_lending.get(suspect.lending, ())
        return any(
            shift.request.startswith((SET, RPUSH)) and token in shift.request for shift in shifts
        ) or self._take_unseen(lambda shift: shift.reply.startswith((b"+OK", b":")))

    def _take_unseen(self, fits: Callable[[Shift], bool]) -> bool:
        """Take one of them, which can be only one request's."""
        found = next(filter(fits, self._unseen), None)
        if found is not None:
            self._unseen.remove(found)
        return found is not None

    def _is_it(self, shift: Shift, asked: Asked) -> bool:
        # Had it been there with nothing else under way on the connection, it was to be seen. (What is
        # not in the table had the connection for itself, and so was over.)
        if shift.given < asked.at and self._answered.get(shift.before, 0.0) < asked.at:
            return False
        if shift.reply.startswith(b"-"):
            return isinstance(asked.outcome, ResponseError)
        reader = Reader()
        reader.feed(shift.reply)
        outcome: object = reader.gets()
        callback = self._callbacks.get(asked.name)
        if callback is not None:
            try:
                outcome = callback(outcome)
            except Exception as error:  # noqa: BLE001 - it is what the caller has got
                return repr(asked.outcome) == repr(error)
        return bool(asked.outcome == outcome)


Work = Coroutine[Any, Any, None]


async def _patiently(work: Work, _within: float, _draw: Random) -> None:
    await work


async def _timeout(work: Work, within: float, _draw: Random) -> None:
    async with asyncio.timeout(within):
        await work


async def _wait_for(work: Work, within: float, _draw: Random) -> None:
    await asyncio.wait_for(work, within)


async def _cancel(work: Work, within: float, draw: Random) -> None:
    """Have it cancelled by somebody else, who may insist."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    timers = [loop.call_later(within, task.cancel)]
    if draw.random() < 0.5:
        later = within + draw.choice([0, draw.uniform(0, 0.001)])
        timers.append(loop.call_later(later, task.cancel))
    try:
        await asyncio.wait([task])
    finally:
        for timer in timers:
            timer.cancel()
    task.result()


class Census:
    """Counts the connections on the server that were there in two looks running.

    One look could also see one whose end the proxy is about to pass on.
    """

    def __init__(self, server: Server) -> None:
        self.most = 0
        self._server = server

    async def take(self) -> None:
        before: set[str] = set()
        while True:
            now = {client["id"] for client in self._server.clients()}
            self.most = max(self.most, len(before & now))
            before = now
            await asyncio.sleep(LOOKS)


def number_databases(server: Server) -> None:
    """Write into each database which one it is."""
    for database in (0, 1):
        script = "redis.call('SELECT', ARGV[1]) redis.call('SET', KEYS[1], ARGV[1])"
        server.run("EVAL", script, 1, DATABASE, database)


async def traffic(
    pool: ConnectionPool,
    proxy: ChaosProxy,
    server: Server,
    *,
    way: str,
    requests: int,
    seed: object,
) -> Report:
    """Send so many requests through the pool and the proxy; then calm it, and lend every slot."""
    begun = time.monotonic()
    number_databases(server)
    crowd = Traffic(pool, way=way, requests=requests, seed=seed)
    census = Census(server)
    counting = asyncio.create_task(census.take())
    try:
        await crowd.flow()
    finally:
        counting.cancel()
        proxy.calm()
    report = crowd.report
    calmed = time.monotonic()
    report.lost = await lost_slots(pool, report)
    crowd.judge(proxy)
    report.most = census.most
    report.faults = proxy.faults
    report.connects = proxy.connects
    report.recovery = report.recovery - calmed
    report.seconds = time.monotonic() - begun
    return report


async def lost_slots(pool: ConnectionPool, report: Report) -> int:
    """Lend all slots at once, each of which is to work; say how many can't be lent."""

    async def lend() -> AbstractConnection:
        while True:
            try:
                connection = await pool.get_connection()
            except EXPECTED:  # what was begun before the calm
                await asyncio.sleep(0.01)
            else:
                report.recovery = report.recovery or time.monotonic()
                return connection

    tasks = [asyncio.create_task(lend()) for _ in range(SIZE)]
    done, late = await asyncio.wait(tasks, timeout=AFTER_CALM)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        await _works(task.result(), report)
    for task in done:
        await pool.release(task.result())
    return len(late)


async def _works(connection: AbstractConnection, report: Report) -> None:
    try:
        await connection.send_command("ECHO", id(connection))
        reply = await connection.read_response(timeout=AFTER_CALM)
    except Exception as error:  # noqa: BLE001 - it is reported
        report.odd[f"{type(error).__name__} after the calm"] += 1
        report.note(f"{type(error).__name__} after the calm: {error}")
        return
    if reply != str(id(connection)).encode():
        report.wrong["after the calm"] += 1


# ---- a round: a proxy, a pool, and their end -----------------------------------------------------


def options(seed: object) -> dict[str, Any]:
    """Draw the keywords of a pool that both our pool and redis-py's know."""
    retries = Random(f"{seed}/options").choice([0, 0, 2])
    return {
        "max_connections": SIZE,
        "timeout": TO_ACQUIRE,
        "socket_timeout": PATIENCE,
        "socket_connect_timeout": PATIENCE,
        "retry": Retry(ExponentialBackoff(cap=0.02, base=0.005), retries),
    }


async def round_of_traffic(
    make_pool: MakePool,
    server: Server,
    wire: dict[str, Any],
    *,
    way: str,
    requests: int,
    seed: object,
) -> Report:
    """Give the report of traffic through a new pool, which is closed in the end."""
    rarity = RARITY if way in LANES else 1
    with ChaosProxy(server.path, seed, PATIENCE, rarity=rarity) as proxy:
        pool = make_pool(proxy.url, **options(seed), **wire)
        try:
            report = await traffic(pool, proxy, server, way=way, requests=requests, seed=seed)
        finally:
            await pool.aclose()
        report.left = await _left(server)
    return report


async def _left(server: Server) -> int:
    """Count the connections and tasks that do not go away."""
    left = 0
    for _ in range(200):
        left = len(server.clients()) + len(asyncio.all_tasks()) - 1
        if left == 0:
            break
        await asyncio.sleep(0.01)
    return left


# ---- the large run -------------------------------------------------------------------------------

POOLS: dict[str, MakePool] = {
    "aiopool": RedisPool,
    "blocking": BlockingConnectionPool.from_url,
}
COMBINATIONS = ["/".join(words) for words in product(WIRES, ["asyncio", "uvloop"], WAYS)]
ROUND = 10_000


def run_combination(name: str, pool: str, requests: int, seed: int) -> Report:
    """Run the requests of one combination, in rounds with new pools."""
    wire, loop, way = name.split("/")
    new_loop = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - there is none for Windows

        new_loop = uvloop.new_event_loop
    server = Server()
    total = Report()
    try:
        for number, begin in enumerate(range(0, requests, ROUND)):
            coroutine = round_of_traffic(
                POOLS[pool],
                server,
                WIRES[wire],
                way=way,
                requests=min(ROUND, requests - begin),
                seed=f"{seed}/{name}/{number}",
            )
            with asyncio.Runner(loop_factory=new_loop) as runner:
                total += runner.run(coroutine)
    finally:
        server.destroy()
    return total


def combinations(arguments: argparse.Namespace) -> list[str]:
    """Give those that are asked for, and that the pool can take part in."""
    ways = arguments.ways if arguments.pool == "aiopool" else {*arguments.ways} - {*LANES}
    return [name for name in COMBINATIONS if name.split("/")[-1] in ways]


def in_a_process(name: str, requests: int, arguments: argparse.Namespace) -> Report:
    """Run one combination in a process of its own."""
    words = [sys.executable, __file__, f"--requests={requests}", f"--seed={arguments.seed}"]
    words += [f"--pool={arguments.pool}", f"--combination={name}", "--json"]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)  # noqa: S603 - this very file
    told: dict[str, Any] = json.loads(done.stdout)
    return Report(
        **{
            name: Counter(value) if isinstance(value, dict) else value
            for name, value in told.items()
        }
    )


def table(reports: dict[str, Report]) -> str:
    """Lay the reports out, one in a line."""
    heads = ["requests", "right", "wrong", "lost", "left", "most", "odd", "shifted"]
    heads += ["cancelled", "timed out", "errors", "faults", "connects", "recovery", "req/s"]
    lines = [" ".join([f"{'':26}", *(f"{head:>9}" for head in heads)])]
    for name, report in reports.items():
        values: list[object] = [
            report.requests,
            report.right,
            report.wrong.total(),
            report.lost,
            report.left,
            report.most,
            report.odd.total(),
            report.shifted,
            report.cancelled,
            report.timed_out,
            report.errors.total(),
            report.faults.total(),
            report.connects,
            f"{report.recovery:.3f}",
            f"{report.requests / report.seconds:.0f}",
        ]
        lines.append(" ".join([f"{name:26}", *(f"{value!s:>9}" for value in values)]))
    return "\n".join(lines)


def main() -> None:
    """Run all combinations, or one, and say what came of it."""
    parser = argparse.ArgumentParser(description="Requests through a pool in chaos.")
    parser.add_argument("--requests", type=int, default=16_000, help="of all combinations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pool", choices=POOLS, default="aiopool")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=WAYS)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--json", action="store_true", help="print no table but all that is known")
    parser.add_argument(
        "--combination", choices=COMBINATIONS, help="only this one, in this process"
    )
    arguments = parser.parse_args()
    if arguments.combination is not None:
        one = arguments.combination
        reports = {one: run_combination(one, arguments.pool, arguments.requests, arguments.seed)}
    else:
        names = combinations(arguments)
        each = -(-arguments.requests // len(names))
        with ThreadPoolExecutor(arguments.jobs) as executor:
            runs = [executor.submit(in_a_process, name, each, arguments) for name in names]
            reports = dict(zip(names, (run.result() for run in runs), strict=True))
    total = sum(reports.values(), Report())
    if arguments.json:
        print(json.dumps(vars(total)))  # noqa: T201 - a command talks
    else:
        print(table(reports | {"sum": total}))  # noqa: T201 - likewise
        for name in ("wrong", "odd", "errors", "faults"):
            print(f"{name}: {dict(sorted(getattr(total, name).items()))}")  # noqa: T201 - likewise
        for example in total.examples[:EXAMPLES]:
            print(example)  # noqa: T201 - likewise
    if arguments.pool == "aiopool" and total.failed and arguments.combination is None:
        sys.exit(1)


if __name__ == "__main__":
    main()
