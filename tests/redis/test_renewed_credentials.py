"""Tokens that are renewed while connections are open: one AUTH a connection, and nobody disturbed."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.auth.token import SimpleToken
from redis.credentials import StreamingCredentialProvider
from servers import STRICT, Server, eventually

from aiopool import RedisPool, WrongLoop

USER = "renewed"


class Provider(StreamingCredentialProvider):
    """Gives the present token of a user, and tells everybody who wants to know of the next."""

    def __init__(self, server: Server, word: str) -> None:
        self.server = server
        self.listeners: list[Any] = []
        self.failed: list[Any] = []
        self.take(word)

    def take(self, word: str) -> SimpleToken:
        """Have the server know this password, besides those of before."""
        self.server.run("ACL", "SETUSER", USER, "on", f">{word}", "~*", "&*", "+@all")
        self.token = SimpleToken(word, -1, -1, {"oid": USER})
        return self.token

    async def renew(self, word: str) -> None:
        self.take(word)
        for listener in self.listeners:
            await listener(self.token)

    def get_credentials(self):
        return USER, self.token.get_value()

    async def get_credentials_async(self):
        return self.get_credentials()

    def on_next(self, callback):
        self.listeners.append(callback)

    def on_error(self, callback):
        self.failed.append(callback)

    def is_streaming(self):
        return True


@pytest.fixture
def provider(server: Server):
    provider = Provider(server, "first")
    yield provider
    server.run("ACL", "DELUSER", USER)


def auths(server: Server) -> int:
    """Count the AUTHs since the last reset; those of the handshake are part of HELLO in RESP3."""
    return server.run("INFO", "commandstats").get("cmdstat_auth", {}).get("calls", 0)


@pytest.fixture
def count(server: Server):
    server.run("CONFIG", "RESETSTAT")
    return lambda: auths(server)


async def test_each_connection_is_authenticated_once_however_many_clients_there_are(
    server: Server, provider: Provider, count
):
    async with RedisPool(server.url, credential_provider=provider, **STRICT) as pool:
        clients = [Redis(connection_pool=pool, credential_provider=provider) for _ in range(5)]
        assert len(provider.listeners) == 6
        assert await pool.warm(4) == 4
        lent = await pool.acquire()
        numbers = {client["id"] for client in server.clients()}
        await provider.renew("second")
        await eventually(lambda: pool.stats().checking == 0, "the idle ones have authenticated")
        assert (count(), pool.stats().idle) == (3, 3)
        await pool.release(lent)
        await eventually(lambda: pool.stats().idle == 4, "so has the lent one")
        assert count() == 4
        await provider.renew("third")
        await eventually(lambda: pool.stats().idle == 4, "and again")
        assert count() == 8
        for client in clients:
            assert await client.acl_whoami() in (USER, USER.encode())
        assert {client["id"] for client in server.clients()} == numbers
        assert pool.stats().closed == {}


async def test_callers_wait_for_a_connection_that_authenticates_and_get_their_own_replies(
    server: Server, provider: Provider, wire
):
    pool = RedisPool(server.url, max_size=2, credential_provider=provider, **STRICT, **wire)
    async with pool:
        client = pool.client()

        async def ask(number: int) -> None:
            for turn in range(20):
                word = f"{number}.{turn}".encode()
                assert await client.echo(word) == word

        asking = [asyncio.create_task(ask(number)) for number in range(8)]
        for number in range(10):
            await provider.renew(f"word{number}")
            await asyncio.sleep(0)
        await asyncio.gather(*asking)
        assert pool.stats().opened == 2
        assert pool.stats().closed == {}


async def test_a_token_that_comes_while_a_connection_opens_or_authenticates_is_shown_too(
    server: Server, provider: Provider, count
):
    async with RedisPool(server.url, credential_provider=provider, **STRICT) as pool:
        opening = asyncio.create_task(pool.acquire())
        for _ in range(3):  # the caller's task, the opening's, its connecting
            await asyncio.sleep(0)
        assert pool.stats().opening == 1
        await provider.renew("second")
        lent = await opening
        assert count() == 1
        await pool.release(lent)
        await provider.renew("third")
        for _ in range(3):
            await asyncio.sleep(0)
        assert pool.stats().checking == 1
        await provider.renew("fourth")
        await eventually(lambda: pool.stats().idle, "it has authenticated again")
        assert count() == 3
        assert pool.stats().closed == {}


async def test_a_token_that_is_refused_costs_the_connection_and_no_more(
    server: Server, provider: Provider
):
    async with RedisPool(server.url, max_size=1, credential_provider=provider, **STRICT) as pool:
        client = pool.client()
        before = await client.client_id()
        await pool.re_auth_callback(SimpleToken("wrong", -1, -1, {"oid": USER}))
        # New connections ask the provider, who knows better.
        assert await client.client_id() != before
        assert pool.stats().closed == {"check_failed": 1}


async def test_a_provider_does_not_keep_the_pool_alive(server: Server, provider: Provider):
    pool = RedisPool(server.url, credential_provider=provider, **STRICT)
    await pool.client().ping()
    await pool.aclose()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    await provider.renew("second")


async def test_that_credentials_were_not_renewed_is_logged_without_their_words(
    server: Server, provider: Provider, caplog
):
    async with RedisPool(server.url, credential_provider=provider, **STRICT):
        (failed,) = provider.failed
        await failed(RuntimeError("the secret is xyz"))
    assert "credentials could not be renewed: RuntimeError" in caplog.text
    assert "xyz" not in caplog.text


async def test_a_token_from_another_thread_is_refused(server: Server, provider: Provider, count):
    async with RedisPool(server.url, **STRICT) as pool:
        await pool.warm(1)

        def elsewhere() -> None:
            with pytest.raises(WrongLoop):
                asyncio.run(pool.re_auth_callback(provider.token))

        await asyncio.to_thread(elsewhere)
        assert (pool.stats().idle, count()) == (1, 0)
        await pool.re_auth_callback(provider.token)
        await eventually(lambda: pool.stats().idle, "from its own thread it is accepted")
        assert count() == 1


async def test_a_subscriber_authenticates_itself_and_its_pool(
    server: Server, provider: Provider, count
):
    async with RedisPool(server.url, credential_provider=provider, protocol=3, **STRICT) as pool:
        await pool.warm(2)
        async with pool.client().pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
            await provider.renew("second")
            await eventually(lambda: pool.stats().checking == 0, "the idle one has authenticated")
            assert count() == 2
        assert pool.stats().closed == {"unusable": 1}


class Forgetful(Provider):
    """Remembers the last callback only, as redis-entraid's. Can't be hashed, and equals others."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgetful)

    def on_next(self, callback):
        self.listeners = [callback]


