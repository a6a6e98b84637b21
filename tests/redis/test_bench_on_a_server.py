"""`aiopool bench` on a real server, where it is a guest."""

import asyncio
import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from servers import eventually, wait_blocking

from aiopool._cli._load import CannotMeasure, Load
from aiopool._cli._mix import KINDS
from aiopool._cli._rounds import measure_all

ALL_KINDS = dict.fromkeys(KINDS, 1)
SHORT = Load(tasks=6, mix=ALL_KINDS, value_size=10, slow=0.001, think=0.0, seconds=0.1)
SHORT_WORDS = ["--sizes", "1,3", "--tasks", "6", "--seconds", "0.1", "--rounds", "2"]


def command(*words):
    return [sys.executable, "-W", "error", "-m", "aiopool", "bench", *words]


def run(*words):
    return subprocess.run(  # noqa: S603 - our own code
        command(*words), capture_output=True, text=True, timeout=60, check=False
    )


def show_nothing(_size, _number):
    pass


# ---- measuring: what is left of it, conftest.py looks at ---------------------------------------


async def test_every_size_is_measured_in_every_round_to_and_fro(server):
    shown = []
    outcome = await measure_all(
        server.url, [1, 3], 2, SHORT, lambda size, number: shown.append((number, size))
    )
    assert shown == [(0, 1), (0, 3), (1, 3), (1, 1)]
    assert [measurement.size for measurement in outcome.measurements] == [1, 3, 3, 1]
    assert outcome.server.startswith("redis ")
    assert str(server.port) in outcome.address
    for measurement in outcome.measurements:
        assert measurement.finished > 0
        assert measurement.errors == {}
        assert 0 < measurement.in_use <= measurement.size * 1.1
        assert 0 <= measurement.wait_p50 <= measurement.wait_p99
        assert 0 < measurement.request_p50 <= measurement.request_p99
    assert server.run("KEYS", "*") == []


async def test_tasks_may_need_no_connection_for_a_while(server):
    load = Load(tasks=3, mix={"get": 1}, value_size=1, slow=0, think=0.01, seconds=0.1)
    outcome = await measure_all(server.url, [3], 1, load, show_nothing)
    assert outcome.measurements[0].in_use < 2


async def test_its_only_key_expires_by_itself_and_it_says_who_it_is(server):
    load = Load(tasks=2, mix=ALL_KINDS, value_size=10, slow=0.001, think=0, seconds=10)
    running = asyncio.create_task(measure_all(server.url, [2], 1, load, show_nothing))
    try:
        await eventually(lambda: server.run("KEYS", "*"), "there is a key")
        (key,) = server.run("KEYS", "*")
        assert key.startswith("aiopool-bench-")
        assert 0 < server.run("TTL", key) <= 300
        await eventually(
            lambda: [client["name"] for client in server.clients()] == 3 * ["aiopool-bench"],
            "the pool and the keeper of the key are known by name",
        )
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert server.run("KEYS", "*") == []


async def test_failed_requests_are_counted_and_the_rest_goes_on(fresh_server):
    fresh_server.run("ACL", "SETUSER", "default", "-get")
    load = Load(tasks=4, mix={"get": 1, "set": 1}, value_size=1, slow=0, think=0, seconds=0.1)
    outcome = await measure_all(fresh_server.url, [2], 1, load, show_nothing)
    (measurement,) = outcome.measurements
    assert measurement.finished > 0
    assert measurement.errors["NoPermissionError"] > 0
    assert fresh_server.run("KEYS", "*") == []


async def test_if_no_request_succeeds_it_says_why(fresh_server):
    fresh_server.run("ACL", "SETUSER", "default", "-get")
    load = Load(tasks=4, mix={"get": 1}, value_size=1, slow=0, think=0, seconds=0.05)
    with pytest.raises(CannotMeasure, match=r"max_size=2: .*'get'"):
        await measure_all(fresh_server.url, [2], 1, load, show_nothing)
    assert fresh_server.run("KEYS", "*") == []


