"""Passwords and users: they open the door, wrong ones are told at once, and none is ever shown."""

import asyncio
import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from servers import STRICT, Server

from aiopool import NotLent, PoolTimeout, RedisPool, WrongLoop

PASSWORD = "pa:ss/wo@rd?#%&"  # noqa: S105 - with all that means something in a URL
WRONG = "wr0ng-but-secret"


@pytest.fixture
def alice(locked_server: Server) -> Server:
    locked_server.run("ACL", "SETUSER", "alice", "on", f">{PASSWORD}", "~*", "+@all", "-ping")
    return locked_server


@pytest.mark.parametrize("how", ["keywords", "url", "query", "unix"])
async def test_a_user_with_a_password_gets_in(alice, wire, how):
    quoted = quote(PASSWORD, safe="")
    url, options = {
        "keywords": (alice.url, {"username": "alice", "password": PASSWORD}),
        "url": (f"redis://alice:{quoted}@127.0.0.1:{alice.port}", {}),
        "query": (f"{alice.url}?username=alice&password={quoted}", {}),
        "unix": (f"unix://alice:{quoted}@{alice.path}", {}),
    }[how]
    async with RedisPool(url, **options, **STRICT, **wire) as pool:
        assert await pool.client().acl_whoami() in {"alice", b"alice"}


async def test_the_default_user_needs_no_name(locked_server, wire):
    async with RedisPool(
        locked_server.url, password=locked_server.password, **STRICT, **wire
    ) as pool:
        assert await pool.client().echo("mine") == b"mine"


async def test_a_user_who_may_not_ping_passes_the_check_of_idle_connections(alice, wire):
    async with RedisPool(
        alice.url, username="alice", password=PASSWORD, check_after=0, **STRICT, **wire
    ) as pool:
        client = pool.client()
        with pytest.raises(NoPermissionError):
            await client.ping()
        first = await client.client_id()
        assert await client.client_id() == first
        assert pool.stats().closed == {}


@pytest.mark.parametrize("options", [{"password": WRONG}, {"username": "bob", "password": WRONG}])
async def test_a_wrong_password_is_told_at_once_and_to_everybody(locked_server, wire, options):
    # However patient the retry is: trying again would not make the password right.
    retry = Retry(NoBackoff(), 1_000_000)
    async with RedisPool(locked_server.url, timeout=60, retry=retry, **options, **wire) as pool:
        client = pool.client()
        async with asyncio.timeout(10):
            results = await asyncio.gather(
                *(client.ping() for _ in range(20)), pool.acquire(), return_exceptions=True
            )
        assert [type(result) for result in results] == [AuthenticationError] * 21
        assert (pool.stats().size, pool.stats().waiting) == (0, 0)


async def test_a_missing_password_is_told_at_once(locked_server):
    retry = Retry(NoBackoff(), 1_000_000)
    async with (
        RedisPool(locked_server.url, timeout=60, retry=retry, protocol=3) as pool,
        asyncio.timeout(10),
    ):
        with pytest.raises(AuthenticationError):
            await pool.client().ping()


async def test_a_missing_password_is_told_in_resp2_too(locked_server):
    # There it depends on the server's version whether the handshake or the first command is refused,
    # and the latter is for the client to try again.
    async with RedisPool(locked_server.url, timeout=60, protocol=2, **STRICT) as pool:
        with pytest.raises(AuthenticationError):
            await pool.client().ping()


async def test_opening_with_a_wrong_password_raises_the_same_error(locked_server):
    pool = RedisPool(locked_server.url, min_size=2, timeout=60, password=WRONG)
    async with asyncio.timeout(10):
        with pytest.raises(AuthenticationError):
            await pool.open()
    await pool.aclose()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


async def test_no_secret_shows_in_any_repr_or_error_or_log_record(alice, caplog):
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    said: list[str] = []
    errors: list[BaseException] = []
    quoted = quote(PASSWORD, safe="")

    pool = RedisPool(
        f"redis://alice:{quoted}@127.0.0.1:{alice.port}", max_size=1, leak_after=60, **STRICT
    )
    async with pool:
        said += [repr(pool), str(pool), repr(pool.client()), str(pool.name)]
        conn = await pool.acquire()
        said += [repr(conn), repr(pool.holders()), repr(pool.stats()), str(pool.stats())]
        with pytest.raises(PoolTimeout) as timeout:
            await pool.acquire(timeout=0.01)
        with pytest.raises(WrongLoop) as wrong_loop:
            await asyncio.to_thread(asyncio.run, pool.acquire())
        await pool.release(conn)
        with pytest.raises(NotLent) as not_lent:
            await pool.release(conn)
        errors += [timeout.value, wrong_loop.value, not_lent.value]
    with pytest.raises(RedisError) as closed:
        await pool.acquire()
    errors.append(closed.value)

    async with RedisPool(alice.url, username="alice", password=WRONG, timeout=1) as pool:
        with pytest.raises(AuthenticationError) as refused:
            await pool.acquire()
        errors.append(refused.value)
        said.append(repr(pool))

    said += [text for e in errors for link in chain(e) for text in (str(link), repr(link))]
    said += [
        record.getMessage() + str(record.args) + str(record.exc_info) for record in caplog.records
    ]
    assert len(said) > 15
    for secret in (PASSWORD, quoted, WRONG):
        assert not [text for text in said if secret in text]


async def test_a_url_that_cant_be_read_is_refused_without_repeating_its_password():
    with pytest.raises(ValueError, match="scheme") as error:
        RedisPool(f"http://alice:{WRONG}@localhost")
    assert WRONG not in str(error.value)
