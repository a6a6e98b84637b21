"""Commands that share connections: when they are written, who gets which reply, and what ends a lane."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from clock import JumpingLoop, turns
from peers import COMMANDS, Network, Peer
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, MaxConnectionsError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiopool import PipelinedRedis, PoolTimeout, RedisPool
from aiopool.redis._errors import PoolClosed

PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"

Replies = list["asyncio.Task[Any]"]


class Case:
    """A pool of connections that are played by hand, and its pipelined client."""

    def __init__(self, pool: RedisPool, client: PipelinedRedis, network: Network) -> None:
        self.pool = pool
        self.client = client
        self.network = network
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        self.loop = loop

    @property
    def peer(self) -> Peer:
        """The other end of the connection that was opened last."""
        return self.network.peers[-1]

    def ask(self, *keys: str) -> Replies:
        """Have a task for each of these keys ask for it."""
        return [asyncio.create_task(self.client.get(key), name=key) for key in keys]

    async def asked(self, *keys: str) -> Replies:
        """Let them ask, and what they ask for be written if it can be."""
        replies = self.ask(*keys)
        await turns(2)
        return replies

    async def until_asked(self, number: int) -> None:
        """Wait until so many commands wait for a reply of the peer."""
        for _ in range(50):
            peers = self.network.peers
            if peers and not self.peer.is_closing() and len(self.peer.unanswered) >= number:
                break
            await turns(1)
        assert len(self.peer.unanswered) == number

    def counts(self) -> tuple[int, int, int, int]:
        stats = self.pool.stats()
        return stats.size, stats.idle, stats.lent, stats.waiting


Make = Callable[..., Awaitable[Case]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make cases that know already what the server tells of its commands."""
    cases: list[Case] = []

    async def make(
        *, lanes: int = 1, max_in_flight: int = 10_000, opened: bool = True, **options: Any
    ) -> Case:
        network = Network()
        options = {"retry": Retry(NoBackoff(), 0), **options}
        pool = RedisPool(
            connection_class=network.connection_class,
            parser_class=network.parser_class,
            **options,
        )
        if opened:
            await pool.open()
        client = pool.pipelined(lanes=lanes, max_in_flight=max_in_flight)
        cases.append(case := Case(pool, client, network))
        first = case.ask("first")
        await case.until_asked(1)
        case.peer.answer_by(COMMANDS)
        await case.until_asked(1)
        case.peer.answer()
        assert await asyncio.gather(*first) == [b"first"]
        return case

    yield make

    for case in cases:
        await case.pool.aclose(timeout=0)
        await turns(3)
        stats = case.pool.stats()
        assert (stats.size, stats.lent, stats.waiting) == (0, 0, 0), stats
        assert all(peer.is_closing() for peer in case.network.peers)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    assert not tasks, f"tasks are left: {tasks}"


async def results(replies: Replies) -> list[Any]:
    return await asyncio.gather(*replies, return_exceptions=True)


def kinds(outcomes: list[Any]) -> set[type]:
    return {type(outcome) for outcome in outcomes}


# ---- writing -------------------------------------------------------------------------------------


async def test_what_many_tasks_ask_for_in_one_turn_leaves_in_one_write(make):
    case = await make()
    before = len(case.peer.writes)
    replies = await case.asked(*map(str, range(1000)))
    assert len(case.peer.writes) == before + 1
    case.peer.answer_all()
    assert await results(replies) == [b"%d" % number for number in range(1000)]


async def test_a_second_turns_commands_do_not_wait_for_the_firsts_replies(make):
    case = await make()
    first = await case.asked("a", "b")
    second = await case.asked("c")
    assert case.peer.unanswered == [b"a", b"b", b"c"]
    case.peer.answer_all()
    assert await results(first + second) == [b"a", b"b", b"c"]


async def test_a_command_that_is_alone_leaves_before_the_turn_is_over(make):
    case = await make()
    before = len(case.peer.writes)
    reply = case.client.get("a")
    coroutine = reply.__await__()
    next(coroutine)
    assert len(case.peer.writes) == before + 1
    coroutine.close()