async def test_if_no_request_ends_in_time_it_says_that_more_time_is_needed(server):
    load = Load(tasks=1, mix={"slow": 1}, value_size=1, slow=0.3, think=0, seconds=0.05)
    with pytest.raises(CannotMeasure, match=r"--seconds 0\.05"):
        await measure_all(server.url, [1], 1, load, show_nothing)


async def test_a_server_that_gives_too_few_connections_is_not_measured_with_those(fresh_server):
    fresh_server.run("CONFIG", "SET", "maxclients", 12)
    with pytest.raises(CannotMeasure, match="of the 50 connections"):
        await measure_all(fresh_server.url, [50], 1, SHORT, show_nothing)
    assert fresh_server.run("KEYS", "*") == []


# ---- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_run_gives_an_answer_and_leaves_the_server_as_it_was(server, kind):
    server.run("SET", "mine", "untouched")
    url = server.url if kind == "tcp" else server.unix_url
    done = run("--url", url, *SHORT_WORDS, "--json", "-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["advice"]["max_size"] in {1, 3}
    assert len(report["measurements"]) == 4
    assert report["parameters"]["tasks"] == 6
    assert report["explanation"][0] in " ".join(done.stderr.split())
    assert server.run("KEYS", "*") == ["mine"]


def test_without_a_url_it_starts_a_server_of_its_own(tmp_path):
    path = tmp_path / "sizes.png"
    done = run(*SHORT_WORDS, "--json", "-", "--loop", "uvloop", "--plot", str(path))
    assert done.returncode == 0, done.stderr
    assert "a redis-server of its own" in " ".join(done.stderr.split())
    assert json.loads(done.stdout)["versions"]["server"].startswith("redis ")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_if_requests_fail_at_every_size_there_is_no_answer(server):
    words = ["--sizes", "2", "--tasks", "6", "--mix", "slow=1", "--slow", "0.1"]
    done = run("--url", f"{server.url}?timeout=0.05", *words, "--rounds", "1")
    assert done.returncode == 1, done.stderr
    assert "There is no answer" in done.stdout
    assert "PoolTimeout" in done.stdout


def test_a_password_is_nowhere_to_be_seen(locked_server, tmp_path):
    url = locked_server.url.replace("//", f"//:{locked_server.password}@")
    files = [tmp_path / "report.json", tmp_path / "sizes.svg"]
    done = run("--url", url, *SHORT_WORDS, "--json", str(files[0]), "--plot", str(files[1]))
    assert done.returncode == 0, done.stderr
    assert files[1].read_text().startswith("<?xml")
    for text in (done.stdout, done.stderr, *(file.read_text() for file in files)):
        assert locked_server.password not in text


def test_a_wrong_password_is_told_in_one_line_without_it(locked_server):
    done = run("--url", locked_server.url.replace("//", "//:wr0ng@"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "wr0ng" not in done.stderr


@contextmanager
def running(*words):
    """Run the command in a process that is ended in any case."""
    # A process in the background is born deaf to interrupts, and its children would be so too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(  # noqa: S603 - our own code
        command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_interrupted_run_leaves_no_key_and_ends_with_130(server, loop):
    with running("--url", server.url, "--sizes", "2", "--seconds", "60", "--loop", loop) as process:
        wait_blocking(lambda: len(server.clients()) == 3, "the load is there")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "aiopool bench: interrupted\n")
    assert server.run("KEYS", "*") == []


async def test_a_server_that_goes_away_is_told_in_one_line(fresh_server):
    with running("--url", fresh_server.url, "--sizes", "2", "--seconds", "0.3") as process:
        wait_blocking(lambda: len(fresh_server.clients()) == 3, "the load is there")
        fresh_server.kill()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert out == ""
    assert len(err.splitlines()) == 1
