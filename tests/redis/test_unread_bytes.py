"""Replies that nobody read reach nobody else, and messages that came unasked do no harm."""

import asyncio
import contextlib

import pytest
from servers import HIREDIS, PYTHON, STRICT, Talker, eventually, wait_blocking

from aiopool import RedisPool

PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"


async def only_mine(pool: RedisPool, times: int = 20) -> None:
    client = pool.client()
    for number in range(times):
        assert await client.echo(f"mine {number}") == f"mine {number}".encode()


# ---- replies -------------------------------------------------------------------------------------


async def test_a_connection_released_before_its_reply_arrived_is_not_lent_again(url, wire):
    async with RedisPool(url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        await conn.send_command("ECHO", "another's")
        await pool.release(conn)
        await only_mine(pool)
        assert pool.stats().closed == {"dirty": 1}


async def test_a_connection_released_after_its_reply_arrived_unread_is_not_lent_again(url, wire):
    async with RedisPool(url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        await conn.send_command("ECHO", "another's")
        await eventually(lambda: conn._reader._buffer, "the reply is here")
        await pool.release(conn)
        await only_mine(pool)
        assert pool.stats().closed == {"dirty": 1}


async def test_a_connection_of_which_only_some_replies_were_read_is_not_lent_again(url, wire):
    async with RedisPool(url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        packed = conn.pack_commands([("ECHO", f"another's {number}") for number in range(3)])
        await conn.send_packed_command(packed)
        assert await conn.read_response() == b"another's 0"
        await pool.release(conn)
        await only_mine(pool)
        assert pool.stats().closed == {"dirty": 1}


async def test_a_reply_that_is_yet_to_come_when_the_connection_is_released_reaches_nobody(
    server, wire
):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        await conn.send_command("BLPOP", "list", 60)
        await pool.release(conn)
        waiting = asyncio.create_task(only_mine(pool))
        server.run("RPUSH", "list", "another's")
        await waiting
        assert server.run("LLEN", "list") in {0, 1}
        assert pool.stats().closed == {"dirty": 1}


async def test_a_reply_that_came_after_its_reader_gave_up_reaches_nobody(talker: Talker):
    async with RedisPool(talker.url, max_size=1, **STRICT) as pool:
        client = pool.client()
        await client.echo("first")  # else it is the opening that takes too long, and goes on
        talker.mute.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.echo("another's")
        talker.mute.clear()
        with contextlib.suppress(OSError):  # it has been closed
            talker.say(b"$9\r\nanother's\r\n")
        await only_mine(pool)


async def test_bytes_that_nobody_packed_make_the_connection_one_to_be_closed(server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        conn = await pool.acquire()
        await conn.send_packed_command([b"*2\r\n$4\r\nECHO\r\n$9\r\nanother's\r\n"])
        assert await conn.read_response() == b"another's"
        await pool.release(conn)
        await only_mine(pool)
        assert pool.stats().closed == {"dirty": 1}


async def test_a_reply_unread_behind_tls_reaches_nobody(tls):
    async with RedisPool(tls.url, max_size=1, ssl_ca_data=tls.authority_pem, **STRICT) as pool:
        for _ in range(5):
            conn = await pool.acquire()
            await conn.send_command("ECHO", "another's")
            await pool.release(conn)
            await only_mine(pool, 2)
        assert pool.stats().closed == {"dirty": 5}


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("said", [b"+OK\r\n", b"$9\r\nanother's\r\n", b":1\r\n", b"\r\n"])
async def test_what_an_idle_connection_got_unasked_is_read_by_nobody(
    talker: Talker, wire, seen, said
):
    async with RedisPool(talker.url, max_size=1, **STRICT, **wire) as pool:
        await only_mine(pool, 1)
        (conn,) = pool._get_free_connections()
        talker.say(said)
        if seen:
            await eventually(lambda: conn._reader._buffer, "the event loop has read it")
        await only_mine(pool)
        assert talker.connects == 2
        assert pool.stats().closed == {"unusable": 1}


async def test_a_stray_reply_in_the_packet_of_another_is_read_by_nobody(talker: Talker, wire):
    talker.postscript = b"$9\r\nanother's\r\n"
    async with RedisPool(talker.url, max_size=1, **STRICT, **wire) as pool:
        await only_mine(pool, 5)
        assert talker.connects == 5
        assert pool.stats().closed == {"unusable": 5}


# ---- push messages -------------------------------------------------------------------------------


@pytest.mark.parametrize("parser", [HIREDIS, PYTHON], ids=["hiredis", "python"])
@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("times", [1, 3])
async def test_unread_push_messages_keep_no_connection_from_being_lent(
    talker: Talker, parser, seen, times
):
    async with RedisPool(talker.url, max_size=1, protocol=3, **STRICT, **parser) as pool:
        for round_ in range(1, 4):
            await only_mine(pool, 2)
            (idle,) = pool._get_free_connections()
            talker.say(PUSH * times)
            if seen:
                await eventually(
                    lambda idle=idle: idle._reader._buffer, "the event loop has read it"
                )
            conn = await pool.acquire()
            assert conn is idle
            await conn.send_command("ECHO", round_)
            assert await conn.read_response() == str(round_).encode()
            await pool.release(conn)
            await only_mine(pool, 2)
        assert talker.connects == 1
        assert pool.stats().closed == {}


@pytest.mark.parametrize("parser", [HIREDIS, PYTHON], ids=["hiredis", "python"])
async def test_what_looks_like_a_push_message_is_none_in_resp2(talker: Talker, parser):
    async with RedisPool(talker.url, max_size=1, protocol=2, **STRICT, **parser) as pool:
        await only_mine(pool, 1)
        talker.say(PUSH)
        await only_mine(pool)
        assert talker.connects == 2


@pytest.mark.parametrize("parser", [HIREDIS, PYTHON], ids=["hiredis", "python"])
@pytest.mark.parametrize("seen", [True, False])
async def test_a_connection_closed_by_the_peer_after_a_push_message_is_not_lent(
    talker: Talker, parser, seen
):
    async with RedisPool(talker.url, max_size=1, protocol=3, **STRICT, **parser) as pool:
        await only_mine(pool, 1)
        (idle,) = pool._get_free_connections()
        talker.say(PUSH)
        talker.hang_up()
        if seen:
            await eventually(lambda: idle._reader._eof, "the event loop has read it")
        await only_mine(pool)
        assert talker.connects == 2


@pytest.mark.parametrize("parser", [HIREDIS, PYTHON], ids=["hiredis", "python"])
@pytest.mark.parametrize("seen", [True, False])
async def test_a_stray_reply_behind_a_push_message_is_read_by_nobody(talker: Talker, parser, seen):
    async with RedisPool(talker.url, max_size=1, protocol=3, **STRICT, **parser) as pool:
        await only_mine(pool, 1)
        (idle,) = pool._get_free_connections()
        talker.say(PUSH + b"$9\r\nanother's\r\n")
        if seen:
            await eventually(lambda: idle._reader._buffer, "the event loop has read it")
        await only_mine(pool)
        assert talker.connects == 2


@pytest.mark.parametrize("parser", [HIREDIS, PYTHON], ids=["hiredis", "python"])
async def test_invalidations_that_a_real_server_sends_disturb_no_reply(server, parser):
    async with RedisPool(server.url, max_size=1, protocol=3, **STRICT, **parser) as pool:
        async with pool.connection() as conn:
            await conn.send_command("CLIENT", "TRACKING", "ON", "BCAST")
            assert await conn.read_response() == b"OK"
            for number in range(5):
                server.run("SET", f"key{number}", 1)
                await conn.send_command("ECHO", number)
                assert await conn.read_response() == str(number).encode()
        # It would go on being told about keys that the next user never asked for.
        assert pool.stats().closed == {"dirty": 1}
        await only_mine(pool)


# ---- cancelled in the middle ---------------------------------------------------------------------


async def test_after_a_cancelled_blpop_the_next_user_gets_the_right_replies(server, url, wire):
    async with RedisPool(url, max_size=1, **STRICT, **wire) as pool:
        client = pool.client()
        for _ in range(5):
            blocked = asyncio.create_task(client.blpop(["list"], timeout=60))
            await eventually(
                lambda: [c for c in server.clients() if "b" in c["flags"]], "it is blocked"
            )
            # Python 3.11's wait_for(), in which redis-py sends, loses a cancellation at its very end.
            while not blocked.done():
                blocked.cancel()
                await asyncio.sleep(0)
            assert blocked.cancelled()
            assert pool.stats().lent == 0
            await only_mine(pool, 3)
            assert pool.stats().size == 1


async def test_a_pipeline_cancelled_at_any_moment_leaves_nothing_to_the_next(server, wire):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        client = pool.client()

        async def pipeline() -> None:
            async with client.pipeline() as pipe:
                await pipe.watch("key")
                await pipe.get("key")
                pipe.multi()
                for number in range(5):
                    pipe.echo(f"another's {number}")
                await pipe.execute()

        finished = 0
        for turns in range(60):
            task = asyncio.create_task(pipeline())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
                finished += 1
            await only_mine(pool, 1)
            # redis-py releases in a task of its own, to be sure that it is done.
            await eventually(lambda: pool.stats().lent == 0, "it is back")
        assert pool.stats().size == 1


async def test_a_command_cancelled_while_the_event_loop_was_blocked_is_answered_to_nobody(
    server, wire
):
    async with RedisPool(server.url, max_size=1, **STRICT, **wire) as pool:
        client = pool.client()
        await client.ping()
        for _ in range(10):
            task = asyncio.create_task(client.execute_command("EVAL", "return 'another''s'", 0))
            await asyncio.sleep(0)  # it acquires and sends
            assert pool.stats().lent == 1
            # So long that the reply is waiting in the socket when the cancellation is delivered.
            before = server.run("INFO", "stats")["total_commands_processed"]
            wait_blocking(
                lambda before=before: (
                    server.run("INFO", "stats")["total_commands_processed"] > before + 1
                ),
                "the server has gone on",
            )
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await only_mine(pool, 3)


async def test_an_error_that_nobody_asked_for_does_not_pass_for_the_answer_to_a_check(
    talker: Talker,
):
    async with RedisPool(talker.url, max_size=1, check_after=0.0, protocol=3, **STRICT) as pool:
        before = await pool.acquire()
        await pool.release(before)
        talker.pong = b"-ERR the backend went away\r\n"
        async with pool.connection() as conn:
            assert conn is not before
            await conn.send_command("ECHO", "mine")
            assert await conn.read_response() == b"mine"
        assert pool.stats().closed == {"check_failed": 1}