async def test_what_waits_in_one_turn_is_written_in_chunks(make):
    case = await make()
    before = len(case.peer.writes)
    words = ["x" * 1000 + str(number) for number in range(200)]
    replies = await case.asked(*words)
    written = case.peer.writes[before:]
    assert len(written) > 2
    assert all(len(chunk) < 65536 + 2000 for chunk in written)
    case.peer.answer_all()
    assert await results(replies) == [word.encode() for word in words]


# ---- reading -------------------------------------------------------------------------------------


async def test_replies_in_pieces_reach_their_callers_one_by_one(make):
    case = await make()
    replies = await case.asked("a", "b", "c")
    case.peer.say(b"$1\r\na\r\n$1\r\nb")
    await turns(1)
    assert [reply.done() for reply in replies] == [True, False, False]
    case.peer.say(b"\r\n$1\r\nc\r\n")
    assert await results(replies) == [b"a", b"b", b"c"]


async def test_an_error_as_reply_is_its_callers_alone(make):
    case = await make()
    replies = await case.asked("a", "b", "c")
    case.peer.say(b"$1\r\na\r\n-WRONGTYPE no\r\n$1\r\nc\r\n")
    a, b, c = await results(replies)
    assert (a, c) == (b"a", b"c")
    assert isinstance(b, ResponseError)
    assert case.counts() == (1, 1, 0, 0)


async def test_a_reply_by_which_redis_py_would_close_the_connection_closes_it_when_all_is_answered(
    make,
):
    case = await make()
    replies = await case.asked("a", "b")
    late = await case.asked("c")
    case.peer.say(LOADING)
    await turns(1)
    assert case.counts() == (1, 0, 1, 0)
    case.peer.say(b"$1\r\nb\r\n$1\r\nc\r\n")
    outcomes = await results(replies + late)
    assert kinds(outcomes[:1]) == {BusyLoadingError}
    assert outcomes[1:] == [b"b", b"c"]
    assert case.counts() == (0, 0, 0, 0)


async def test_a_reply_nobody_asked_for_closes_the_connection(make):
    case = await make()
    replies = await case.asked("a")
    case.peer.say(b"$1\r\na\r\n$5\r\nextra\r\n")
    await results(replies)
    assert case.counts() == (0, 0, 0, 0)


async def test_bytes_that_are_no_reply_end_the_lane_for_all_under_way(make):
    case = await make()
    replies = await case.asked("a", "b")
    case.peer.say(b"nonsense\r\n")
    outcomes = await results(replies)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert outcomes[0] is not outcomes[1]
    assert case.counts() == (0, 0, 0, 0)


# ---- push messages -------------------------------------------------------------------------------


def listen(case: Case) -> list[Any]:
    """Have push messages heard."""
    heard: list[Any] = []

    async def hear(message: Any) -> None:
        heard.append(("begin", message[0]))
        await asyncio.sleep(1)
        heard.append(("end", message[0]))

    conn = case.pool._core.lent_connections()[0]
    conn._parser.set_invalidation_push_handler(hear)
    return heard


async def test_a_push_message_is_handled_before_the_replies_that_come_after_it(make):
    case = await make(protocol=3)
    replies = await case.asked("a", "b")
    heard = listen(case)
    case.peer.say(b"$1\r\na\r\n" + PUSH + b"$1\r\nb\r\n")
    await turns(3)
    assert [reply.done() for reply in replies] == [True, False]
    assert await results(replies) == [b"a", b"b"]
    assert heard == [("begin", b"invalidate"), ("end", b"invalidate")]


async def test_a_push_message_behind_the_last_reply_is_handled_before_the_connection_goes_back(
    make,
):
    case = await make(protocol=3)
    replies = await case.asked("a")
    heard = listen(case)
    case.peer.say(b"$1\r\na\r\n" + PUSH)
    await results(replies)
    assert case.counts() == (1, 0, 1, 0)
    await asyncio.sleep(1)
    await turns(3)
    assert len(heard) == 2
    assert case.counts() == (1, 1, 0, 0)


