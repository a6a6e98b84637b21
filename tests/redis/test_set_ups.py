"""Set-ups that servers are found in: TLS both ways, IPv6, ACLs, replicas, full, loading and mute ones."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    ExecAbortError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from servers import STRICT, Server, TlsFront, eventually, wait_blocking
from set_ups import has_ipv6, loading_server

from aiopool import PoolTimeout, RedisPool


def reused(pool: RedisPool) -> bool:
    """Whether all there was to do was done on one connection, which is back and good."""
    stats = pool.stats()
    return (stats.opened, stats.idle, stats.lent, dict(stats.closed)) == (1, 1, 0, {})


async def all_slots_can_be_lent(pool: RedisPool) -> None:
    async with AsyncExitStack() as lent:
        for _ in range(pool.stats().max_size):
            await lent.enter_async_context(pool.connection())
    assert (pool.stats().lent, pool.stats().waiting) == (0, 0)


# ---- ways to the server --------------------------------------------------------------------------


@pytest.fixture
async def fresh_tls(server: Server) -> AsyncIterator[TlsFront]:
    """TLS in front of `server`, to be changed."""
    front = TlsFront(server.port)
    yield front
    await eventually(lambda: front.open == 0, "all connections through TLS are closed")
    front.destroy()


async def test_a_client_certificate_opens_a_server_that_demands_one(fresh_tls, wire, tmp_path):
    fresh_tls.demand_client_certificates()
    options = {"ssl_ca_data": fresh_tls.authority_pem, **fresh_tls.client_certificate(tmp_path)}
    async with RedisPool(fresh_tls.url, max_size=2, **options, **STRICT, **wire) as pool:
        for number in range(3):
            assert await pool.client().echo(str(number)) == str(number).encode()
        assert reused(pool)


async def test_a_renewed_certificate_needs_no_new_pool(fresh_tls):
    options = {"ssl_ca_data": fresh_tls.authority_pem, "min_size": 1, **STRICT}
    async with RedisPool(fresh_tls.url, max_size=2, **options) as pool:
        fresh_tls.present("127.0.0.1", days=-1)
        assert await pool.client().ping()  # on the connection that is open
        pool.drain()
        with pytest.raises(RedisConnectionError, match="certificate has expired"):
            await pool.acquire()
        fresh_tls.present("127.0.0.1")
        await all_slots_can_be_lent(pool)


@pytest.fixture(params=["127.0.0.1", *(["::1"] if has_ipv6() else [])])
def at_host(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(host=request.param)
    yield server
    server.destroy()


async def test_addresses_of_both_internet_protocols_lead_to_the_server(at_host, wire):
    by_url = RedisPool(at_host.url, **STRICT, **wire)
    by_keywords = RedisPool(host=at_host.host, port=at_host.port, **STRICT, **wire)
    for pool in (by_url, by_keywords):
        async with pool:
            assert await pool.client().echo("mine") == b"mine"
            assert reused(pool)
            assert repr(pool).startswith(f"<RedisPool '{at_host.host}:{at_host.port}/0'")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_who_comes_before_the_server_is_served_when_it_is_there(fresh_server, kind):
    fresh_server.stop()
    url = fresh_server.url if kind == "tcp" else fresh_server.unix_url
    async with RedisPool(url, max_size=2) as pool:
        early = asyncio.create_task(pool.client().echo("early"))
        await eventually(lambda: pool.stats().open_failed, "it was tried in vain")
        await asyncio.to_thread(fresh_server.start)
        assert await early == b"early"
        await all_slots_can_be_lent(pool)


# ---- what the server allows ----------------------------------------------------------------------


@pytest.fixture
def reader(server: Server) -> Iterator[dict[str, str]]:
    """Who may read and no more."""
    server.run(
        "ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get", "+echo", "+multi", "+exec"
    )
    yield {"username": "reader", "password": "secret"}
    server.run("ACL", "DELUSER", "reader")


async def test_a_command_that_is_not_permitted_costs_no_connection(server, reader, wire):
    async with RedisPool(server.url, max_size=2, **reader, **STRICT, **wire) as pool:
        client = pool.client()
        with pytest.raises(NoPermissionError):
            await client.set("key", "value")
        with pytest.raises(NoPermissionError):
            await client.pipeline(transaction=False).get("key").set("key", "value").execute()
        with pytest.raises((NoPermissionError, ExecAbortError)):
            await client.pipeline(transaction=True).get("key").set("key", "value").execute()
        assert await client.echo("mine") == b"mine"
        assert reused(pool)


async def test_a_user_who_loses_a_permission_gets_it_back_on_the_same_connection(server, reader):
    async with RedisPool(server.url, **reader, **STRICT) as pool:
        client = pool.client()
        server.run("ACL", "SETUSER", "reader", "-get")
        with pytest.raises(NoPermissionError):
            await client.get("key")
        server.run("ACL", "SETUSER", "reader", "+get")
        assert await client.get("key") is None
        assert reused(pool)


async def test_a_user_who_is_deleted_is_cut_off_and_let_in_again_when_back(server, reader):
    async with RedisPool(server.url, max_size=2, **reader, **STRICT) as pool:
        await all_slots_can_be_lent(pool)
        server.run("ACL", "DELUSER", "reader")
        with pytest.raises(RedisConnectionError):
            await pool.client().get("key")
        server.run("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get")
        assert await pool.client().get("key") is None
        await all_slots_can_be_lent(pool)


@pytest.fixture
def replica(fresh_server: Server) -> Iterator[Server]:
    fresh_server.run("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    replica = Server()
    replica.run("REPLICAOF", fresh_server.host, fresh_server.port)
    yield replica
    replica.destroy()


async def test_a_replica_is_read_and_refuses_to_be_written(fresh_server, replica):
    async with (
        RedisPool(fresh_server.url, **STRICT) as to_primary,
        RedisPool(replica.url, **STRICT) as to_replica,
    ):
        await to_primary.client().set("key", "value")
        await eventually(lambda: replica.run("GET", "key") == "value", "it is replicated")
        assert await to_replica.client().get("key") == b"value"
        with pytest.raises(ReadOnlyError):
            await to_replica.client().set("key", "other")
        assert reused(to_replica)
        replica.run("REPLICAOF", "NO", "ONE")
        assert await to_replica.client().set("key", "other")
        assert reused(to_replica)


# ---- servers in trouble --------------------------------------------------------------------------


async def test_a_command_sent_while_the_server_loads_is_answered_once_it_has_loaded():
    with loading_server() as server:
        refused = server.run("INFO", "errorstats")["errorstat_LOADING"]["count"]
        async with RedisPool(server.url, max_size=2) as pool:
            assert await pool.client().get("key") == b"value"
            assert server.run("INFO", "errorstats")["errorstat_LOADING"]["count"] > refused
            await all_slots_can_be_lent(pool)


@pytest.fixture
def full(fresh_server: Server) -> Server:
    """A server that takes one client besides the admin."""
    fresh_server.run("CONFIG", "SET", "maxclients", 2)
    return fresh_server


async def test_where_the_server_takes_but_one_client_callers_take_turns(full, wire):
    async with RedisPool(full.url, max_size=4, timeout=60, **STRICT, **wire) as pool:
        client = pool.client()
        results = await asyncio.gather(*(client.echo(str(number)) for number in range(50)))
        assert results == [str(number).encode() for number in range(50)]
        assert (pool.stats().opened, pool.stats().open_failed > 0) == (1, True)
        full.run("CONFIG", "SET", "maxclients", 100)
        await all_slots_can_be_lent(pool)


async def test_who_waits_in_vain_for_a_lent_connection_is_told_why_there_are_no_more(full):
    async with RedisPool(full.url, max_size=4) as pool, pool.connection():
        with pytest.raises(PoolTimeout, match=r"lent=1, .*failed: ConnectionError: max number of"):
            await pool.acquire(timeout=0.2)
        full.run("CONFIG", "SET", "maxclients", 100)
        async with pool.connection():
            assert pool.stats().lent == 2


async def test_callers_turned_away_by_a_full_server_are_served_when_it_takes_more(full):
    async with RedisPool(full.url, max_size=2) as other, RedisPool(full.url, max_size=2) as pool:
        assert await other.client().ping()
        early = asyncio.create_task(pool.client().echo("early"))
        await eventually(lambda: pool.stats().open_failed, "it was tried in vain")
        full.run("CONFIG", "SET", "maxclients", 100)
        assert await early == b"early"
        await all_slots_can_be_lent(pool)


@pytest.mark.parametrize("tls", [False, True])
async def test_on_a_mute_server_acquire_ends_in_time_and_all_is_well_when_it_speaks(
    fresh_server, tls
):
    front = TlsFront(fresh_server.port)
    url, options = fresh_server.url, {}
    if tls:
        url, options = front.url, {"ssl_ca_data": front.authority_pem}
    loop = asyncio.get_running_loop()
    async with RedisPool(url, max_size=3, **options) as pool:
        with fresh_server.frozen():
            begun = loop.time()
            results = await asyncio.gather(
                *(pool.acquire(timeout=0.2) for _ in range(10)), return_exceptions=True
            )
            took = loop.time() - begun
            assert {type(result).__name__ for result in results} == {"PoolTimeout"}
            assert 0.19 < took < 1
            assert pool.stats().waiting == 0
        await all_slots_can_be_lent(pool)
        assert await pool.client().echo("mine") == b"mine"
    await eventually(lambda: front.open == 0, "all connections through TLS are closed")
    front.destroy()


async def test_a_command_on_a_mute_connection_ends_after_the_socket_timeout(fresh_server, wire):
    async with RedisPool(
        fresh_server.url, max_size=3, socket_timeout=0.2, **STRICT, **wire
    ) as pool:
        await all_slots_can_be_lent(pool)
        client = pool.client()
        loop = asyncio.get_running_loop()
        with fresh_server.frozen():
            begun = loop.time()
            results = await asyncio.gather(
                *(client.echo(str(number)) for number in range(3)), return_exceptions=True
            )
            took = loop.time() - begun
            assert [type(result) for result in results] == [RedisTimeoutError] * 3
            assert 0.19 < took < 1
            assert (pool.stats().lent, pool.stats().size) == (0, 0)
        # And nobody gets what the server says afterwards.
        results = await asyncio.gather(*(client.echo(str(number)) for number in range(3, 30)))
        assert results == [str(number).encode() for number in range(3, 30)]
        await all_slots_can_be_lent(pool)


@pytest.fixture
def busy_server(fresh_server: Server) -> Iterator[Server]:
    """A server in the midst of a script without end."""
    fresh_server.run("CONFIG", "SET", "lua-time-limit", 1)
    caller = redis.Redis(host=fresh_server.host, port=fresh_server.port)
    script = threading.Thread(target=_run_without_end, args=(caller,))
    script.start()
    wait_blocking(lambda: _is_busy(fresh_server), "the script runs")
    yield fresh_server
    fresh_server.run("SCRIPT", "KILL")
    script.join(10)
    caller.close()


def _is_busy(server: Server) -> bool:
    try:
        server.run("PING")
    except ResponseError:
        return True
    return False


def _run_without_end(caller: redis.Redis) -> None:
    with pytest.raises(ResponseError):  # killed
        caller.eval("while true do end", 0)


async def test_a_server_that_is_busy_with_a_script_costs_no_connection(busy_server: Server):
    # It answers all but a few commands, the PING of a check included, with an error; but it answers.
    async with RedisPool(busy_server.url, max_size=3, check_after=0, **STRICT) as pool:
        await pool.warm(3)
        with pytest.raises(ResponseError, match="busy running a script"):
            await pool.client().get("key")
        assert (pool.stats().opened, pool.stats().idle, dict(pool.stats().closed)) == (3, 3, {})


async def test_retries_without_end_wait_for_the_server_without_end(fresh_server: Server):
    fresh_server.stop()
    endless = Retry(NoBackoff(), -1)  # as redis-py understands it
    async with RedisPool(fresh_server.url, max_size=2, timeout=60, retry=endless) as pool:
        early = asyncio.create_task(pool.client().echo("early"))
        await eventually(
            lambda: pool.stats().open_failed > 3 or early.done(), "it was tried in vain"
        )
        assert not early.done()
        await asyncio.to_thread(fresh_server.start)
        assert await early == b"early"


@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_a_command_under_way_when_its_pool_is_closed_leaves_no_connection(
    fresh_server: Server, timeout
):
    # With retries redis-py would connect again.
    pool = RedisPool(fresh_server.url, retry=Retry(NoBackoff(), 10))
    command = asyncio.create_task(pool.client().blpop(["list"]))
    await eventually(lambda: any("b" in c["flags"] for c in fresh_server.clients()), "it waits")
    await pool.aclose(timeout)
    with pytest.raises(RedisConnectionError):
        await command
    await eventually(lambda: not fresh_server.clients(), "no connection is left")
    assert (pool.stats().size, pool.stats().lent) == (0, 0)
