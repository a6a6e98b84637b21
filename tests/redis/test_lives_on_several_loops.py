"""One pool for the whole process: run after run, whatever was left undone at the end of the last."""

import asyncio

import pytest
from scripts import LOOPS, run_script
from servers import eventually

from aiopool import RedisPool

COMMON = """
left = []  # what a run has left undone; kept for the next, so that nobody's finaliser tidies up

async def use():
    words = [str(number) for number in range(20)]
    assert await asyncio.gather(*map(client.echo, words)) == [word.encode() for word in words]

async def keep_one():
    left.append(await pool.acquire())

async def all_is_well():
    await pool.open()
    conns = [await pool.acquire() for _ in range(2)]
    for conn in conns:
        await conn.send_command("ECHO", str(id(conn)))
    for conn in conns:
        assert await conn.read_response() == str(id(conn)).encode()
        await pool.release(conn)
    assert str(pool.stats()) == "size=2/2, idle=2, lent=0, opening=0, waiting=0"
    async with asyncio.timeout(10):
        while [peer["name"] for peer in await client.client_list()].count("pool") != 2:
            await asyncio.sleep(0.005)
"""

ENDINGS = """
for_ever = []

async def leave_a_waiter():
    for _ in range(2):
        left.append(await pool.acquire())
    left.append(asyncio.create_task(client.ping()))
    while not pool.stats().waiting:
        await asyncio.sleep(0)

async def leave_an_opening():
    await client.execute_command("CLIENT PAUSE", 200)
    left.append(asyncio.create_task(pool.warm(2)))
    while not pool.stats().opening:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)  # usually it waits for the server's greeting then

async def leave_a_subscriber():
    pubsub = client.pubsub()
    left.append(pubsub)
    await pubsub.subscribe("news")
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"

async def leave_a_listener():
    await leave_a_subscriber()
    left.append(asyncio.create_task(left[-1].get_message(timeout=None)))
    await asyncio.sleep(0)

async def begin_a_transaction():
    pipe = client.pipeline()
    for_ever.append(pipe)  # its finaliser would complain
    await pipe.watch("key")
    pipe.multi()
    pipe.set("key", "theirs").echo("theirs")
    return pipe

async def leave_a_transaction():
    await begin_a_transaction()

async def leave_an_execution():
    pipe = await begin_a_transaction()
    left.append(asyncio.create_task(pipe.execute()))
    await asyncio.sleep(0)

async def leave_a_cancelled_execution():
    await leave_an_execution()
    left[-1].cancel()

async def leave_a_blocking_command():
    left.append(asyncio.create_task(client.blpop("list", timeout=0)))
    while not any("b" in peer["flags"] for peer in await client.client_list()):
        pass  # it is not blocked yet

async def leave_a_closing():
    await keep_one()
    left.append(asyncio.create_task(pool.aclose(timeout=None)))
    await asyncio.sleep(0)

endings = [
    use,
    keep_one,
    leave_a_subscriber,
    leave_an_execution,
]
if not authority:  # TLS is another transport, no more
    endings += [
        leave_a_waiter,
        leave_a_listener,
        leave_a_transaction,
        leave_a_cancelled_execution,
        leave_a_blocking_command,
        leave_a_closing,
        leave_an_opening,  # (with TLS asyncio would warn of the socket)
    ]
for end in endings:
    run(end())
    gc.collect()
    try:
        run(all_is_well())
    except BaseException as error:
        error.add_note(f"after {end.__name__}()")
        raise
    left.clear()
    gc.collect()
run(pool.aclose())
gc.collect()
assert pool.stats().size == 0
for pipe in for_ever:
    pipe.connection = None
"""

BEGINNINGS = """
async def leave_one_idle_and_one_lent():
    await pool.warm(2)
    await keep_one()

async def first(call):
    result = call()
    if asyncio.iscoroutine(result):
        await result

beginnings = {
    "acquire": pool.acquire,
    "warm": lambda: pool.warm(1),
    "open": pool.open,
    "aclose": pool.aclose,
    "drain": pool.drain,
    "reset": pool.reset,
    "resize": lambda: pool.resize(min_size=1),
    "disconnect": pool.disconnect,
    "disconnect of the idle": lambda: pool.disconnect(inuse_connections=False),
    "set_retry": lambda: pool.set_retry(client.get_retry()),
    "re_auth_callback": lambda: pool.re_auth_callback(SimpleToken("new", -1, 0, {"oid": "me"})),
    "update": pool.update_active_connections_for_reconnect,
}
for name, call in beginnings.items():
    run(leave_one_idle_and_one_lent())
    try:
        run(first(call))
        left.clear()
        gc.collect()
        run(all_is_well())
    except BaseException as error:
        error.add_note(f"{name}()")
        raise
run(pool.aclose())
gc.collect()
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_one_pool_serves_run_after_run_whatever_the_last_has_left(
    server, tls, tmp_path, loop, kind
):
    url = {"tcp": server.url, "tls": tls.url}[kind]
    run_script(tmp_path, COMMON + ENDINGS, loop, url, tls.authority_pem if kind == "tls" else "")


@pytest.mark.parametrize("loop", LOOPS)
def test_the_next_run_may_begin_with_any_call(server, tmp_path, loop):
    run_script(tmp_path, COMMON + BEGINNINGS, loop, server.url, "")


async def test_a_pool_whose_loop_has_ended_is_taken_over_by_another_thread(server):
    pool = RedisPool(server.url, max_size=2)

    def elsewhere() -> int:
        return asyncio.run(pool.client().client_id())

    numbers = [await asyncio.to_thread(elsewhere) for _ in range(3)]
    numbers.append(await pool.client().client_id())
    assert len(set(numbers)) == 4
    await eventually(lambda: len(server.clients()) == 1, "those of the ended loops are closed")
    await pool.aclose()