async def test_a_lane_that_fails_while_a_push_message_is_handled_fails_once(make):
    case = await make(protocol=3)
    replies = await case.asked("a", "b")
    listen(case)
    case.peer.say(b"$1\r\na\r\n" + PUSH)
    await turns(2)
    case.peer.hang_up()
    a, b = await results(replies)
    assert a == b"a"
    assert isinstance(b, RedisConnectionError)
    await asyncio.sleep(2)
    assert case.counts() == (0, 0, 0, 0)


async def test_a_command_of_a_handlers_does_not_wait_for_the_handler(make):
    case = await make(protocol=3, socket_timeout=None)
    replies = await case.asked("a", "b")

    async def ask(_message: Any) -> None:
        assert await case.client.get("of the handler") == b"of the handler"

    (conn,) = case.pool._core.lent_connections()
    conn._parser.set_invalidation_push_handler(ask)
    first = case.peer
    first.say(b"$1\r\na\r\n" + PUSH + b"$1\r\nb\r\n")
    while case.peer is first:
        await turns(1)
    await case.until_asked(1)
    case.peer.answer()
    assert await results(replies) == [b"a", b"b"]


# ---- cancellation --------------------------------------------------------------------------------


async def test_a_command_that_was_not_written_yet_is_withdrawn_with_its_caller(make):
    case = await make(max_in_flight=1)
    (first,) = await case.asked("a")
    second, third = await case.asked("b", "c")
    second.cancel()
    await turns(1)
    case.peer.answer()
    await turns(1)
    assert case.peer.heard[-2:] == [b"a", b"c"]
    case.peer.answer()
    assert await results([first, third]) == [b"a", b"c"]


async def test_a_command_whose_caller_is_cancelled_in_the_turn_in_which_it_asks_is_not_written(
    make,
):
    case = await make()
    kept, given_up = case.ask("kept", "given up")
    await turns(1)
    given_up.cancel()
    await turns(2)
    assert case.peer.unanswered == [b"kept"]
    case.peer.answer()
    assert await kept == b"kept"


async def test_the_reply_to_a_cancelled_caller_is_dropped_and_the_lane_goes_on(make):
    case = await make()
    replies = await case.asked("a", "b", "c")
    replies[1].cancel()
    await turns(2)
    assert case.counts() == (1, 0, 1, 0)  # till the reply is here
    case.peer.answer_all()
    a, b, c = await results(replies)
    assert (a, c) == (b"a", b"c")
    assert isinstance(b, asyncio.CancelledError)
    assert case.counts() == (1, 1, 0, 0)
    assert len(case.network.peers) == 1


async def test_callers_who_give_up_in_line_leave_nothing_behind(make):
    case = await make(max_in_flight=1)
    (first,) = await case.asked("a")
    for number in range(2000):
        (reply,) = await case.asked(str(number))
        reply.cancel()
        await turns(1)
    assert len(case.client._lanes._line) < 100
    case.peer.answer()
    assert await first == b"a"
    assert case.counts() == (1, 1, 0, 0)


# ---- time limits ---------------------------------------------------------------------------------


async def test_a_lane_with_a_command_unanswered_for_the_socket_timeout_is_dead(make):
    case = await make()
    replies = await case.asked("a", "b")
    await asyncio.sleep(3)
    late = await case.asked("c")
    begun = case.loop.time()
    outcomes = await results(replies + late)
    assert case.loop.time() == begun + 2  # redis-py's five seconds since the first was written
    assert kinds(outcomes) == {RedisTimeoutError}
    assert str(outcomes[0]) == "Timeout reading from localhost:6379"
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert case.counts() == (0, 0, 0, 0)


async def test_another_connection_takes_over_from_a_dead_lane(make):
    case = await make()
    await results(await case.asked("a"))
    replies = await case.asked("b")
    await turns(3)
    assert len(case.network.peers) == 2
    case.peer.answer()
    assert await results(replies) == [b"b"]


