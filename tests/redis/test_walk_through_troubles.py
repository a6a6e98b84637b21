"""Pools in trouble: closed, disconnected, told to retry, without a server. As redis-py's."""

import asyncio
from typing import Any

import pytest
import redis
from clock import turns
from redis.asyncio.connection import UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.maint_notifications import MaintNotificationsConfig
from servers import Server, Talker, eventually, free_port
from walk import Make, Walk, agree, ask, client_id, client_of, counts, error_of, never

walk = Walk()


@pytest.mark.parametrize(("step", "pools"), walk.steps)
async def test_pools_in_trouble_do_what_redis_pys_do(step, pools, server):
    await agree(step, pools, server)


# ---- closing and replacing -----------------------------------------------------------------------


@walk.feature
async def a_block_gives_the_pool_and_closes_it(make: Make):
    pool = make()
    with pytest.raises(KeyError):  # noqa: PT012 - it shall leave the block
        async with pool as entered:
            assert entered is pool
            assert await client_of(pool).ping()
            assert len(make.server.clients()) == 1
            raise KeyError
    await eventually(lambda: not make.server.clients(), "no connection is left")
    return counts(pool)[1]


@walk.feature
async def a_pool_that_was_closed_is_used_again(make: Make):
    pool = make()
    client = client_of(pool)
    told = []
    for _ in range(3):
        told.append(await client.ping())
        await pool.aclose()
        await eventually(lambda: not make.server.clients(), "no connection is left")
    await pool.aclose()
    conn = await pool.get_connection()
    told.append(conn.is_connected)
    await pool.release(conn)
    assert told == [True] * 4
    return told


@walk.with_each({"closing": ("aclose",), "disconnecting": ("disconnect",)})
async def those_who_hold_connections_lose_them_at_once_by(make: Make, way: str):
    pool = make(retry=never())
    lent = await pool.get_connection()
    client = client_of(pool)
    blocked = asyncio.create_task(client.blpop(["list"], timeout=0))
    await eventually(lambda: "b" in "".join(c["flags"] for c in make.server.clients()), "it is")
    async with asyncio.timeout(1):
        await getattr(pool, way)()
    told = [lent.is_connected, await what_is_caught(blocked)]
    await pool.release(lent)
    told += [counts(pool)[1], await client.ping()]
    assert told == [False, "connection", 0, True]
    return told


@walk.feature
async def disconnecting_replaces_every_connection(make: Make):
    pool = make()
    lent = await pool.get_connection()
    idle = await client_id(pool)
    mine = await ask(lent, "CLIENT", "ID")
    await pool.disconnect()
    told = [lent.is_connected]
    await eventually(lambda: not make.server.clients(), "no connection is left")
    assert await ask(lent, "CLIENT", "ID") > mine  # by itself
    await pool.release(lent)
    told += [await client_id(pool) > idle, counts(pool)[1]]
    assert told == [False, True, 0]
    return told


@walk.feature
async def disconnecting_idle_connections_leaves_the_lent_ones(make: Make):
    pool = make()
    lent = await pool.get_connection()
    idle = await client_id(pool)
    mine = await ask(lent, "CLIENT", "ID")
    await pool.disconnect(inuse_connections=False)
    told = [lent.is_connected, await ask(lent, "CLIENT", "ID") == mine]
    told.append(await client_id(pool) > idle)
    await pool.release(lent)
    told.append(await client_of(pool).ping())
    assert told == [True] * 4
    return told


@walk.feature
async def a_connection_may_come_back_after_disconnect_and_unused(make: Make):
    pool = make(max_connections=1)
    for again in range(3):
        conn = await pool.get_connection()
        if again:
            await conn.disconnect()
        await pool.disconnect()
        await pool.release(conn)
    assert await client_of(pool).echo("mine") == b"mine"
    return counts(pool)


@walk.feature
async def reset_forgets_connections_and_the_pool_goes_on(make: Make):
    pool = make()
    first = await client_id(pool)
    await pool.disconnect()  # redis-py's own reset leaves them to the garbage collector
    pool.reset()
    told = [counts(pool), await client_id(pool) > first]
    assert told == [[0, 0], True]
    return told


@walk.feature
async def lent_connections_can_be_marked_for_replacement(make: Make):
    pool = make()
    lent = await pool.get_connection()
    mine = await ask(lent, "CLIENT", "ID")
    idle = await client_id(pool)
    told = [lent.should_reconnect()]
    await pool.update_active_connections_for_reconnect()
    told += [lent.should_reconnect(), lent.is_connected, await client_id(pool) == idle]
    await pool.release(lent)
    one, other = await pool.get_connection(), await pool.get_connection()
    ids = {await ask(conn, "CLIENT", "ID") for conn in (one, other)}
    told += [idle in ids, mine in ids, one.should_reconnect(), other.should_reconnect()]
    await pool.release(one)
    await pool.release(other)
    assert told == [False, True, True, True, True, False, False, False]
    return told


# ---- retry, maintenance --------------------------------------------------------------------------


