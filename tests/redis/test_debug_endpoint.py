"""What a service tells of its pools, over a socket and on a page: the truth, to whom it is meant for, no secrets."""

import asyncio
import errno
import gc
import json
import os
import re
import socket
import stat
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from redis.asyncio import Redis
from servers import STRICT, Server, eventually
from starlette.applications import Starlette
from starlette.routing import Mount

from aiopool import Pool, RedisCluster, RedisPool
from aiopool.integrations import debug


@pytest.fixture
def path(server: Server) -> Path:
    """Where a socket may be: not in pytest's tmp_path, which is too long."""
    path = server.folder / "debug"
    assert not path.exists()
    return path


async def ask(path, line=b"\n"):
    """Ask once, as a stranger would."""
    reader, writer = await asyncio.open_unix_connection(path, limit=2**20)
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return json.loads(answer)


async def get(app, path, method="GET", mount=""):
    """Make an HTTP request, without HTTP."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": mount,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "server": ("localhost", 80),
    }
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:])


@asynccontextmanager
async def held(pool, *names):
    """Have a connection lent to a task of each name, in this order."""
    done = asyncio.Event()

    async def hold():
        async with pool.connection():
            await done.wait()

    tasks = []
    for number, name in enumerate(names, pool.stats().lent + 1):
        tasks.append(asyncio.create_task(hold(), name=name))
        await eventually(lambda n=number: pool.stats().lent == n, "it is lent")
    try:
        yield
    finally:
        done.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def standing(pool, *names):
    """Have a task of each name wait for a connection, in this order, for as long as the block lasts."""
    tasks = [asyncio.create_task(pool.acquire(timeout=None), name=name) for name in names]
    await eventually(lambda: pool.stats().waiting == len(names), "they wait")
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# ---- what is told --------------------------------------------------------------------------------


async def test_over_the_socket_comes_what_the_pools_say_of_themselves(server, path):
    async with (
        RedisPool(server.url, max_size=2, leak_after=60, **STRICT) as pool,
        RedisPool(server.url, max_size=7, name="second", **STRICT) as second,
        debug.serve(pool, second, path=path),
    ):
        client = pool.client()
        assert sum([await client.incr("n") for _ in range(20)]) == 210
        async with held(pool, "report", "import"), standing(pool, "first", "then"):
            assert await second.client().incr("n") == 21
            told = await ask(path)
            assert told["pid"] == os.getpid()
            one, two = told["pools"]
            assert one["name"] == f"127.0.0.1:{server.port}/0"
            assert one["kind"] == two["kind"] == "RedisPool"
            assert one["stats"] == asdict(pool.stats())
            assert (one["stats"]["lent"], one["stats"]["waiting"]) == (2, 2)
            assert one["stats"]["acquired"] == 22
            assert [holder["task"] for holder in one["holders"]] == ["report", "import"]
            assert all(__file__ in holder["where"] for holder in one["holders"])
            assert one["holders"][0]["age"] >= one["holders"][1]["age"] > 0
            assert [waiter["task"] for waiter in one["waiters"]] == ["first", "then"]
            assert one["waiters"][0]["age"] >= one["waiters"][1]["age"] >= 0
            assert one["last_error"] is None
            assert two["name"] == "second"
            assert (two["stats"]["max_size"], two["stats"]["acquired"]) == (7, 1)
            assert two["holders"] == two["waiters"] == []


async def test_of_a_holder_it_is_told_whether_its_task_has_ended(server):
    async with RedisPool(server.url, **STRICT) as pool:
        conn = await asyncio.create_task(pool.acquire(), name="forgetful")
        async with held(pool, "alive"):
            (told,) = debug.snapshot(pool)["pools"]
        await pool.release(conn)
    holders = {holder["task"]: holder["ended"] for holder in told["holders"]}
    assert holders == {"forgetful": True, "alive": False}


async def test_a_long_line_is_told_in_part(server):
    async with RedisPool(server.url, max_size=1, **STRICT) as pool, held(pool, "one"):
        names = [f"task {n}" for n in range(60)]
        async with standing(pool, *names):
            (told,) = debug.snapshot(pool)["pools"]
    assert [waiter["task"] for waiter in told["waiters"]] == names[:50]
    assert told["more_waiters"] == 10
    assert told["stats"]["waiting"] == 60


async def test_many_holders_are_told_in_part_the_longest_there_first(server):
    async with RedisPool(server.url, max_size=52, **STRICT) as pool, held(pool, "oldest"):
        others = [await pool.acquire() for _ in range(51)]
        (told,) = debug.snapshot(pool)["pools"]
        for conn in others:
            await pool.release(conn)
    assert told["holders"][0]["task"] == "oldest"
    assert (len(told["holders"]), told["more_holders"]) == (50, 2)


async def test_whatever_has_a_pool_can_be_told_of(server):
    async with RedisPool(server.url, max_size=3, **STRICT) as pool:
        few = pool.view(limit=2, name="few")
        assert await pool.pipelined().ping()
        async with few.connection():
            told = debug.snapshot(pool, pool.pipelined(), few)["pools"]
    assert [one["stats"]["lent"] for one in told] == [1, 1, 1]
    assert told[0]["name"] == told[1]["name"] == pool.name
    assert told[2]["name"] == few.name


async def test_a_view_is_told_of_as_that_and_of_which_pool_its_name_says():
    async with RedisPool("redis://localhost", name="shop") as pool, Pool(Mock()) as other:
        views = [pool.view(limit=2, name="slow"), other.view(limit=1)]
        told = debug.snapshot(pool, *views)["pools"]
    assert [(one["name"], one["kind"]) for one in told] == [
        ("shop", "RedisPool"),
        ("slow of shop", "view"),
        ("view of pool", "view"),
    ]


async def test_a_cluster_is_told_of_as_its_nodes(cluster_fleet):
    async with RedisCluster.from_url(cluster_fleet.url) as cluster:
        for n in range(20):
            await cluster.set(f"key {n}", n)
        told = {one["name"]: one["stats"] for one in debug.snapshot(cluster)["pools"]}
        assert told == {
            name: asdict(stats) for name, stats in cluster.node_stats().items() if stats.acquired
        }
        assert sum(stats["acquired"] for stats in told.values()) == cluster.stats().acquired >= 20


@pytest.mark.parametrize("wrong", ["redis://localhost", None, Redis])
def test_what_is_no_pool_is_refused_at_the_call_and_it_is_said_what_is_one(wrong):
    for called in (debug.snapshot, debug.app, partial(debug.serve, path="/none")):
        with pytest.raises(TypeError, match=r"^not a pool: a \w+; give pools .* RedisCluster"):
            called(wrong)


def test_to_show_no_pool_at_all_is_refused_at_the_call():
    for called in (debug.app, partial(debug.serve, path="/none")):
        with pytest.raises(TypeError, match=r"^no pool is given; give pools"):
            called()


def test_without_starlette_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'aiopool\[web\]'$") as failed:
        debug.app(RedisPool("redis://localhost"))
    assert failed.value.name == "starlette.applications"


def test_what_is_no_path_is_refused_at_the_call():
    with pytest.raises(TypeError, match="NoneType"):
        debug.serve(RedisPool("redis://localhost"), path=None)


# ---- secrets -------------------------------------------------------------------------------------


async def top(target):
    """Run `aiopool top --once` in a process of its own."""
    words = [sys.executable, "-W", "error", "-m", "aiopool", "top", "--once", str(target)]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_neither_password_nor_user_is_told_to_anybody(locked_server, path):
    server = locked_server
    assert server.password is not None
    server.run("ACL", "SETUSER", "us3r", "on", ">s3cret-of-us3r", "~*", "+@all")
    url = f"redis://us3r:s3cret-of-us3r@127.0.0.1:{server.port}"
    async with (
        RedisPool(url, **STRICT) as pool,
        RedisPool(url.replace("-of-us3r", "-wrong"), name="wrong", timeout=1, **STRICT) as wrong,
        debug.serve(pool, wrong, path=path),
    ):
        await pool.client().ping()
        with pytest.raises(Exception, match=r"WRONGPASS|invalid username-password"):
            await wrong.client().ping()
        async with held(pool, "holder"):
            app = debug.app(pool, wrong)
            over_socket = json.dumps(await ask(path))
            page, told = [(await get(app, path))[2].decode() for path in ("/", "/snapshot.json")]
            code, shown = await top(path)
    assert code == 0
    for text in (over_socket, told, shown):
        assert "AuthenticationError" in text
        assert "holder" in text
    for text in (over_socket, told, shown, page):
        assert not re.search("s3cret|us3r", text)


async def test_what_a_server_repeats_of_a_password_is_not_told(tmp_path):
    (tmp_path / "redis.conf").write_text('rename-command HELLO ""')
    server = Server(password="s3cret", include=str(tmp_path / "redis.conf"))  # noqa: S106 - not one that matters
    try:
        url = f"redis://:s3cret@127.0.0.1:{server.port}"
        async with RedisPool(url, protocol=3, timeout=1, **STRICT) as pool:
            with pytest.raises(Exception, match="s3cret"):
                await pool.client().ping()
            (told,) = debug.snapshot(pool)["pools"]
            assert told["last_error"] == "ResponseError"
            assert "s3cret" not in json.dumps(told)
    finally:
        server.destroy()


async def test_an_error_of_the_network_is_told_in_full():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        port = deaf.getsockname()[1]
        async with RedisPool(f"redis://127.0.0.1:{port}", timeout=1, **STRICT) as pool:
            with pytest.raises(Exception, match=str(port)):
                await pool.client().ping()
            (told,) = debug.snapshot(pool)["pools"]
    assert told["last_error"].startswith("ConnectionError: ")
    assert str(port) in told["last_error"]


# ---- the socket ----------------------------------------------------------------------------------


async def test_the_socket_is_for_its_user_only_and_gone_in_the_end(server, path):
    async with RedisPool(server.url) as pool:
        async with debug.serve(pool, path=path):
            mode = path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
        assert not path.exists()
        with pytest.raises(ZeroDivisionError):
            async with debug.serve(pool, path=str(path)):
                raise ZeroDivisionError
        assert not path.exists()


async def test_what_a_dead_process_has_left_is_replaced(server, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    async with RedisPool(server.url) as pool, debug.serve(pool, path=path):
        assert (await ask(path))["pools"][0]["stats"]["lent"] == 0


async def test_a_socket_that_is_served_is_left_to_who_serves_it(server, path):
    async with RedisPool(server.url) as pool, debug.serve(pool, path=path):
        with pytest.raises(OSError, match="serves there already") as refused:
            await debug.serve(pool, path=path).__aenter__()
        assert refused.value.errno == errno.EADDRINUSE
        assert str(path) in str(refused.value)
        assert (await ask(path))["pid"] == os.getpid()
    assert not path.exists()


async def test_a_busy_socket_is_no_dead_one(server, path):
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))  # and no more have room
        async with RedisPool(server.url) as pool:
            with pytest.raises(OSError, match="serves there already"):
                await debug.serve(pool, path=path).__aenter__()
    path.unlink()


async def test_where_no_socket_can_be_made_it_is_said_where(server, path):
    missing, long = path / "none" / "socket", path.with_name("x" * 200)
    async with RedisPool(server.url) as pool:
        with pytest.raises(FileNotFoundError) as failed:
            await debug.serve(pool, path=missing).__aenter__()
        assert failed.value.filename == str(missing)
        assert str(failed.value).endswith(f": '{missing}'")
        with pytest.raises(OSError, match=f"path too long: '{long}'$") as failed:
            await debug.serve(pool, path=long).__aenter__()
        assert failed.value.errno == errno.ENAMETOOLONG


async def test_a_file_is_not_touched(server, path):
    path.write_text("mine")
    async with RedisPool(server.url) as pool:
        with pytest.raises(FileExistsError):
            await debug.serve(pool, path=path).__aenter__()
    assert path.read_text() == "mine"
    path.unlink()


async def test_what_took_its_place_is_not_removed(server, path):
    async with RedisPool(server.url) as pool:
        async with debug.serve(pool, path=path):
            path.rename(path.with_name("old"))  # so that its inode is not used again
            path.write_text("another's")
        assert path.read_text() == "another's"
    path.unlink()
    path.with_name("old").unlink()


# ---- who asks ------------------------------------------------------------------------------------


async def test_who_asks_again_is_answered_again(server, path):
    async with RedisPool(server.url) as pool, debug.serve(pool, path=path):
        reader, writer = await asyncio.open_unix_connection(path)
        for acquired in range(3):
            writer.write(b"anything will do\n")
            told = json.loads(await reader.readline())
            assert told["pools"][0]["stats"]["acquired"] == acquired
            await pool.client().ping()
        writer.write(b"half a line")
        writer.write(b" and its end\n")
        writer.write_eof()
        assert json.loads(await reader.readline())["pools"][0]["stats"]["acquired"] == 3
        assert await reader.read() == b""
        writer.close()


async def answers_to(path, *sent):
    """Send all that, end, and count the answers."""
    reader, writer = await asyncio.open_unix_connection(path)
    for part in sent:
        writer.write(part)
        await asyncio.sleep(0)
    writer.write_eof()
    answers = (await reader.read()).splitlines(keepends=True)
    writer.close()
    assert all(line.endswith(b"\n") and json.loads(line)["pid"] for line in answers)
    return len(answers)


@pytest.mark.parametrize(
    ("sent", "lines"),
    [
        ([], 0),
        ([b"a\nb\n"], 2),
        ([b"\n" * 1000], 1000),
        ([b"a longer line than is read at once\n" * 3], 3),
        ([b"no end"], 1),
        ([b"a\nno end"], 2),
        ([b"x" * 15 + b"\n"], 1),
        ([b"a", b"b\n", b"\n", b"c"], 3),
    ],
)
async def test_each_line_is_answered_the_last_also_without_its_end(server, path, sent, lines):
    async with asyncio.timeout(20), RedisPool(server.url) as pool, debug.serve(pool, path=path):
        assert await answers_to(path, *sent) == lines


async def test_silent_vanishing_and_nonsense_clients_harm_nothing(server, path):
    async with asyncio.timeout(10), RedisPool(server.url) as pool:
        async with debug.serve(pool, path=path):
            bad = [await asyncio.open_unix_connection(path) for _ in range(30)]
            for number, (_, writer) in enumerate(bad):
                if number % 3 == 1:
                    writer.write(os.urandom(1000).replace(b"\n", b"") * 300)
                elif number % 3 == 2:
                    writer.write(b"\n")
                    writer.transport.abort()
            assert (await ask(path))["pools"][0]["stats"]["acquired"] == 0
            assert await pool.client().ping()
        # Its end is not delayed by those who are still there, and is theirs.
        for reader, writer in bad:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()


# (Who comes two turns before is accepted, but asyncio drops it without closing it: that is left to the
# garbage collector, with any server of asyncio's.)
@pytest.mark.parametrize("turns", [0, 1, 3, 4])
async def test_who_comes_when_it_ends_is_sent_away(server, path, turns):
    with socket.socket(socket.AF_UNIX) as late:
        late.settimeout(0.0)
        async with asyncio.timeout(10), RedisPool(server.url) as pool:
            async with debug.serve(pool, path=path):
                late.connect(str(path))
                for _ in range(turns):
                    await asyncio.sleep(0)
            with suppress(ConnectionError):
                assert await asyncio.get_running_loop().sock_recv(late, 1) == b""


async def test_a_flood_of_lines_makes_no_more_than_a_snapshot_in_a_turn(server, path, monkeypatch):
    turn, made = 0, []

    def count():
        nonlocal turn, ticking
        turn += 1
        ticking = loop.call_soon(count)

    loop = asyncio.get_running_loop()
    snapshot = debug.snapshot
    async with RedisPool(server.url) as pool, debug.serve(pool, path=path):
        monkeypatch.setattr(debug, "snapshot", lambda *pools: made.append(turn) or snapshot(*pools))
        ticking = loop.call_soon(count)
        assert await answers_to(path, b"\n" * 5000) == 5000
        ticking.cancel()
    assert 100 < len(made) == len(set(made)) < 1000


async def test_who_does_not_read_is_not_heard_either(server, path):
    async with RedisPool(server.url) as pool, debug.serve(pool, path=path):
        with socket.socket(socket.AF_UNIX) as mute:
            mute.settimeout(0.0)
            mute.connect(str(path))
            stuck = 0
            for _ in range(20_000):
                try:
                    mute.send(b"\n")
                    stuck = 0
                except BlockingIOError:
                    stuck += 1
                    if stuck == 50:
                        break
                await asyncio.sleep(0)
            assert stuck == 50
            buffered = [
                each.transport.get_write_buffer_size()
                for each in gc.get_objects()
                if isinstance(each, debug._Asking) and not each.transport.is_closing()
            ]
            assert len(buffered) == 1
            assert 0 < buffered[0] < 50_000  # one line's answer is some 600 bytes
            assert (await ask(path))["pid"] == os.getpid()


# ---- the page ------------------------------------------------------------------------------------


async def test_the_page_and_its_numbers_are_found_wherever_they_are_mounted(server):
    async with RedisPool(server.url, max_size=3) as pool:
        app = Starlette(routes=[Mount("/deep/down", debug.app(pool))])
        status, headers, page = await get(app, "/deep/down/")
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        status, headers, told = await get(app, "/deep/down/snapshot.json")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(told)["pools"][0]["stats"]["max_size"] == 3
        assert b'fetch("snapshot.json"' in page
        assert (await get(app, "/deep/down"))[0] == 307
        assert (await get(app, "/deep/down/other"))[0] == 404
        assert (await get(app, "/deep/down/snapshot.json", "POST"))[0] == 405


async def test_nothing_is_kept_and_nothing_external_allowed(server):
    async with RedisPool(server.url) as pool:
        for path in ("/", "/snapshot.json"):
            _, headers, _ = await get(debug.app(pool), path)
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; connect-src 'self'; ")
            assert "unsafe" not in policy
            assert "http" not in policy


async def test_a_name_that_is_no_text_is_told_all_the_same(server, path):
    async with RedisPool(server.url) as pool, held(pool, "\ud800\x1b</script>" + "x" * 1000):
        async with debug.serve(pool, path=path):
            over_socket = (await ask(path))["pools"]
        status, _, body = await get(debug.app(pool), "/snapshot.json")
    assert status == 200
    for told in (over_socket, json.loads(body)["pools"]):
        (holder,) = told[0]["holders"]
        assert holder["task"].startswith("\ud800\x1b</script>xxx")
        assert len(holder["task"]) == 200
