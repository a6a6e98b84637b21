"""Commands of many tasks on few connections, while servers, networks, callers and pools make trouble.

Each request has a word of its own, and must get that. Whatever happens, with nothing under way nothing is
lent.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from random import Random
from typing import Any, Self

import anyio
import pytest
from peers import COMMANDS
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    InvalidResponse,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from scripts import LOOPS, run_script
from servers import HIREDIS, STRICT, WIRES, Server, Talker, eventually

from aiopool import RedisPool, WrongLoop
from aiopool.redis._errors import PoolClosed, PoolTimeout

PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"

# Enough tries for any trouble here.
PATIENT: dict[str, Any] = {"retry": Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.1), 100)}


@pytest.fixture(params=["resp3-hiredis", "resp2-python"])
def wire(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The two ways in which replies are read: from the wire, and by a task."""
    return WIRES[request.param]


class Teller(Talker):
    """A talker that tells its commands, and may answer in a way of its own."""

    def __init__(self) -> None:
        self.listening = threading.Event()  # else nothing is read
        self.listening.set()
        self.pace = 0.0  # seconds for each command, so that there are always some under way
        self.replies: dict[bytes, bytes] = {}  # to the ECHO of these words
        super().__init__()
        self.pong = b"+PONG\r\n"

    @property
    def words(self) -> list[bytes]:
        """What was to be echoed so far."""
        return [words[1] for words in self.heard if words[0] == b"ECHO"]

    def _reply(self, words: list[bytes]) -> bytes:
        self.listening.wait()
        time.sleep(self.pace)
        match words:
            case [b"COMMAND"]:
                return COMMANDS
            case [b"ECHO", word] if word in self.replies:
                return self.replies[word]
        return super()._reply(words)

    def destroy(self) -> None:
        self.listening.set()
        super().destroy()


@pytest.fixture
def teller() -> Iterator[Teller]:
    teller = Teller()
    yield teller
    teller.destroy()


@contextlib.asynccontextmanager
async def pool_of(url: str, **options: Any) -> AsyncIterator[RedisPool]:
    """A pool of which in the end nothing may be lent, and everything can be."""
    pool = RedisPool(url, **STRICT | options)
    async with asyncio.timeout(20), pool:
        yield pool
        await all_is_back(pool)


async def all_is_back(pool: RedisPool) -> None:
    await eventually(
        lambda: not (pool.stats().lent or pool.stats().opening),
        lambda: f"nothing is lent: {pool}",
        within=2,
    )
    assert pool.stats().waiting == 0
    conns = [await pool.acquire() for _ in range(pool.stats().max_size)]
    for conn in conns:
        await conn.send_command("ECHO", str(id(conn)))
    for conn in conns:
        assert await conn.read_response() == str(id(conn)).encode()
        await pool.release(conn)


async def ask(client: Redis, word: str | bytes) -> None:
    """Ask for one word."""
    word = word.encode() if isinstance(word, str) else word
    assert await client.echo(word) == word


class Crowd:
    """Tasks that ask all the time."""

    def __init__(self, client: Redis, number: int = 200) -> None:
        self.right = 0
        self.errors: Counter[type[Exception]] = Counter()
        self._client = client
        self._number = number
        self._over = False
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for number in range(self._number):
            self._group.create_task(self._ask(number))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._over = True
        await self._group.__aexit__(*exc)

    async def _ask(self, number: int) -> None:
        for turn in count():
            try:
                await ask(self._client, f"{number}.{turn}")
            except AssertionError:
                raise
            except Exception as error:  # noqa: BLE001 - it is looked at
                self.errors[type(error)] += 1
                await asyncio.sleep(0)
            else:
                self.right += 1
            if self._over:
                break

    async def goes_on(self, times: int = 1) -> None:
        """Wait until so many more requests of each task went well."""
        goal = self.right + times * self._number
        await eventually(lambda: self.right >= goal, "requests go well")


def begin(client: Redis, words: Any) -> list["asyncio.Task[None]"]:
    return [asyncio.create_task(ask(client, f"{word}")) for word in words]


async def fates(tasks: list["asyncio.Task[None]"]) -> Counter[type]:
    """Wait for all, and count what came of them."""
    return Counter(type(error) for error in await asyncio.gather(*tasks, return_exceptions=True))


well = type(None)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# ---- the server ends connections, or itself ------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 3])
async def test_kills_under_load_cost_what_is_under_way_a_connection_error_each(
    server: Server, wire, lanes
):
    async with pool_of(server.url, max_size=4, **wire) as pool:
        async with Crowd(pool.pipelined(lanes=lanes)) as crowd:
            for kills in range(1, 11):
                await crowd.goes_on()
                server.run("CLIENT", "KILL", "TYPE", "normal")
                assert crowd.errors.total() <= kills * 200
            await crowd.goes_on()
        assert set(crowd.errors) <= {RedisConnectionError}
        assert set(pool.stats().closed) == {"lost"}
        assert pool.stats().opened <= 11 * lanes


