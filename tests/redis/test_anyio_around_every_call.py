"""Every call inside every construct that cancels, anyio's and asyncio's own.

Each pair of the two tables is tried at several moments, and once more when the call is stuck for
certain. Whatever comes of it: the construct ends as it should, and of the pool nothing is lost.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import anyio
import pytest
from redis.asyncio import Redis
from servers import STRICT, Server, eventually

from aiopool import RedisPool

pytestmark = pytest.mark.eager

SIZE = 3


class Moment(NamedTuple):
    """When the cancellation comes."""

    turns: int  # of the event loop
    stuck: bool = False  # the call can't end before
    lifted: bool = False  # but could from this turn on, in constructs that count turns

    @property
    def seconds(self) -> float:
        return self.turns * 0.0001


STUCK = Moment(25, stuck=True)
MOMENTS = [*map(Moment, (0, 1, 2, 4, 7)), STUCK, STUCK._replace(lifted=True)]


class World(NamedTuple):
    server: Server
    pool: RedisPool
    client: Redis


# ---- what keeps a call from ending ---------------------------------------------------------------


@asynccontextmanager
async def frozen(world: World) -> AsyncIterator[None]:
    """The server neither reads nor writes."""
    pid = world.server._process.pid
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)  # noqa: ASYNC222 - it takes no time
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def frozen_and_empty(world: World) -> AsyncIterator[None]:
    """Nor is there a connection yet."""
    async with frozen(world):
        world.pool.drain()
        yield


@asynccontextmanager
async def all_lent(world: World) -> AsyncIterator[None]:
    """Others have all connections."""
    async with AsyncExitStack() as stack:
        for _ in range(SIZE):
            await asyncio.create_task(stack.enter_async_context(world.pool.connection()))
        yield


@asynccontextmanager
async def nothing_pushed(world: World) -> AsyncIterator[None]:
    """The list that a blocking command pops from is empty."""
    world.server.run("DEL", "list")
    yield
    world.server.run("RPUSH", "list", "item")


# ---- calls ---------------------------------------------------------------------------------------


async def acquire(world: World) -> object:
    conn = await world.pool.acquire()
    await world.pool.release(conn)
    return "lent"


async def release_in_finally(world: World) -> object:
    conn = await world.pool.acquire()
    try:
        await conn.send_command("ECHO", "mine")
        return await conn.read_response()
    finally:
        await world.pool.release(conn)


async def connection(world: World) -> object:
    async with world.pool.connection() as conn:
        await conn.send_command("ECHO", "mine")
        return await conn.read_response()


async def open_(world: World) -> object:
    await world.pool.open()
    return world.pool.stats().size


async def async_with_pool(world: World) -> object:
    try:
        async with world.pool:
            return world.pool.stats().size
    finally:
        assert "closed" in repr(world.pool)


async def warm(world: World) -> object:
    return await world.pool.warm(SIZE)


async def aclose(world: World) -> object:
    await world.pool.aclose(timeout=None)
    return world.pool.stats().size


async def command(world: World) -> object:
    return await world.client.get("number")


async def pipeline(world: World) -> object:
    async with world.client.pipeline(transaction=False) as pipe:
        return await pipe.get("number").echo("mine").execute()


async def transaction(world: World) -> object:
    async with world.client.pipeline() as pipe:
        return await pipe.get("number").echo("mine").execute()


async def watching_transaction(world: World) -> object:
    async with world.client.pipeline() as pipe:
        await pipe.watch("number")
        value = await pipe.get("number")
        pipe.multi()
        return await pipe.set("number", value).get("number").execute()


async def subscription(world: World) -> object:
    async with world.client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        message = await pubsub.get_message(timeout=None)
        return message["type"]


async def blocking_command(world: World) -> object:
    return tuple(await world.client.blpop(["list"], timeout=0))


async def lock(world: World) -> object:
    async with world.client.lock("lock", timeout=60, sleep=0.001):
        return await world.client.get("number")


class Call(NamedTuple):
    make: Callable[[World], Awaitable[object]]
    result: object
    obstacle: Callable[[World], Any]
    begins_closed: bool = False
    ends_closed: bool = False


CALLS = {
    "acquire() of one that is to come back": Call(acquire, "lent", all_lent),
    "acquire() of one that is to be opened": Call(acquire, "lent", frozen_and_empty),
    "release() in a finally": Call(release_in_finally, b"mine", frozen),
    "connection()": Call(connection, b"mine", frozen),
    "open()": Call(open_, 2, frozen, begins_closed=True),
    "async with pool": Call(async_with_pool, 2, frozen, begins_closed=True),
    "warm()": Call(warm, SIZE, frozen_and_empty),
    "aclose()": Call(aclose, 0, all_lent, ends_closed=True),
    "a command": Call(command, b"1", frozen),
    "a command that waits for a connection": Call(command, b"1", all_lent),
    "a pipeline": Call(pipeline, [b"1", b"mine"], frozen),
    "a transaction": Call(transaction, [b"1", b"mine"], frozen),
    "a transaction with WATCH": Call(watching_transaction, [True, b"1"], frozen),
    "a subscription": Call(subscription, "subscribe", frozen),
    "a blocking command": Call(blocking_command, (b"list", b"item"), nothing_pushed),
    "a lock": Call(lock, b"1", frozen),
}


@dataclass
class Attempt:
    """One call, to be interrupted at a certain moment."""

    world: World
    call: Call
    moment: Moment
    obstacles: AsyncExitStack = field(default_factory=AsyncExitStack)
    result: object = None  # None if it was interrupted

    async def make(self) -> None:
        self.result = await self.call.make(self.world)

    @property
    def interrupted(self) -> bool:
        return self.result is None

    async def come(self) -> None:
        """Let the moment come."""
        for _ in range(self.moment.turns):
            await asyncio.sleep(0)
        if self.moment.lifted:
            await self.obstacles.aclose()


# ---- constructs that cancel ----------------------------------------------------------------------


class Boom(Exception):
    pass


async def boom(attempt: Attempt) -> None:
    await attempt.come()
    raise Boom


@asynccontextmanager
async def aside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do something in another task, and see it end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await task


async def move_on_after(attempt: Attempt) -> None:
    with anyio.move_on_after(attempt.moment.seconds) as scope:
        await attempt.make()
    assert scope.cancelled_caught is attempt.interrupted


async def fail_after(attempt: Attempt) -> None:
    caught = None
    try:
        with anyio.fail_after(attempt.moment.seconds) as scope:
            await attempt.make()
    except TimeoutError as error:
        caught = type(error)
    # TimeoutError itself, not the pool's.
    assert caught is (TimeoutError if attempt.interrupted else None)
    assert scope.cancelled_caught is attempt.interrupted


async def scope_cancelled_by_another_task(attempt: Attempt) -> None:
    async def cancel() -> None:
        await attempt.come()
        scope.cancel()

    scope = anyio.CancelScope()
    async with aside(cancel()):
        with scope:
            await attempt.make()
        assert scope.cancelled_caught is attempt.interrupted


async def shield_inside_a_cancelled_scope(attempt: Attempt) -> None:
    async def cancel() -> None:
        await attempt.come()
        outer.cancel()
        await attempt.obstacles.aclose()

    outer = anyio.CancelScope()
    async with aside(cancel()):
        with outer:
            with anyio.CancelScope(shield=True) as shield:
                await attempt.make()
            await anyio.sleep_forever()
        assert outer.cancelled_caught
        assert not shield.cancelled_caught
        assert not attempt.interrupted


async def task_group_with_a_sibling_that_fails(attempt: Attempt) -> None:
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
        async with anyio.create_task_group() as group:
            group.start_soon(boom, attempt)
            await attempt.make()
    assert [type(error) for error in caught.value.exceptions] == [Boom]


async def child_of_a_task_group_that_is_cancelled(attempt: Attempt) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(attempt.make)
        await attempt.come()
        group.cancel_scope.cancel()


async def asyncio_timeout(attempt: Attempt) -> None:
    caught = None
    try:
        async with asyncio.timeout(attempt.moment.seconds):
            await attempt.make()
    except TimeoutError as error:
        caught = type(error)
    assert caught is (TimeoutError if attempt.interrupted else None)


async def asyncio_timeout_inside_a_scope_that_ends_first(attempt: Attempt) -> None:
    with anyio.move_on_after(attempt.moment.seconds) as scope:
        async with asyncio.timeout(60):
            await attempt.make()
    assert scope.cancelled_caught is attempt.interrupted


async def scope_inside_an_asyncio_timeout_that_ends_first(attempt: Attempt) -> None:
    caught = None
    scope = anyio.move_on_after(60)
    try:
        async with asyncio.timeout(attempt.moment.seconds):
            with scope:
                await attempt.make()
    except TimeoutError as error:
        caught = type(error)
    assert caught is (TimeoutError if attempt.interrupted else None)
    assert not scope.cancelled_caught


async def asyncio_task_group_with_a_sibling_that_fails(attempt: Attempt) -> None:
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the group is what raises
        async with asyncio.TaskGroup() as group:
            group.create_task(attempt.make())
            group.create_task(boom(attempt))
            # Before Python 3.13 a host that is cancelled at the end of its block stays `cancelling`.
            await asyncio.Event().wait()
    assert [type(error) for error in caught.value.exceptions] == [Boom]


async def cancelled_task(attempt: Attempt) -> None:
    task = asyncio.ensure_future(attempt.make())
    await attempt.come()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is attempt.interrupted


ANYIO_S = [
    move_on_after,
    fail_after,
    scope_cancelled_by_another_task,
    shield_inside_a_cancelled_scope,
    task_group_with_a_sibling_that_fails,
    child_of_a_task_group_that_is_cancelled,
    asyncio_timeout_inside_a_scope_that_ends_first,
]
ASYNCIO_S_OWN = [
    asyncio_timeout,
    scope_inside_an_asyncio_timeout_that_ends_first,
    asyncio_task_group_with_a_sibling_that_fails,
    cancelled_task,
]

# ---- the test ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_the_cancellation_arrives_where_it_belongs_and_the_pool_loses_nothing(server, call):
    server.run("SET", "number", 1)
    for construct in [*ANYIO_S, *ASYNCIO_S_OWN]:
        async with RedisPool(server.url, max_size=SIZE, min_size=2, **options(construct)) as pool:
            world = World(server, pool, Redis(connection_pool=pool))
            for moment in MOMENTS:
                attempt = Attempt(world, call, moment)
                try:
                    await interrupt(attempt, construct)
                    await nothing_is_lost(world)
                except BaseException as error:
                    error.add_note(f"{construct.__name__}, {moment}")
                    raise


def options(construct: object) -> dict[str, Any]:
    options = {
        **STRICT,
        "driver_info": None,  # redis-py would read it from a file at each opening
    }
    if sys.version_info < (3, 12) and construct in ASYNCIO_S_OWN:
        # wait_for(), in which redis-py sends if there is a limit, loses a cancellation at its very
        # end. Scopes of anyio's cancel again, asyncio's own constructs don't.
        options["socket_timeout"] = None
    return options


async def interrupt(
    attempt: Attempt, construct: Callable[[Attempt], Coroutine[Any, Any, None]]
) -> None:
    world, call = attempt.world, attempt.call
    world.server.run("DEL", "list", "lock")
    world.server.run("RPUSH", "list", "item")
    if call.begins_closed:
        await world.pool.aclose()
    async with attempt.obstacles:
        if attempt.moment.stuck:
            await attempt.obstacles.enter_async_context(call.obstacle(world))
        await construct(attempt)
    assert asyncio.current_task().cancelling() == 0
    if attempt.moment == STUCK and construct is not shield_inside_a_cancelled_scope:
        assert attempt.interrupted
    if not attempt.interrupted:
        assert attempt.result == call.result
    if call.begins_closed or call.ends_closed:
        await world.pool.aclose()
        await world.pool.open()


async def nothing_is_lost(world: World) -> None:
    server, pool, client = world
    async with AsyncExitStack() as stack:
        conns = [await stack.enter_async_context(pool.connection()) for _ in range(SIZE)]
        for conn in conns:
            await conn.send_command("ECHO", str(id(conn)))
        for conn in conns:
            assert await conn.read_response() == str(id(conn)).encode()
        assert pool.stats().size == SIZE
        await eventually(
            lambda: len(server.clients()) == SIZE,
            lambda: f"there are {SIZE} connections: {server.clients()}",
        )
    assert (pool.stats().idle, pool.stats().waiting) == (SIZE, 0)
    assert await client.echo("mine") == b"mine"
