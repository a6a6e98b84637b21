"""The script docs/examples/many_keys.py, in a process of its own, on a real server."""

import asyncio
import importlib.util
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from aiopool._cli._redis_server import free_port, redis_server

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "many_keys.py"
FORCED = {"FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR", "COLUMNS"}


@pytest.fixture(scope="module")
def url():
    with redis_server() as url:
        yield url


@pytest.fixture
def admin(url):
    with redis.Redis.from_url(url, decode_responses=True, client_name="admin") as admin:
        admin.flushall()
        admin.config_resetstat()
        yield admin
        assert [each for each in admin.client_list() if each["name"] != "admin"] == []


@pytest.fixture
def example():
    spec = importlib.util.spec_from_file_location("many_keys_example", SCRIPT)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def start(url, *words, **options):
    env = {name: value for name, value in os.environ.items() if name not in FORCED}
    return subprocess.Popen(  # noqa: S603 - the example
        [sys.executable, "-W", "error", str(SCRIPT), *words],
        env=env | {"REDIS_URL": url, "TERM": "xterm"},
        text=True,
        **options,
    )


def run(url, *words, says="", status=0):
    process = start(url, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (status, says)
    return out


def calls(admin, command):
    return admin.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


def counts(out):
    """Give how many were done, done before, and failed."""
    found = re.search(r"^([\d,]+) done, ([\d,]+) done before, ([\d,]+) failed$", out, re.MULTILINE)
    return tuple(int(number.replace(",", "")) for number in found.groups())


def test_a_hundred_thousand_keys_are_processed_once_and_those_that_fail_are_shown(url, admin):
    assert run(url, "fill") == "100,000 items are there\n"
    admin.config_resetstat()
    out = run(url, "walk", "--pipelined")
    assert counts(out) == (99_990, 0, 10)
    assert "  book    33,330\n  chair   33,330\n  lamp    33,330\n" in out
    assert out.count(": could not convert string to float: 'for sale'\n") == 5
    assert out.endswith("connections opened: 1\n")
    assert calls(admin, "hsetnx") == 99_990
    reader = admin.pipeline(transaction=False)
    for number in range(100_000):
        reader.hmget(f"item:{number:06}", "price", "stock", "total")
    for number, (price, stock, total) in enumerate(reader.execute()):
        expected = None if number % 10_000 == 0 else float(price) * int(stock)
        assert (None if total is None else float(total)) == expected
    # A log can show what it says.
    assert set(out) <= {chr(code) for code in range(32, 127)} | {"\n"}
    assert re.findall(r"^(.*) of 100,000$", out, re.MULTILINE)[-1] == "100,000"


def test_a_second_walk_does_nothing_again_but_tries_what_has_failed(url, admin):
    run(url, "fill", "--keys", "2000")
    admin.set("item:odd", "not a hash")
    assert counts(run(url, "walk")) == (1999, 0, 2)
    admin.hset("item:000000", "price", "1.50")
    out = run(url, "walk")
    assert counts(out) == (1, 1999, 1)
    assert "item:odd: WRONGTYPE" in out
    assert run(url, "clear") == "2,001 items were removed\n"
    assert admin.dbsize() == 0


def test_whatever_is_in_a_hash_ends_no_walk(url, admin):
    good = {"kind": "book", "price": "2", "stock": "3"}
    admin.hset("item:good", mapping=good)
    admin.hset("item:of no kind", mapping={"price": "2", "stock": "3"})
    admin.hset("item:much", mapping=good | {"stock": "9" * 400})
    admin.hset("item:empty", "kind", "book")
    admin.hset("item:bytes", mapping=good | {"price": b"\xff\xfe"})
    admin.hset(b"item:\xff", mapping=good | {"kind": b"\xfe"})
    out = run(url, "walk", "--pipelined")
    assert counts(out) == (3, 0, 3)
    assert "  (none)       1\n" in out
    assert "  \\udcfe " in out
    assert {f"item:{name}" for name in ("much", "empty", "bytes")} == set(
        re.findall(r"^  (item:\w+): ", out, re.MULTILINE)
    )
    assert admin.hget(b"item:\xff", "total") == "6.00"
    assert admin.dbsize() == 6


def test_a_walk_without_workers_is_refused():
    process = start("redis://127.0.0.1:1", "walk", "--workers", "0", stderr=subprocess.PIPE)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "argument --workers: invalid positive value: '0'" in said


def test_keys_that_come_into_an_empty_database_meanwhile_are_no_error(example):
    with example.progress(0) as show:
        show(3)


def test_without_pipelining_there_are_as_many_connections_as_allowed(url, admin):
    run(url, "fill", "--keys", "2000")
    admin.config_resetstat()
    out = run(url, "walk", "--workers", "50", "--connections", "3")
    assert counts(out) == (1999, 0, 1)
    assert out.endswith("connections opened: 3\n")
    assert admin.info("stats")["total_connections_received"] == 3


def test_no_more_keys_are_under_way_than_there_are_workers(example):
    class Fake:
        under_way = most = 0

        async def hmget(self, *_):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0)
            return ["book", "1", "1", None]

        async def hsetnx(self, *_):
            await asyncio.sleep(0)
            self.under_way -= 1
            return 1

    async def scenario():
        fake = Fake()
        walk = example.Walk(fake)
        await walk.through([f"item:{n}" for n in range(100)], 7)
        return fake.most, walk.seen, walk.done.total()

    assert asyncio.run(scenario()) == (7, 100, 100)


def test_a_lost_connection_is_no_keys_fault_and_ends_the_walk(example):
    class Gone:
        async def hmget(self, *_):
            msg = "gone"
            raise redis.ConnectionError(msg)

    walk = example.Walk(Gone())
    with pytest.raises(redis.ConnectionError, match="gone"):
        asyncio.run(walk.through(["item:1", "item:2"], 2))
    assert walk.failed == {}


def test_an_interrupted_walk_says_how_far_it_came_and_the_next_goes_on(url, admin):
    run(url, "fill", "--keys", "20000")
    process = start(url, "walk", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = process.stdout.readline()
    assert first.endswith(" of 20,000\n")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == "interrupted: the next walk goes on from here\n"
    done, before, _ = counts(out)
    assert 0 < done < 19_998
    assert before == 0
    assert re.search(r"^[\d,]+ of 20,000 keys in ", out, re.MULTILINE)
    done_then, before_then, failed = counts(run(url, "walk"))
    # What was under way then was done, perhaps, and counted by nobody.
    assert done <= before_then <= done + 100
    assert (done_then + before_then, failed) == (19_998, 2)
    assert calls(admin, "hsetnx") == 19_998


def test_a_terminal_shows_a_bar(url, admin):
    run(url, "fill", "--keys", "2000")
    ours, its = pty.openpty()
    process = start(url, "walk", stdout=its, stderr=its)
    os.close(its)
    shown = b""
    with suppress(OSError):  # that is how it ends
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    assert process.wait(60) == 0
    assert b"\x1b[" in shown
    assert b"2000/2000" in shown
    assert b" of 2,000\r\n" not in shown
    assert b"1,999 done" in shown
    assert admin.dbsize() == 2000


def test_without_redis_it_says_so_and_stops():
    out = start(f"redis://127.0.0.1:{free_port()}", "walk", stderr=subprocess.PIPE)
    said = out.communicate(timeout=60)[1]
    assert out.returncode == 1
    assert re.search(r"^stopped: Error 111 connecting to 127\.0\.0\.1", said, re.MULTILINE)
    assert "Traceback" not in said