async def test_kills_under_load_cost_callers_who_try_again_no_error(server: Server, wire):
    async with (
        pool_of(server.url, max_size=4, **PATIENT, **wire) as pool,
        Crowd(pool.pipelined(lanes=2)) as crowd,
    ):
        for _ in range(10):
            await crowd.goes_on()
            server.run("CLIENT", "KILL", "TYPE", "normal")
        await crowd.goes_on()
        assert not crowd.errors


@pytest.mark.parametrize("retry", [STRICT, PATIENT], ids=["strict", "patient"])
async def test_a_crash_under_load_costs_connection_errors_and_only_who_does_not_try_again(
    fresh_server: Server, wire, retry
):
    async with pool_of(fresh_server.url, timeout=20, max_size=4, **retry, **wire) as pool:
        async with Crowd(pool.pipelined(lanes=2), 300) as crowd:
            await crowd.goes_on()
            await asyncio.to_thread(fresh_server.kill)
            await asyncio.to_thread(fresh_server.start)
            await crowd.goes_on()
            errors = crowd.errors.copy()
            await crowd.goes_on()
        assert crowd.errors == errors, "it is over"
        assert set(errors) == (set() if retry is PATIENT else {RedisConnectionError})


async def test_a_server_that_hangs_is_a_timeout_error_for_what_is_under_way_and_no_more(
    server: Server, wire
):
    loop = asyncio.get_running_loop()
    async with pool_of(server.url, max_size=2, socket_timeout=0.5, **wire) as pool:
        client = pool.pipelined(max_in_flight=200)
        await ask(client, "first")
        begun = loop.time()
        with server.frozen():
            tasks = begin(client, range(300))
            under_way, rest = tasks[:200], tasks[200:]
            assert await fates(under_way) == {RedisTimeoutError: 200}
            took = loop.time() - begun
        assert 0.49 < took < 1.3
        assert await fates(rest) == {well: 100}
        assert pool.stats().closed == {"unusable": 1}
        assert pool.stats().opened == 2


async def test_a_server_that_hangs_under_load_costs_timeout_errors_until_it_goes_on(
    server: Server, wire
):
    async with pool_of(server.url, max_size=4, socket_timeout=0.1, **wire) as pool:
        async with Crowd(pool.pipelined(lanes=2)) as crowd:
            await crowd.goes_on()
            with server.frozen():
                await eventually(lambda: crowd.errors.total() > 600, "all were told twice")
            await crowd.goes_on()
        assert set(crowd.errors) == {RedisTimeoutError}


async def test_a_command_refused_for_want_of_memory_is_its_callers_trouble(fresh_server: Server):
    async with (
        pool_of(fresh_server.url) as pool,
        Crowd(client := pool.pipelined()) as crowd,
    ):
        await crowd.goes_on()
        fresh_server.run("CONFIG", "SET", "maxmemory", 1)
        results = await asyncio.gather(
            *(client.set(f"key{n}", n) for n in range(50)), return_exceptions=True
        )
        assert {type(result) for result in results} == {OutOfMemoryError}
        await crowd.goes_on()
        assert not crowd.errors
        assert pool.stats().opened == 1


# ---- callers are cancelled -----------------------------------------------------------------------


async def _patiently(call: Any, _seconds: float) -> None:
    await call


async def _cancelled(call: Any, seconds: float) -> None:
    task = asyncio.create_task(call)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])