async def test_a_lane_is_alive_as_long_as_each_command_is_answered_in_time(make):
    case = await make()
    replies = await case.asked("0")
    for number in range(1, 20):
        await asyncio.sleep(4)
        replies += await case.asked(str(number))
        case.peer.answer()
    case.peer.answer()
    assert await results(replies) == [b"%d" % number for number in range(20)]
    assert len(case.network.peers) == 1


async def test_progress_with_others_does_not_give_a_command_more_time(make):
    case = await make()
    old = await case.asked("a", "b")
    await asyncio.sleep(4)
    new = await case.asked("c")
    case.peer.answer()
    await asyncio.sleep(1)
    await turns(3)
    assert [reply.done() for reply in old + new] == [True, True, True]
    assert kinds(await results([old[1], *new])) == {RedisTimeoutError}


async def test_a_late_event_loop_does_not_kill_a_lane_of_which_the_replies_are_there(make):
    case = await make()
    replies = await case.asked("a", "b")
    case.loop.block(10)
    case.loop.call_soon(case.peer.answer)
    await turns(2)
    case.peer.answer()
    assert await results(replies) == [b"a", b"b"]


async def test_without_a_socket_timeout_a_lane_waits_for_ever(make):
    case = await make(socket_timeout=None)
    replies = await case.asked("a")
    await asyncio.sleep(100_000)
    case.peer.answer()
    assert await results(replies) == [b"a"]


async def test_a_time_limit_that_redis_py_changes_holds_for_what_is_under_way(make):
    case = await make()
    replies = await case.asked("a")
    (conn,) = case.pool._core.lent_connections()
    conn.socket_timeout = 60
    conn.update_current_socket_timeout(60)
    await asyncio.sleep(59)
    assert not replies[0].done()
    conn.socket_timeout = 5
    conn.update_current_socket_timeout(5)
    begun = case.loop.time()
    assert kinds(await results(replies)) == {RedisTimeoutError}
    assert case.loop.time() <= begun + 5


# ---- the end of a connection ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["hangs up", "reset"])
async def test_when_the_connection_ends_all_under_way_get_an_error_of_their_own(make, how):
    case = await make()
    replies = await case.asked("a", "b", "c")
    case.peer.answer()
    if how == "hangs up":
        case.peer.hang_up()
    else:
        case.peer.fail(ConnectionResetError(104, "Connection reset by peer"))
    a, b, c = await results(replies)
    assert a == b"a"
    assert kinds([b, c]) == {RedisConnectionError}
    assert b is not c
    assert case.counts() == (0, 0, 0, 0)
    assert case.pool.stats().closed == {"lost": 1}


async def test_what_was_not_written_yet_goes_out_on_the_next_connection(make):
    case = await make(max_in_flight=2)
    replies = await case.asked("a", "b", "c", "d")
    case.peer.hang_up()
    await turns(5)
    assert case.peer.heard == [b"c", b"d"]
    case.peer.answer_all()
    a, b, c, d = await results(replies)
    assert kinds([a, b]) == {RedisConnectionError}
    assert (c, d) == (b"c", b"d")


async def test_what_was_under_way_is_tried_again_as_often_as_redis_py_would(make):
    case = await make(retry=Retry(NoBackoff(), 2))
    replies = await case.asked("a", "b")
    for _ in range(2):
        case.peer.hang_up()
        await turns(10)
        assert sorted(case.peer.heard) == [b"a", b"b"]
    case.peer.answer()
    case.peer.hang_up()
    assert kinds(await results(replies)) == {bytes, RedisConnectionError}
    assert len(case.network.peers) == 3


async def test_an_unanswered_connection_that_is_closed_between_two_commands_costs_no_error(make):
    case = await make()
    case.peer.hang_up()
    await turns(1)
    replies = await case.asked("a")
    await turns(3)
    case.peer.answer()
    assert await results(replies) == [b"a"]


