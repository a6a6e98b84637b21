"""redis-py reconnects under a holder: what it owes, and who it is, must be right then too."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from servers import STRICT, Server, eventually

from aiopool import RedisPool


@pytest.fixture
async def app(server: Server) -> AsyncIterator[str]:
    """The password of a user who may touch keys of `app:` only."""
    server.run(
        "ACL", "SETUSER", "app", "on", ">app-password", "~app:*", "+@all", "-discard", "-unwatch"
    )
    yield "app-password"
    server.run("ACL", "DELUSER", "app")


async def test_a_command_sent_after_a_health_check_has_reconnected_is_owed(server: Server):
    retry = Retry(NoBackoff(), 3)
    async with RedisPool(server.url, max_size=1, health_check_interval=60, retry=retry) as pool:
        async with pool.connection() as conn:
            await conn.send_command("PING")
            await conn.read_response()
            conn.next_health_check = -1  # its time has come
            server.run("CLIENT", "KILL", "TYPE", "normal")
            await eventually(conn._reader.at_eof, "the kill has arrived")
            await conn.send_command("BLPOP", "inbox", 0)
        assert pool.stats().closed == {"dirty": 1}
        server.run("RPUSH", "inbox", "another's")
        assert await pool.client().get("key") is None


class Provider(CredentialProvider):
    """Credentials from a service that may be down or hang."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.state = "up"

    def get_credentials(self) -> tuple[str, str]:
        return "app", self.password

    async def get_credentials_async(self) -> tuple[str, str]:
        if self.state == "hangs":
            await asyncio.get_running_loop().create_future()
        if self.state == "down":
            msg = "the service is down"
            raise RuntimeError(msg)
        return self.get_credentials()


@pytest.mark.parametrize("state", ["down", "hangs"])
async def test_a_connection_whose_handshake_broke_under_its_holder_is_not_lent(
    server: Server, app: str, state: str
):
    provider = Provider(app)
    url = f"redis://127.0.0.1:{server.port}/5"
    async with RedisPool(url, max_size=1, credential_provider=provider) as pool:
        client = pool.client()
        first = asyncio.create_task(client.blpop(["app:list"], timeout=0))
        await eventually(lambda: "blpop" in str(server.clients()), "the first user is blocked")
        provider.state = state
        server.run("CLIENT", "KILL", "TYPE", "normal")
        await eventually(
            lambda: first.done() or len(server.clients()) == 1, "redis-py has reconnected"
        )
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        provider.state = "up"
        assert await client.acl_whoami() in {"app", b"app"}
        assert await client.set("app:key", 1)
        with pytest.raises(NoPermissionError):
            await client.set("key", 1)
        server.run("SELECT", 5)
        assert server.run("EXISTS", "app:key") == 1
        server.run("SELECT", 0)


@pytest.mark.parametrize("commands", [["MULTI", "DISCARD"], ["WATCH app:key", "UNWATCH"]])
async def test_a_transaction_that_the_user_may_not_end_is_not_lent(
    server: Server, app: str, commands: list[str]
):
    options = {"username": "app", "password": app, **STRICT}
    async with RedisPool(server.url, max_size=1, **options) as pool:
        async with pool.connection() as conn:
            for command in commands:
                await conn.send_command(command)
            await conn.read_response()
            with pytest.raises(NoPermissionError):
                await conn.read_response()
        assert await pool.client().get("app:key") is None
        assert pool.stats().closed == {"dirty": 1}


async def test_a_transaction_refused_for_a_command_in_it_is_over(server: Server):
    async with RedisPool(server.url, max_size=1, **STRICT) as pool:
        client = pool.client()
        for _ in range(3):
            pipeline = client.pipeline(transaction=True)
            pipeline.set("key", 1)
            pipeline.execute_command("NONSENSE")
            with pytest.raises(ResponseError):
                await pipeline.execute()
        assert pool.stats().closed == {}
        assert pool.stats().opened == 1


async def test_a_connection_that_is_cut_at_once_is_dialled_with_pauses(unused_tcp_port: int):
    connects = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connects
        connects += 1
        writer.transport.abort()

    front = await asyncio.start_server(hang_up, "127.0.0.1", unused_tcp_port)
    url = f"redis://127.0.0.1:{unused_tcp_port}"
    async with front, RedisPool(url, protocol=2, driver_info=None) as pool:
        with pytest.raises((RedisError, OSError)):
            await pool.acquire(timeout=1.0)
    assert connects < 30