@walk.feature
async def a_retry_counts_for_idle_lent_and_future_connections(make: Make):
    pool = make(retry=Retry(ConstantBackoff(0), 3))
    client = client_of(pool)
    lent = await pool.get_connection()
    await client.ping()
    assert client.get_retry().get_retries() == 3
    assert lent.retry.get_retries() == pool.make_connection().retry.get_retries() == 3
    told = []
    for change in (client.set_retry, pool.set_retry):
        retry = Retry(ConstantBackoff(0), 5 + len(told))
        change(retry)
        idle = await pool.get_connection()
        told.append([idle.retry.get_retries(), lent.retry.get_retries()])
        if change == client.set_retry:
            assert client.get_retry() is retry
            told.append([pool.make_connection().retry.get_retries()])
        await pool.release(idle)
    await pool.release(lent)
    assert told == [[5, 5], [5], [7, 7]]
    return told


@walk.feature
async def without_retries_an_error_comes_through_and_with_them_not(make: Make):
    told = []
    for retries in (0, 1):
        client = make.client(max_connections=1, retry=Retry(ConstantBackoff(0), retries))
        async with client.client() as single:  # its connection is not looked at before each command
            make.server.kill_clients()
            outcome = await asyncio.gather(single.echo("mine"), return_exceptions=True)
            told.append(isinstance(outcome[0], redis.ConnectionError) or outcome[0])
    assert told == [True, b"mine"]
    return told


@walk.with_each(
    {
        "default": ({},),
        "resp2": ({"protocol": 2},),
        "off": ({"maint_notifications_config": MaintNotificationsConfig(enabled=False)},),
        "auto": ({"maint_notifications_config": MaintNotificationsConfig(enabled="auto")},),
        "on": ({"maint_notifications_config": MaintNotificationsConfig(enabled=True)},),
    }
)
async def maintenance_notifications_can_be_asked_for(make: Make, keywords: dict[str, Any]):
    pool = make(retry=never(), **keywords)
    outcome = await asyncio.gather(client_of(pool).ping(), return_exceptions=True)
    # This server knows none: if they are a must, there is no connection.
    assert (outcome == [True]) == (pool.maint_notifications_enabled() is not True)
    return pool.maint_notifications_enabled() or False, type(outcome[0]).__name__


# ---- errors, handled in the way of redis-py's documentation --------------------------------------


async def what_is_caught(attempt: Any) -> str:
    try:
        await attempt
    except redis.AuthenticationError:
        return "authentication"
    except redis.ConnectionError:
        return "connection"
    except redis.TimeoutError:
        return "timeout"
    except redis.ResponseError:
        return "response"
    return "nothing"


@walk.feature
async def a_server_that_is_down_is_a_connection_error(make: Make):
    port = free_port()
    pool = make(host="127.0.0.1", port=port, retry=never())
    client = client_of(pool)
    async with asyncio.timeout(10):
        told = [await what_is_caught(client.ping()), str(await error_of(pool.get_connection()))]
    assert told[0] == "connection"
    return told[0], told[1].replace(str(port), "PORT"), counts(pool)[1]


@walk.feature
async def a_server_that_went_down_is_told_at_once_while_others_hold_connections(make: Make):
    other = Server()
    try:
        pool = make(host="127.0.0.1", port=other.port, retry=never())
        client = client_of(pool)
        async with client.pubsub() as pubsub:  # may hold its connection for days
            await pubsub.subscribe("news")
            other.stop()
            async with asyncio.timeout(1):
                caught = await what_is_caught(client.ping())
    finally:
        other.destroy()
    assert caught == "connection"
    return caught


@walk.feature
async def a_name_that_leads_nowhere_is_a_connection_error(make: Make):
    caught = await what_is_caught(
        make.client(
            connection_class=UnixDomainSocketConnection, path="/nowhere", retry=never()
        ).ping()
    )
    assert caught == "connection"
    return caught


@walk.feature
async def a_wrong_password_is_an_authentication_error(make: Make):
    client = make.client(username="nobody", password="wr0ng", retry=never())  # noqa: S106 - as it says
    error = await error_of(client.ping())
    assert await what_is_caught(client.ping()) == "authentication"
    return type(error).__name__, str(error)


@walk.feature
async def a_server_that_is_silent_is_a_timeout_error(make: Make):
    talker = Talker()
    try:
        pool = make(host="127.0.0.1", port=talker.port, socket_timeout=0.1, retry=never())
        client = client_of(pool)
        told = [await what_is_caught(client.echo("mine"))]
        talker.mute.set()
        told += [await what_is_caught(client.echo("mine")), counts(pool)[1]]
        talker.mute.clear()
        told.append(await client.echo("mine"))
        await pool.aclose()
    finally:
        talker.destroy()
    assert told == ["nothing", "timeout", 0, b"mine"]
    return told


@walk.feature
async def an_error_reply_is_a_response_error_and_costs_no_connection(make: Make):
    pool = make()
    client = client_of(pool)
    first = await client.client_id()
    told = [await what_is_caught(client.execute_command("NONSENSE"))]
    await client.set("text", "abc")
    error = await error_of(client.incr("text"))
    told += [type(error).__name__, str(error), await client.client_id() == first]
    assert told[0] == "response"
    return told


@walk.feature
async def a_cancelled_command_harms_nobody(make: Make):
    pool = make(max_connections=1, retry=never())
    client = client_of(pool)

    def blocks() -> bool:
        return "b" in "".join(c["flags"] for c in make.server.clients())

    for number in range(3):
        blocked = asyncio.create_task(client.blpop(["list"], timeout=0))
        await eventually(blocks, "it blocks")
        await turns(5)  # till redis-py has left wait_for(), which may swallow it on CPython 3.11
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        assert await client.echo(str(number)) == str(number).encode()
        await eventually(lambda: not blocks(), "the server has noticed it")
    return counts(pool)