async def test_the_pools_word_that_no_connection_can_be_had_is_not_tried_again(make):
    case = await make(retry=Retry(NoBackoff(), 2))
    case.pool.drain()
    case.network.error = ConnectionRefusedError(111, "Connection refused")
    before = case.network.attempts
    outcomes = await results(await case.asked("a", "b"))
    assert kinds(outcomes) == {RedisConnectionError}
    assert outcomes[0] is not outcomes[1]
    assert "111" in str(outcomes[0])
    assert case.network.attempts == before + 3  # the pool's own, with the client's policy


# ---- too much ------------------------------------------------------------------------------------


async def test_no_more_than_max_in_flight_are_under_way_and_the_others_are_written_in_order(make):
    case = await make(max_in_flight=3)
    keys = [f"{number:02}" for number in range(20)]
    replies = await case.asked(*keys)
    while len(case.peer.heard) < 22:
        assert len(case.peer.unanswered) == 3
        case.peer.answer(2)
    case.peer.answer_all()
    assert await results(replies) == [key.encode() for key in keys]
    assert case.peer.heard[2:] == [key.encode() for key in keys]


async def test_who_waits_in_line_for_the_pools_timeout_gets_told_why(make):
    case = await make(max_in_flight=1, socket_timeout=None)
    (first,) = await case.asked("a")
    await asyncio.sleep(1)
    begun = case.loop.time()
    outcomes = await results(await case.asked("b", "c"))
    assert case.loop.time() == begun + 5
    assert kinds(outcomes) == {type(outcomes[0])}
    assert isinstance(outcomes[0], PoolTimeout)
    assert isinstance(outcomes[0], MaxConnectionsError)
    assert "no room" in str(outcomes[0])
    assert "within 5 s" in str(outcomes[0])
    assert "1 in flight" in str(outcomes[0])
    assert case.pool.stats().timed_out == 2
    case.peer.answer()
    assert await first == b"a"
    assert case.peer.heard[2:] == [b"a"]


async def test_each_waits_for_its_own_time(make):
    case = await make(max_in_flight=1, socket_timeout=None)
    await case.asked("a")
    (early,) = await case.asked("b")
    await asyncio.sleep(4)
    (late,) = await case.asked("c")
    await asyncio.sleep(1)
    await turns(2)
    assert early.done()
    assert not late.done()
    case.peer.answer()
    await turns(1)
    case.peer.answer()
    assert await late == b"c"
    await results([early])


async def test_an_exhausted_pool_is_told_of_as_by_itself(make):
    case = await make(max_size=1)
    conn = await case.pool.acquire()
    begun = case.loop.time()
    (outcome,) = await results(await case.asked("a"))
    assert case.loop.time() == begun + 5
    assert isinstance(outcome, PoolTimeout)
    assert "no connection" in str(outcome)
    assert "lent=1" in str(outcome)
    assert case.counts() == (1, 0, 1, 0)  # it is in line no longer
    await case.pool.release(conn)
    assert case.counts() == (1, 1, 0, 0)


async def test_a_peer_that_does_not_read_holds_back_what_exceeds_the_high_water_mark(make):
    case = await make(socket_timeout=None, timeout=None)
    case.peer.reads = False
    words = [f"{number:03}" + "x" * 1000 for number in range(300)]
    replies = await case.asked(*words)
    held = len(case.peer.heard)
    assert 60 < held < 140
    more = await case.asked("last")
    assert len(case.peer.heard) == held
    case.peer.take_all()
    await turns(2)
    assert case.peer.heard[2:] == [word.encode() for word in [*words, "last"]]
    case.peer.answer_all()
    assert len(await results(replies + more)) == 301


# ---- several lanes -------------------------------------------------------------------------------


async def test_several_lanes_are_used_only_while_there_is_something_under_way_on_all_others(make):
    case = await make(lanes=2)
    for number in range(5):
        replies = await case.asked(str(number))
        case.peer.answer()
        await results(replies)
    assert len(case.network.peers) == 1
    await case.asked("a")
    await case.asked("b")
    await turns(3)
    assert len(case.network.peers) == 2
    for peer in case.network.peers:
        peer.answer_all()