@pytest.fixture
def forgetful(server: Server):
    provider = Forgetful(server, "first")
    yield provider
    server.run("ACL", "DELUSER", USER)


async def test_all_pools_of_a_provider_are_told_though_it_remembers_one_callback(
    server: Server, forgetful: Forgetful, count, caplog
):
    class Failing(RedisPool):
        async def re_auth_callback(self, token) -> None:  # noqa: ARG002 - redis-py's
            raise RuntimeError("not now")

    options = {"credential_provider": forgetful, **STRICT}
    failing = Failing(server.url, **options)
    other_provider = Forgetful(server, "first")
    unconcerned = RedisPool(server.url, credential_provider=other_provider, **STRICT)
    await unconcerned.warm(1)
    async with RedisPool(server.url, **options) as one, RedisPool(server.url, **options) as other:
        await one.warm(1)
        await other.warm(2)
        RedisPool(server.url, **options)
        gc.collect()
        await forgetful.renew("second")
        await eventually(lambda: one.stats().idle == 1 and other.stats().idle == 2, "all are back")
        assert (count(), unconcerned.stats().idle) == (3, 1)
    await unconcerned.aclose()
    assert "a pool could not take new credentials" in caplog.text
    await failing.aclose()


async def test_what_is_no_token_is_refused_and_changes_nothing(server: Server, provider: Provider):
    async with RedisPool(server.url, credential_provider=provider, **STRICT) as pool:
        await pool.warm(1)
        for wrong in (None, 5):
            with pytest.raises(AttributeError):
                await pool.re_auth_callback(wrong)
        await provider.renew("second")
        await eventually(lambda: pool.stats().idle, "a good one is shown")
        assert pool.stats().closed == {}


async def test_a_token_refused_while_a_connection_opens_costs_the_caller_no_error(
    server: Server, provider: Provider
):
    async with RedisPool(server.url, credential_provider=provider, **STRICT) as pool:
        opening = asyncio.create_task(pool.acquire())
        for _ in range(3):
            await asyncio.sleep(0)
        await pool.re_auth_callback(SimpleToken("wrong", -1, -1, {"oid": USER}))
        await pool.release(await opening)
        assert pool.stats().closed == {"check_failed": 1}


async def test_a_new_connection_is_not_shown_the_token_that_its_provider_gave_it(
    server: Server, provider: Provider, count
):
    async with RedisPool(server.url, credential_provider=provider, check_after=0, **STRICT) as pool:
        await provider.renew("second")
        await pool.warm(1)
        await pool.client().ping()  # after a check
        assert count() == 0