async def _cancelled_twice(call: Any, seconds: float) -> None:
    task = asyncio.create_task(call)
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def _timeout(call: Any, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await call


async def _wait_for(call: Any, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(call, seconds)


async def _move_on_after(call: Any, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await call


async def _fail_after(call: Any, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        with anyio.fail_after(seconds):
            await call


WAYS = [_cancelled, _cancelled_twice, _timeout, _wait_for, _move_on_after, _fail_after]


@pytest.mark.parametrize("max_in_flight", [10_000, 10])
async def test_cancellations_at_any_moment_reach_nobody_else_and_cost_no_connection(
    server: Server, wire, max_in_flight
):
    async def work(number: int) -> None:
        draw = Random(number)
        for turn in range(15):
            way = draw.choice([_patiently, draw.choice(WAYS)])
            # Usually while it is under way, and often before it has been written.
            seconds = draw.choice([0, draw.uniform(0, 0.02)])
            with contextlib.suppress(asyncio.CancelledError):
                await way(ask(client, f"{number}.{turn}"), seconds)

    async with pool_of(server.url, max_size=2, **wire) as pool:
        client = pool.pipelined(max_in_flight=max_in_flight)
        await asyncio.gather(*map(work, range(100)))
        assert pool.stats().opened == 1
        assert pool.stats().closed == {}


async def test_a_command_whose_caller_leaves_before_it_is_written_is_never_sent(teller, wire):
    async with pool_of(teller.url, max_size=1, **wire) as pool:
        client = pool.pipelined(max_in_flight=2)
        await ask(client, "known")
        at_once = begin(client, ["at once"])[0]
        asyncio.get_running_loop().call_soon(at_once.cancel)  # in the turn in which it asks
        await fates([at_once])
        teller.mute.set()
        tasks = begin(client, range(6))
        await eventually(lambda: teller.words[-1] == b"1", "two are under way")
        tasks[2].cancel()
        tasks[4].cancel()
        teller.mute.clear()
        teller.say(b"$1\r\n0\r\n$1\r\n1\r\n")
        assert await fates(tasks) == {well: 4, asyncio.CancelledError: 2}
        assert teller.words == [b"known", b"0", b"1", b"3", b"5"]
        assert teller.connects == 1


async def test_a_reply_that_comes_in_the_turn_of_the_cancellation_is_dropped(teller, wire):
    async def first() -> None:
        await ask(client, "first")
        second.cancel()  # has its reply, from the same packet, but has not run yet
        second.cancel()

    async with pool_of(teller.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.mute.set()
        one = asyncio.create_task(first())
        second, third = begin(client, ["second", "third"])
        await eventually(lambda: len(teller.words) == 4, "three are under way")
        teller.mute.clear()
        teller.say(b"$5\r\nfirst\r\n$6\r\nsecond\r\n$5\r\nthird\r\n")
        await asyncio.gather(one, third)
        await fates([second])
        assert second.cancelled()
        await ask(client, "fourth")
        assert teller.connects == 1


async def test_a_connection_that_comes_in_the_turn_in_which_all_leave_goes_back(server, wire):
    async with pool_of(server.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        conn = await pool.acquire()
        tasks = begin(client, range(20))
        await eventually(lambda: pool.stats().waiting, "it is in line")
        await pool.release(conn)
        for task in tasks:
            task.cancel()
        await fates(tasks)
        await turns(2)
        assert (pool.stats().lent, pool.stats().waiting) == (0, 0)


async def test_nobody_is_in_line_for_who_was_cancelled_at_the_second_try(fresh_server, wire):
    async with pool_of(fresh_server.url, max_size=1, **PATIENT, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        with fresh_server.frozen():
            tasks = begin(client, range(20))
            await turns(5)
            assert pool.stats().lent == 1
            fresh_server.kill()
            await eventually(lambda: pool.stats().open_failed, "it was tried again")
            for task in tasks:
                task.cancel()
            await fates(tasks)
            assert pool.stats().waiting == 0
        fresh_server.start()


# ---- the pool is closed, drained, resized, exhausted ---------------------------------------------


async def test_closing_with_grace_lets_hundreds_under_way_end_and_refuses_the_next(teller, wire):
    pool = RedisPool(teller.url, **PATIENT, **wire)
    async with asyncio.timeout(20), pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.mute.set()
        tasks = begin(client, range(100, 400))
        await eventually(lambda: len(teller.words) == 301, "all are under way")
        closing = asyncio.create_task(pool.aclose())
        await turns(1)
        with pytest.raises(PoolClosed):
            await ask(client, "too late")
        assert not closing.done()
        teller.say(b"".join(b"$3\r\n%d\r\n" % number for number in range(100, 400)))
        assert await fates(tasks) == {well: 300}
        await closing
        assert (pool.stats().size, pool.stats().lent) == (0, 0)
        teller.mute.clear()
        await pool.open()
        await ask(client, "again")


async def test_closing_without_grace_ends_hundreds_under_way_and_in_line_and_sends_no_more(
    teller, wire
):
    pool = RedisPool(teller.url, **PATIENT, **wire)
    async with asyncio.timeout(20), pool:
        client = pool.pipelined(max_in_flight=300)
        await ask(client, "known")
        teller.mute.set()
        tasks = begin(client, range(400))
        await eventually(lambda: len(teller.words) == 301, "many are under way")
        await pool.aclose(timeout=0)
        assert await fates(tasks[:300]) == {RedisConnectionError: 300}
        assert set(await fates(tasks[300:])) <= {PoolClosed}
        assert (pool.stats().size, pool.stats().lent, pool.stats().waiting) == (0, 0, 0)
        assert not pool._core._severed, "no lane can give anything back later"
        assert len(teller.words) == 301
        assert teller.connects == 1
        teller.mute.clear()
        await pool.open()
        await ask(client, "again")


async def test_closing_a_pool_that_opened_itself_is_not_the_end_of_its_client(server, wire):
    pool = RedisPool(server.url, **STRICT, **wire)
    async with asyncio.timeout(20), Crowd(pool.pipelined(lanes=2)) as crowd:
        for _ in range(5):
            await crowd.goes_on()
            await pool.aclose()
        await crowd.goes_on()
    assert set(crowd.errors) <= {RedisConnectionError, PoolClosed}
    await pool.aclose()


async def test_lanes_that_are_hardly_ever_idle_are_drained_all_the_same(teller, wire):
    teller.pace = 0.001
    async with pool_of(teller.url, max_size=2, **wire) as pool:
        async with Crowd(pool.pipelined(lanes=2), 100) as crowd:
            for number in range(1, 6):
                await eventually(lambda: pool.stats().lent == 2, "there are two lanes")
                opened, acquired = pool.stats().opened, pool.stats().acquired
                await crowd.goes_on()
                assert pool.stats().acquired <= acquired + 2, "they are hardly ever idle"
                pool.drain()
                await eventually(lambda opened=opened: pool.stats().opened == opened + 2, "new")
                assert pool.stats().closed == {"drained": 2 * number}
        assert not crowd.errors


async def test_a_lane_that_is_never_idle_is_as_mortal_as_others(teller, wire):
    teller.pace = 0.0001
    async with pool_of(teller.url, max_lifetime=0.1, **wire) as pool:
        async with Crowd(pool.pipelined(), 50) as crowd:
            await eventually(
                lambda: pool.stats().closed.get("max_lifetime", 0) >= 3, "three have aged"
            )
        assert not crowd.errors
        assert set(pool.stats().closed) == {"max_lifetime"}


async def test_lanes_that_are_hardly_ever_idle_keep_no_pool_from_shrinking(teller, wire):
    teller.pace = 0.0001
    async with pool_of(teller.url, max_size=3, **wire) as pool:
        async with Crowd(pool.pipelined(lanes=3), 100) as crowd:
            await eventually(lambda: pool.stats().lent == 3, "there are three lanes")
            pool.resize(max_size=1)
            await eventually(lambda: pool.stats().size == 1, "there is one connection", within=2)
            await crowd.goes_on()
            assert pool.stats().size == 1
        assert not crowd.errors


@pytest.mark.parametrize("check", [False, True])
async def test_a_connection_drained_before_its_first_command_is_not_kept(teller, wire, check):
    options = {"health_check_interval": 0.1} if check else {}
    async with pool_of(teller.url, max_size=1, **options, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        conn = await pool.acquire()
        task = begin(client, ["mine"])[0]
        await eventually(lambda: pool.stats().waiting, "it is in line")
        if check:
            await asyncio.sleep(0.1)  # so it is due
            teller.listening.clear()
        await pool.release(conn)
        if check:
            await turns(3)
        pool.drain()
        teller.listening.set()
        await task
        assert teller.connects == 2
        assert pool.stats().closed == {"drained": 1}


async def test_with_one_connection_lanes_and_blocking_commands_take_turns(server: Server, wire):
    async def block(number: int) -> None:
        for _ in range(2):
            assert await client.blpop([f"list{number}"], timeout=0.01) is None

    async with pool_of(server.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        async with Crowd(client, 50) as crowd:
            await crowd.goes_on()
            await asyncio.gather(*map(block, range(3)))
            await crowd.goes_on()
        assert not crowd.errors
        assert pool.stats().opened == 1


async def test_with_one_connection_a_lane_that_is_never_idle_lets_others_have_it(
    teller, wire, monkeypatch
):
    monkeypatch.setattr("aiopool.redis._lanes.TURN", 0.03)
    teller.pace = 0.0001
    async with pool_of(teller.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        async with Crowd(client, 100) as crowd:
            for _ in range(5):
                acquired = -1
                while (
                    pool.stats().acquired != acquired
                ):  # idle, as when this process has stood still
                    await crowd.goes_on()
                    acquired = pool.stats().acquired
                    await crowd.goes_on()
                await asyncio.gather(*(client.execute_command("SELECT", 0) for _ in range(3)))
        assert not crowd.errors
        assert teller.connects == 1


async def test_who_waits_too_long_for_the_one_connection_is_told_and_nobody_else(server, wire):
    async with pool_of(server.url, max_size=1, timeout=0.1, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        blocked = asyncio.create_task(client.blpop(["list"], timeout=60))
        await eventually(
            lambda: [c for c in server.clients() if "b" in c["flags"]], "it is blocked"
        )
        assert await fates(begin(client, range(50))) == {PoolTimeout: 50}
        assert pool.stats().waiting == 0
        server.run("RPUSH", "list", "item")
        assert (await blocked)[1] == b"item"
        with server.frozen():
            under_way = begin(client, range(50))
            await turns(2)
            with pytest.raises(PoolTimeout):
                await client.blpop(["list"], timeout=60)
        assert await fates(under_way) == {well: 50}


# ---- slow and bad peers --------------------------------------------------------------------------


async def test_with_two_lanes_small_replies_do_not_wait_for_a_huge_one(teller, wire):
    teller.replies = {b"huge": b"$2000000\r\n" + b"x" * 1_000_000}
    async with pool_of(teller.url, max_size=2, **wire) as pool:
        client = pool.pipelined(lanes=2)
        await ask(client, "known")
        await pool.warm(2)  # which is lent first
        getting = asyncio.create_task(client.echo("huge"))
        await eventually(lambda: b"huge" in teller.words, "it is asked for")
        for number in range(20):
            await ask(client, f"{number}")
        assert not getting.done()
        teller._sockets[1].sendall(b"x" * 1_000_000 + b"\r\n")
        assert await getting == b"x" * 2_000_000
        assert teller.connects == 2


async def test_huge_replies_and_small_ones_reach_their_callers(server: Server, wire):
    async def get(number: int) -> None:
        assert await client.get(f"huge{number}") == b"%d" % number * 300_000

    for number in range(10, 20):
        server.run("SET", f"huge{number}", f"{number}" * 300_000)
    async with pool_of(server.url, max_size=3, **wire) as pool:
        client = pool.pipelined(lanes=3)
        async with Crowd(client, 30) as crowd:
            await asyncio.gather(*(get(number) for number in range(10, 20) for _ in range(2)))
        assert not crowd.errors


async def test_what_a_peer_does_not_read_is_held_back_and_sent_in_its_order(teller, wire):
    words = [b"%d" % number + b"x" * 60_000 for number in range(100, 500)]
    async with pool_of(teller.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.listening.clear()
        tasks = [asyncio.create_task(ask(client, word)) for word in words]
        await eventually(lambda: pool.stats().lent, "they are being sent")
        (conn,) = pool._core.lent_connections()
        most = 0
        for _ in range(20):
            await asyncio.sleep(0.001)
            most = max(most, conn.transport.get_write_buffer_size())
        # asyncio's mark, and what is written at a time, with one more command.
        assert 65536 < most < 4 * 65536
        under_way = pool.holders()[0].task
        assert under_way != "(lane: 400 commands under way)"
        late = begin(client, ["late"])[0]
        await turns(2)
        words.append(b"late")
        teller.listening.set()
        assert await fates([*tasks, late]) == {well: 401}
        assert teller.words[1:] == words
        assert teller.connects == 1


async def test_what_was_held_back_goes_out_when_the_peer_reads_though_it_answers_nothing(teller):
    words = [b"%d" % number + b"x" * 60_000 for number in range(400)]
    async with pool_of(teller.url, max_size=1, **WIRES["resp3-hiredis"]) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.listening.clear()
        teller.mute.set()
        tasks = [asyncio.create_task(ask(client, word)) for word in words]
        await eventually(lambda: pool.stats().lent, "they are being sent")
        await turns(10)
        teller.listening.set()
        await eventually(lambda: len(teller.words) == 401, "all is sent")
        teller.mute.clear()
        replies = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        await asyncio.to_thread(teller.say, replies)
        assert await fates(tasks) == {well: 400}
        assert teller.connects == 1


async def test_who_waits_in_vain_for_a_peer_to_read_is_told_what_is_the_matter(teller, wire):
    words = [b"%d" % number + b"x" * 60_000 for number in range(400)]
    async with pool_of(teller.url, socket_timeout=0.6, timeout=0.2, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.listening.clear()
        tasks = [asyncio.create_task(ask(client, word)) for word in words]
        ends = await fates(tasks)
        assert set(ends) == {RedisTimeoutError, PoolTimeout}
        held_back = [task.exception() for task in tasks].index
        first = next(n for n, task in enumerate(tasks) if type(task.exception()) is PoolTimeout)
        assert {type(task.exception()) for task in tasks[:first]} == {RedisTimeoutError}, held_back
        assert {type(task.exception()) for task in tasks[first:]} == {PoolTimeout}
        assert "no room for a command on 1 of 1 lanes" in str(tasks[-1].exception())
        teller.listening.set()


@contextlib.asynccontextmanager
async def three_under_way(
    teller: Teller, **options: Any
) -> AsyncIterator[tuple[RedisPool, Redis, list["asyncio.Task[None]"]]]:
    async with pool_of(teller.url, max_size=1, **options) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.mute.set()
        tasks = begin(client, ["one", "two", "three"])
        await eventually(lambda: len(teller.words) == 4, "three are under way")
        yield pool, client, tasks
        teller.mute.clear()
        await ask(client, "next")
        assert teller.connects == 2


async def test_half_a_reply_and_then_silence_is_a_timeout_for_those_not_answered(teller, wire):
    async with three_under_way(teller, socket_timeout=0.1, **wire) as (pool, _, tasks):
        teller.say(b"$3\r\none\r\n$3\r\nt")
        assert await fates(tasks) == {well: 1, RedisTimeoutError: 2}
        assert tasks[0].exception() is None
        assert pool.stats().closed == {"unusable": 1}


async def test_half_a_reply_and_then_the_end_is_a_connection_error_for_those_not_answered(
    teller, wire
):
    async with three_under_way(teller, **wire) as (pool, _, tasks):
        teller.say(b"$3\r\none\r\n$3\r\nt")
        teller.hang_up()
        assert await fates(tasks) == {well: 1, RedisConnectionError: 2}
        assert tasks[0].exception() is None
        assert tasks[1].exception() is not tasks[2].exception()
        assert pool.stats().closed == {"lost": 1}


async def test_garbage_behind_a_reply_is_an_error_for_those_not_answered(teller, wire):
    async with three_under_way(teller, **wire) as (pool, _, tasks):
        teller.say(b"$3\r\none\r\nwhat?\r\n$3\r\ntwo\r\n")
        assert await fates(tasks) == {well: 1, InvalidResponse: 2}
        assert tasks[0].exception() is None
        assert pool.stats().closed == {"unusable": 1}


async def test_replies_that_nobody_asked_for_behind_the_last_one_reach_nobody(teller, wire):
    async with three_under_way(teller, **wire) as (pool, _, tasks):
        teller.say(b"$3\r\none\r\n$3\r\ntwo\r\n$5\r\nthree\r\n$6\r\nstrays\r\n" + b":1\r\n" * 5)
        assert await fates(tasks) == {well: 3}
        await turns(2)
        assert pool.stats().closed == {"unusable": 1}


async def test_replies_that_nobody_asked_for_on_an_idle_connection_reach_nobody(teller, wire):
    async with pool_of(teller.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        for seen in (True, False):
            (conn,) = pool._core.idle_connections()
            teller.say(b"$6\r\nstrays\r\n")
            if seen:
                await eventually(lambda conn=conn: conn._reader._buffer, "the loop has read it")
            assert await fates(begin(client, range(20))) == {well: 20}
        assert teller.connects == 3


@pytest.mark.parametrize(
    ("said", "error", "connects"),
    [
        (b"-ERR no\r\n", ResponseError, 1),
        (b"-READONLY You can't write against a read only replica.\r\n", ReadOnlyError, 1),
        (b"-LOADING Redis is loading the dataset in memory\r\n", BusyLoadingError, 2),
        (b"-MASTERDOWN Link with MASTER is down\r\n", MasterDownError, 1),
        (b"-NOAUTH Authentication required.\r\n", AuthenticationError, 2),
    ],
)
async def test_an_error_as_reply_is_its_callers_and_ends_the_connection_if_it_does_in_redis_py(
    teller, wire, said, error, connects
):
    teller.replies = {b"25": said}
    async with pool_of(teller.url, max_size=1, **wire) as pool:
        client = pool.pipelined()
        tasks = begin(client, range(50))
        # redis-py's parser in Python can't tell such an error from one in the middle of a reply.
        reach = 25 if connects > 1 and wire in (WIRES["resp2-python"], WIRES["resp3-python"]) else 1
        assert await fates(tasks) == {well: 50 - reach, error: reach}
        assert {type(task.exception()) for task in tasks[25 : 25 + reach]} == {error}
        await ask(client, "next")
        assert teller.connects == connects


# ---- push messages -------------------------------------------------------------------------------

Handler = Callable[[Any], Any]


@contextlib.asynccontextmanager
async def listened_to(
    teller: Teller, handler: Handler, **options: Any
) -> AsyncIterator[tuple[RedisPool, Redis]]:
    """A client on whose connections somebody listens for push messages."""
    async with pool_of(teller.url, **{"max_size": 1, "protocol": 3, **options}) as pool:
        client = pool.pipelined(lanes=pool.stats().max_size)
        await ask(client, "known")
        await pool.warm(pool.stats().max_size)
        for conn in pool._core.idle_connections():
            conn._parser.set_invalidation_push_handler(handler)
        yield pool, client


@pytest.fixture(params=["resp3-hiredis", "resp3-python"])
def resp3(request: pytest.FixtureRequest) -> dict[str, Any]:
    return WIRES[request.param]


@pytest.mark.parametrize("slowly", [False, True])
async def test_push_messages_between_replies_are_handled_and_no_reply_is_lost(
    teller, resp3, slowly
):
    async def handle(message: list[Any]) -> None:
        if slowly:
            await asyncio.sleep(0.001)
        heard.append(message)

    heard: list[list[Any]] = []
    for number in range(20):
        words = b"$2\r\n%d\r\n" % (number + 10)
        teller.replies[b"%d" % (number + 10)] = [words + PUSH, PUSH * 3 + words, words][number % 3]
    async with listened_to(teller, handle, **resp3) as (pool, client):
        assert await fates(begin(client, range(10, 30))) == {well: 20}
        await all_is_back(pool)
        assert len(heard) == 7 + 3 * 7
        assert teller.connects == 1


async def test_replies_behind_a_push_message_wait_for_its_handler_and_other_lanes_do_not(
    teller, resp3
):
    async def handle(_message: list[Any]) -> None:
        heard.set()
        await go_on.wait()

    heard, go_on = asyncio.Event(), asyncio.Event()
    teller.replies = {b"first": PUSH + b"$5\r\nfirst\r\n"}
    async with listened_to(teller, handle, max_size=2, **resp3) as (_, client):
        first, second = begin(client, ["first", "second"])
        await heard.wait()
        for number in range(5):
            await ask(client, f"{number}")
        assert not first.done()
        go_on.set()
        assert await fates([first, second]) == {well: 2}


async def test_an_unanswered_command_behind_a_handler_that_hangs_is_a_timeout(teller):
    async def handle(_message: list[Any]) -> None:
        await go_on.wait()

    go_on = asyncio.Event()
    teller.replies = {b"first": PUSH + b"$5\r\nfirst\r\n"}
    async with listened_to(teller, handle, socket_timeout=0.1, **HIREDIS) as (pool, client):
        assert await fates(begin(client, ["first", "second"])) == {RedisTimeoutError: 2}
        assert await fates(begin(client, ["third"])) == {well: 1}
        go_on.set()
        await turns(3)
        assert pool.stats().closed == {"unusable": 1}


async def test_a_handler_that_ends_in_a_cancellation_leaves_nobody_waiting(teller, resp3):
    async def handle(_message: list[Any]) -> None:
        raise asyncio.CancelledError  # as of a task that it has awaited

    teller.replies = {b"first": PUSH + b"$5\r\nfirst\r\n"}
    async with listened_to(teller, handle, **resp3) as (pool, client):
        assert await fates(begin(client, ["first", "second"])) == {RedisConnectionError: 2}
        await ask(client, "third")
        assert pool.stats().closed == {"unusable": 1}


# ---- health checks -------------------------------------------------------------------------------


async def test_a_health_check_that_is_due_comes_first_and_once_for_all(teller, wire):
    async with pool_of(teller.url, max_size=1, health_check_interval=0.02, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        teller.heard.clear()
        await asyncio.sleep(0.03)
        assert await fates(begin(client, range(50))) == {well: 50}
        assert [words[0] for words in teller.heard[:2]] == [b"PING", b"ECHO"]
        assert sum(words[0] == b"PING" for words in teller.heard) == 1
        assert teller.connects == 1


async def test_all_who_wait_for_a_health_check_can_leave(teller, wire):
    async with pool_of(teller.url, max_size=1, health_check_interval=0.02, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        await asyncio.sleep(0.03)
        teller.listening.clear()
        tasks = begin(client, range(50))
        await eventually(lambda: pool.stats().lent, "it is checked")
        for task in tasks:
            task.cancel()
        await fates(tasks)
        teller.listening.set()
        await all_is_back(pool)
        assert len(teller.words) == 2


async def test_a_health_check_that_fails_is_no_trouble_for_whom_there_is_another_lane(teller, wire):
    async with pool_of(teller.url, max_size=2, health_check_interval=0.02, **wire) as pool:
        client = pool.pipelined(lanes=2, max_in_flight=2)
        await ask(client, "known")
        await pool.warm(2)
        await asyncio.sleep(0.03)
        teller.mute.set()
        tasks = begin(client, ["first"])
        await eventually(lambda: teller.words[-1] == b"first", "it is under way")
        teller.pong = b"+no\r\n"
        tasks += begin(client, ["second", "third", "fourth"])
        await eventually(lambda: teller.words[-1] == b"second", "the lane is full")
        await eventually(lambda: pool.stats().size == 1, "the other has been found dead")
        teller.pong = b"+PONG\r\n"
        teller.mute.clear()
        teller.say(b"$5\r\nfirst\r\n$6\r\nsecond\r\n")
        assert await fates(tasks) == {well: 4}


# ---- the tasks of the lanes ----------------------------------------------------------------------


def cancel(name: str) -> bool:
    """Cancel the tasks of this name, from outside; says whether there were any."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == name]
    for task in tasks:
        task.cancel()
    return bool(tasks)


async def test_a_reading_task_that_is_cancelled_is_a_connection_error_for_what_is_under_way(teller):
    async with three_under_way(teller, **WIRES["resp3-python"]) as (pool, _, tasks):
        assert cancel("aiopool-lane")
        assert await fates(tasks) == {RedisConnectionError: 3}
        assert pool.stats().closed == {"unusable": 1}


async def test_after_a_health_check_that_is_cancelled_another_connection_serves_who_waits(
    teller, wire
):
    async with pool_of(teller.url, max_size=1, health_check_interval=0.02, **wire) as pool:
        client = pool.pipelined()
        await ask(client, "known")
        await asyncio.sleep(0.03)
        teller.listening.clear()
        tasks = begin(client, range(20))

        def given_up() -> bool:
            """Cancel the check, again if need be: before Python 3.12 redis-py's writing may lose that."""
            cancel("aiopool-lane-check")
            return bool(pool.stats().closed)

        await eventually(given_up, "it was checked, in vain")
        teller.listening.set()
        assert await fates(tasks) == {well: 20}
        assert teller.connects == 2


async def test_who_waits_for_the_servers_commands_hears_of_a_cancellation_by_an_error(teller):
    teller.listening.clear()
    pool = RedisPool(teller.url, **STRICT, protocol=2)
    client = pool.pipelined()
    tasks = begin(client, range(20))
    await eventually(lambda: cancel("aiopool-commands"), "it is asked")
    assert await fates(tasks) == {RedisConnectionError: 20}
    teller.listening.set()
    await ask(client, "next")
    await pool.aclose()


# ---- loops, threads, processes -------------------------------------------------------------------


async def test_another_thread_is_refused_and_the_first_goes_on(server: Server, wire):
    async def elsewhere() -> Counter[type]:
        return await fates(begin(client, range(20)))

    async with pool_of(server.url, **wire) as pool:
        client = pool.pipelined()
        async with Crowd(client) as crowd:
            await crowd.goes_on()
            for _ in range(3):
                ends = await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
                assert ends == {WrongLoop: 20}
            await crowd.goes_on()
        assert not crowd.errors
        assert pool.stats().opened == 1


async def test_another_thread_may_be_the_first_to_ask(server: Server):
    async def elsewhere() -> None:
        assert await fates(begin(client, range(20))) == {well: 20}

    pool = RedisPool(server.url, **STRICT)
    client = pool.pipelined()
    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
    await elsewhere()
    await pool.aclose()


RUNS = """
client = pool.pipelined()

async def use():
    words = [str(number) for number in range(50)]
    assert await asyncio.gather(*map(client.echo, words)) == [word.encode() for word in words]

async def leave():
    await use()
    tasks = [asyncio.create_task(client.echo("left")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pool.stats().lent == 1
    return tasks

async def leave_in_line():
    left = [await pool.acquire() for _ in range(2)]
    return left, await leave_without_looking()

async def leave_without_looking():
    tasks = [asyncio.create_task(client.echo("left")) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks

for _ in range(3):
    for end in (leave, leave_in_line):
        left = run(end())
        run(use())
        assert pool.stats().lent == 0
        del left
        gc.collect()
run(pool.aclose())

# ---- a child, while commands of the parent are under way

def in_child():
    run(use())
    assert pool.stats().lent == 0
    run(pool.aclose())

async def parent():
    tasks = await leave()
    pid = os.fork()
    if not pid:
        try:
            logging.disable()
            in_child()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"
    assert await asyncio.gather(*tasks) == [b"left"] * 10
    await use()
    assert (pool.stats().lent, pool.stats().opened - opened) == (0, 1)
    await pool.aclose()

opened = pool.stats().opened
run(parent())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_begins_anew_and_a_child_leaves_its_parents_commands_alone(server, tmp_path, loop):
    run_script(tmp_path, RUNS, loop, server.url, "")