async def test_a_command_goes_where_the_fewest_are_under_way(make):
    case = await make(lanes=2)
    slow = await case.asked("a", "b", "c")
    await case.asked("d")  # for which another is opened meanwhile
    await turns(3)
    first, second = case.network.peers
    assert second.heard == []
    one = await case.asked("e")
    two = await case.asked("f", "g")
    three = await case.asked("h")
    assert second.heard == [b"e", b"f", b"g", b"h"]
    second.answer_all()
    assert await results(one + two + three) == [b"e", b"f", b"g", b"h"]
    assert not any(reply.done() for reply in slow)
    first.answer_all()
    await results(slow)
    assert case.counts() == (2, 2, 0, 0)


async def test_a_second_connection_that_comes_when_there_is_no_room_for_more_is_not_kept(make):
    case = await make(lanes=2, max_in_flight=2)
    replies = await case.asked("a")
    replies += await case.asked("b")  # for which a second one is opened
    (last,) = await case.asked("c")
    await turns(5)
    assert len(case.network.peers) == 2
    last.cancel()
    await turns(3)
    assert case.counts() == (2, 1, 1, 0)
    case.network.peers[0].answer_all()
    assert await results(replies) == [b"a", b"b"]
    assert case.counts() == (2, 2, 0, 0)


# ---- the pool's connections ----------------------------------------------------------------------


async def test_a_lane_has_a_connection_only_while_something_is_under_way(make):
    case = await make()
    assert case.counts() == (1, 1, 0, 0)
    replies = await case.asked("a", "b")
    assert case.counts() == (1, 0, 1, 0)
    (holder,) = case.pool.holders()
    assert holder.task == "(lane: 2 commands under way)"
    case.peer.answer_all()
    assert case.counts() == (1, 1, 0, 0)
    await results(replies)


async def always_busy(case: Case, seconds: float, step: float = 0.1) -> Replies:
    """Have something under way all the time, and each command answered soon."""
    replies = await case.asked("begin")
    for number in range(round(seconds / step)):
        await asyncio.sleep(step)
        replies += await case.asked(str(number))
        for peer in case.network.peers:
            if peer.unanswered and not peer.is_closing():
                peer.answer(max(1, len(peer.unanswered) - 1))
    return replies


async def test_a_lane_that_is_always_busy_gives_its_connection_back_when_that_is_drained(make):
    case = await make()
    replies = await always_busy(case, 1)
    case.pool.drain()
    replies += await always_busy(case, 1)
    assert len(case.network.peers) == 2
    assert case.network.peers[0].is_closing()
    await turns(3)
    case.peer.answer_all()
    assert kinds(await results(replies)) == {bytes}


async def test_a_lane_that_is_always_busy_gives_its_connection_back_after_its_lifetime(make):
    case = await make(max_lifetime=10)
    replies = await always_busy(case, 21)
    assert len(case.network.peers) >= 3
    await turns(3)
    case.peer.answer_all()
    assert kinds(await results(replies)) == {bytes}


async def test_a_lane_that_is_always_busy_lets_others_have_the_connection_in_turn(make):
    case = await make(max_size=1)
    before = case.pool.stats().acquired
    replies = await always_busy(case, 5)
    assert case.pool.stats().acquired == before + 1  # nobody else wanted it
    other = asyncio.create_task(case.pool.acquire())
    begun = case.loop.time()
    while not other.done():
        replies += await always_busy(case, 0.1)
    assert case.loop.time() <= begun + 1.2
    waiting = await case.asked("x", "y")
    await turns(3)
    assert case.peer.unanswered == []
    await case.pool.release(other.result())
    await turns(3)
    assert case.peer.unanswered[-2:] == [b"x", b"y"]
    case.peer.answer_all()
    assert kinds(await results(replies + waiting)) == {bytes}


