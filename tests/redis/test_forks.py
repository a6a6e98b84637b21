"""A process forks while its pool is in use: parent and child must not touch each other's connections."""

import pytest
from scripts import LOOPS, run_script

FORKS = """
import multiprocessing, traceback, warnings
from aiopool import NotLent

gc.freeze()  # what was imported need not be looked through again and again

lent = []
pipe = task = None

# ---- what the parent is at: what it begins before the fork and finishes after it

class Idle:
    async def begin(self):
        pass
    async def finish(self):
        pass

class Lent:  # with a reply on its way
    async def begin(self):
        lent.append(await pool.acquire())
        await lent[0].send_command("ECHO", "mine")
    async def finish(self):
        assert await lent[0].read_response() == b"mine"
        await lent[0].send_command("CLIENT", "ID")
        assert await lent[0].read_response() == parents
        await pool.release(lent.pop())

class Transaction:
    async def begin(self):
        global pipe
        pipe = client.pipeline()
        await pipe.watch("key")
        assert await pipe.execute_command("CLIENT", "ID") == parents
        lent.append(pipe.connection)
    async def finish(self):
        await pipe.get("key")
        pipe.multi()
        replies = await pipe.set("key", 1).execute_command("CLIENT", "ID").get("key").execute()
        assert replies == [True, parents, b"1"]
        lent.clear()

class Pipeline:  # sent, and not answered yet
    async def begin(self):
        global pipe, task
        pipe = client.pipeline(transaction=False)
        task = asyncio.create_task(pipe.echo("mine").execute_command("CLIENT", "ID").execute())
        await asyncio.sleep(0)
        lent.append(pipe.connection)
    async def finish(self):
        assert await task == [b"mine", parents]
        lent.clear()

moments = [Lent(), Transaction()]
if not authority:  # TLS is another transport, no more
    moments += [Idle(), Pipeline()]

# ---- what the child does

async def child_that_does_nothing():
    pass

async def child_that_uses_it():
    words = [str(number) for number in range(10)]
    assert await asyncio.gather(*map(client.echo, words)) == [word.encode() for word in words]
    assert await client.client_id() != parents
    assert pool.stats().lent == 0

async def child_that_releases():
    for conn in lent:
        try:
            await pool.release(conn)
        except NotLent:
            continue
        raise AssertionError("what the parent has lent was taken back")
    await child_that_uses_it()

async def child_that_closes():
    await pool.aclose()
    await pool.open()
    await child_that_uses_it()

async def child_that_drains():
    pool.drain()
    pool.reset()
    pool.resize(max_size=3)
    await pool.re_auth_callback(SimpleToken("new", -1, 0, {"oid": "me"}))
    await pool.update_active_connections_for_reconnect()
    await child_that_uses_it()

async def child_that_disconnects():
    await pool.disconnect()
    await child_that_uses_it()

async def child_that_forgets():
    global pool, client, pipe, task
    pool = client = pipe = task = None
    lent.clear()
    gc.collect()

async def child_that_uses_it_and_forgets():
    await child_that_uses_it()
    await child_that_forgets()

children = [
    child_that_does_nothing,
    child_that_uses_it,
    child_that_releases,
    child_that_closes,
    child_that_drains,
    child_that_disconnects,
    child_that_forgets,
    child_that_uses_it_and_forgets,
]

# ---- forks

def in_child(child):
    warnings.simplefilter("ignore")  # of what the parent has not closed
    logging.disable()
    run(child())
    gc.collect()

def fork(child):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0, "the child failed"
        return False
    try:
        in_child(child)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    return True

def fork_and_exit_at_once(child):
    if fork(child):
        os._exit(0)

def multiprocess(child):
    process = multiprocessing.get_context("fork").Process(target=in_child, args=(child,))
    process.start()
    process.join()
    assert process.exitcode == 0, "the child failed"

async def begin(moment):
    global parents
    parents = await client.client_id()
    await moment.begin()

async def finish(moment):
    async with asyncio.timeout(3):
        await moment.finish()
        assert await client.client_id() == parents
    assert str(pool.stats()) == "size=1/1, idle=1, lent=0, opening=0, waiting=0"

async def fork_with_a_running_loop(moment, how, child):
    await begin(moment)
    how(child)
    await finish(moment)

pool.resize(max_size=1)
runner = new_runner()
for child in children:
    for moment in moments:
        try:
            runner.run(fork_with_a_running_loop(moment, fork_and_exit_at_once, child))
            if child in {child_that_does_nothing, child_that_uses_it, child_that_forgets}:
                runner.run(fork_with_a_running_loop(moment, multiprocess, child))
                # Between two runs the child can come to its end in the usual way, with finalisers.
                # (That of the parent's event loop unregisters its wake-up pipe, for the parent as
                # well: from now on no thread could wake it. But there is none here.)
                runner.run(begin(moment))
                if fork(child):
                    sys.exit()
                runner.run(finish(moment))
        except Exception as error:
            error.add_note(f"{child.__name__}, {type(moment).__name__}")
            raise
assert pool.stats().opened == 1
runner.run(pool.aclose())
runner.close()
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_child_leaves_the_parents_connections_alone(server, tls, tmp_path, loop, kind):
    url = {"tcp": server.url, "tls": tls.url}[kind]
    run_script(tmp_path, FORKS, loop, url, tls.authority_pem if kind == "tls" else "")