async def test_when_nobody_needs_a_connection_any_more_the_lane_is_in_line_for_none(make):
    case = await make(max_size=1)
    conn = await case.pool.acquire()
    a, b = await case.asked("a", "b")
    assert case.counts() == (1, 0, 1, 1)
    a.cancel()
    await turns(2)
    assert case.counts() == (1, 0, 1, 1)
    b.cancel()
    await turns(2)
    assert case.counts() == (1, 0, 1, 0)
    (c,) = await case.asked("c")
    assert case.counts() == (1, 0, 1, 1)
    await case.pool.release(conn)
    await turns(2)
    case.peer.answer()
    assert await c == b"c"


async def test_a_connection_that_comes_when_nobody_needs_it_any_more_goes_to_the_pool(make):
    case = await make(max_size=1)
    conn = await case.pool.acquire()
    (reply,) = await case.asked("a")
    await case.pool.release(conn)  # into the hands of the lane
    reply.cancel()
    await turns(2)
    assert case.counts() == (1, 1, 0, 0)
    assert case.peer.unanswered == []


async def test_closing_the_pool_with_grace_lets_what_is_under_way_end(make):
    case = await make()
    replies = await case.asked("a")
    closing = asyncio.create_task(case.pool.aclose())
    await turns(2)
    late = await case.asked("b")
    assert kinds(await results(late)) == {PoolClosed}
    case.peer.answer()
    assert await results(replies) == [b"a"]
    await closing


async def test_closing_the_pool_ends_what_is_in_line(make):
    case = await make(max_in_flight=1)
    (first, second) = await case.asked("a", "b")
    third = case.client.get("c").__await__()
    next(third)  # in the turn in which the pool is closed
    closing = asyncio.create_task(case.pool.aclose())
    await turns(3)
    assert second.done()  # with nothing answered yet
    with pytest.raises(PoolClosed):
        next(third)
    case.peer.answer()
    await closing
    assert await first == b"a"
    assert kinds(await results([second])) == {PoolClosed}
    assert len(case.network.peers) == 1


@pytest.mark.parametrize("opened", [True, False], ids=["opened by hand", "opened by use"])
async def test_closing_the_pool_at_once_ends_what_is_under_way_and_opens_nothing(make, opened):
    case = await make(opened=opened, retry=Retry(NoBackoff(), 3))
    replies = await case.asked("a")
    await case.pool.aclose(timeout=0)
    assert kinds(await results(replies)) == {RedisConnectionError}
    assert len(case.network.peers) == 1
    assert case.counts() == (0, 0, 0, 0)


async def test_a_health_check_that_is_due_comes_before_the_first_command(make):
    case = await make(health_check_interval=10)
    await asyncio.sleep(11)
    replies = await case.asked("a", "b")
    await turns(3)
    assert case.peer.unanswered == [b"PING"]
    case.peer.answer_by(b"+PONG\r\n")
    await turns(3)
    assert case.peer.unanswered == [b"a", b"b"]
    case.peer.answer_all()
    assert await results(replies) == [b"a", b"b"]
    await asyncio.sleep(5)
    replies = await case.asked("c")
    assert case.peer.unanswered == [b"c"]  # the replies have shown its health
    case.peer.answer()
    await results(replies)


async def test_a_health_check_that_fails_tells_who_waits(make):
    case = await make(health_check_interval=10)
    await asyncio.sleep(11)
    case.network.error = ConnectionRefusedError(111, "Connection refused")
    replies = await case.asked("a", "b")
    await turns(3)
    case.peer.hang_up()
    outcomes = await results(replies)
    assert kinds(outcomes) == {RedisConnectionError}
    assert case.counts() == (0, 0, 0, 0)


# ---- what the server tells -----------------------------------------------------------------------


async def test_the_server_is_asked_for_its_commands_once_by_whoever_is_first(make):
    case = await make()
    other = case.pool.pipelined()
    replies = [asyncio.create_task(other.get(str(number))) for number in range(10)]
    await turns(5)
    assert len(case.peer.unanswered) == 1
    replies[0].cancel()
    case.peer.answer_by(COMMANDS)
    await turns(5)
    assert len(case.peer.unanswered) == 9
    case.peer.answer_all()
    assert kinds(await results(replies[1:])) == {bytes}


async def test_a_server_that_does_not_tell_is_asked_no_more_and_nothing_is_shared(make, caplog):
    case = await make()
    other = case.pool.pipelined()
    replies = [asyncio.create_task(other.get(str(number))) for number in range(3)]
    await turns(5)
    with caplog.at_level(logging.WARNING, "aiopool"):
        case.peer.answer_by(b"-NOPERM no permissions to run the 'command' command\r\n")
        await turns(20)
    assert "no command shares a connection" in caplog.text
    assert "no permissions to run" in caplog.text
    assert len(case.network.peers) == 3
    for peer in case.network.peers:
        assert len(peer.unanswered) == 1
        peer.answer_all()
    assert kinds(await results(replies)) == {bytes}


async def test_a_server_that_cannot_be_asked_is_asked_again_by_the_next(make):
    case = await make()
    other = case.pool.pipelined()
    replies = [asyncio.create_task(other.get(str(number))) for number in range(3)]
    await turns(5)
    case.peer.hang_up()
    outcomes = await results(replies)
    assert kinds(outcomes) == {RedisConnectionError}
    assert len({id(outcome) for outcome in outcomes}) == 3
    again = asyncio.create_task(other.get("a"))
    await turns(1)
    await case.until_asked(1)
    case.peer.answer_by(COMMANDS)
    await case.until_asked(1)
    case.peer.answer()
    assert await again == b"a"


async def test_what_failed_for_who_has_left_is_not_told_to_the_next(make):
    case = await make()
    other = case.pool.pipelined()
    left = asyncio.create_task(other.get("a"))
    await turns(5)
    left.cancel()
    await turns(1)
    case.peer.hang_up()
    await turns(5)
    again = asyncio.create_task(other.get("a"))
    await turns(1)
    await case.until_asked(1)
    case.peer.answer_by(COMMANDS)
    await case.until_asked(1)
    case.peer.answer()
    assert await again == b"a"


async def test_a_server_that_is_busy_with_a_script_is_asked_again(make):
    case = await make()
    other = case.pool.pipelined()
    first = asyncio.create_task(other.get("a"))
    await case.until_asked(1)
    case.peer.answer_by(b"-BUSY Redis is busy running a script.\r\n")
    assert kinds(await results([first])) == {ResponseError}
    again = asyncio.create_task(other.get("a"))
    await case.until_asked(1)
    case.peer.answer_by(COMMANDS)
    await case.until_asked(1)
    case.peer.answer()
    assert await again == b"a"


async def test_an_error_that_the_pool_has_raised_goes_when_it_was_caught(make):
    case = await make(max_size=1)
    conn = await case.pool.acquire()
    gc.collect()
    gc.disable()
    try:
        try:
            await case.client.get("a")
        except PoolTimeout as error:
            alive = weakref.ref(error)
        await turns(1)  # the loop has it till then
        assert alive() is None
    finally:
        gc.enable()
        await case.pool.release(conn)


# ---- wrong input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"lanes": 0}, ValueError, "lanes=0 is out of range: it must be from 1 to 10"),
        ({"lanes": 11}, ValueError, "lanes=11 is out of range: it must be from 1 to 10"),
        ({"lanes": 1.5}, TypeError, "lanes must be an int, not 1.5 (float)"),
        (
            {"max_in_flight": 0},
            ValueError,
            "max_in_flight=0 is out of range: it must be at least 1",
        ),
        ({"share_scripts": 1}, TypeError, "share_scripts must be a bool, not 1 (int)"),
    ],
)
def test_an_option_that_cannot_be_is_named_with_what_could(options, error, words):
    with pytest.raises(error) as caught:
        RedisPool().pipelined(**options)
    assert str(caught.value) == words


def test_a_pool_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="PipelinedRedis needs a RedisPool, not ConnectionPool"):
        PipelinedRedis(ConnectionPool())
