"""The benchmarks themselves, in their smallest form, on a real server."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import redis

from aiopool._cli._redis_server import redis_server
from benchmarks import cluster, server
from benchmarks.contenders import CLUSTER, THEIR_CLUSTER
from benchmarks.measure import Effort, measure
from benchmarks.results import Run, Setting
from benchmarks.scenarios import ALL

ROOT = Path(__file__).parent.parent
SMOKE = Effort(rounds=1, seconds=0.001, size="smoke")
ABSENCES = ("Too many connections", "is switched off or not installed")


@pytest.fixture(scope="module")
def url():
    with redis_server() as url:
        server.store(url)
        yield url


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_every_contender_takes_part_in_every_scenario(scenario, url):
    setting = Setting("asyncio", hiredis=True)
    assert scenario.wanted(setting)
    with asyncio.Runner() as runner:
        for case in scenario.cases(SMOKE):
            series, absent = runner.run(
                measure(scenario.name, case, setting, url, SMOKE, lambda: None)
            )
            for one in absent:
                assert not one.failed, f"{one.contender}: {one.why}"
                assert one.why.endswith(ABSENCES) or ABSENCES[0] in one.why
            took_part = {one.contender for one in [*series, *absent]}
            assert took_part == {contender.name for contender in case.contenders}
            assert all(sample > 0 for one in series for sample in one.samples)
            if scenario.name == "cluster-get":
                assert {one.contender for one in series} >= {CLUSTER.name, THEIR_CLUSTER.name}
                assert all(1 <= one.counts["opened to a node"] <= case.tasks for one in series)
            if scenario.name in {"get", "burst", "cluster-get"}:
                assert all(one.latencies["50"] > 0 for one in series)
        assert not asyncio.all_tasks(runner.get_loop())


def child(setting, url, **order):
    order = {"setting": asdict(setting), "effort": asdict(SMOKE), "url": url} | order
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-m", "benchmarks.child", json.dumps(order)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("hiredis", [True, False])
def test_on_uvloop_with_and_without_hiredis(hiredis, url):
    told = child(Setting("uvloop", hiredis=hiredis), url, scenarios=["get", "mixed"])
    series = [what for kind, what in told if kind == "Series"]
    assert {one["scenario"] for one in series} == {"get", "mixed"}
    assert {one["setting"]["loop"] for one in series} == {"uvloop"}
    absences = [what for kind, what in told if kind == "Absence"]
    assert not any(one["failed"] for one in absences)
    without = {one["contender"] for one in absences if one["why"].startswith("hiredis is ")}
    assert without == (set() if hiredis else {"asyncio + hiredis"})


def test_the_command_measures_writes_and_draws(tmp_path):
    words = "--quick --rounds 1 --only mixed --hiredis off --json r.json --plots plots"
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-W", "error", "-m", "benchmarks", *words.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("asyncio, no hiredis: GET, pipeline of 20, MULTI, 100 tasks\n")
    assert "GET, pipeline of 20, MULTI (asyncio, no hiredis)" in done.stdout
    run = Run.load(tmp_path / "r.json")
    assert run.command == f"python -m benchmarks {words}"
    assert {"python", "redis", "redis-server"} <= run.versions.keys()
    assert len(run.series[0].samples) == 1
    assert (tmp_path / "plots" / "overview.png").stat().st_size > 1000
    assert not list(tmp_path.glob("*.rdb"))


def test_a_wrong_value_is_a_failure(monkeypatch):
    monkeypatch.setattr("benchmarks.scenarios.cluster.VALUE", b"y" * 32)
    scenario = next(each for each in ALL if each.name == "cluster-get")
    (case,) = scenario.cases(SMOKE)
    case = replace(case, contenders=[CLUSTER, THEIR_CLUSTER])
    setting = Setting("asyncio", hiredis=True)
    with asyncio.Runner() as runner:
        made, absent = runner.run(measure("s", case, setting, "", SMOKE, lambda: None))
    assert not made
    assert [one.contender for one in absent] == [CLUSTER.name, THEIR_CLUSTER.name]
    assert all(re.match(r"ValueError: key:\d+ is b'x{32}'", one.why) for one in absent)


def test_keys_are_on_all_nodes_and_the_cluster_ends_with_its_user():
    with cluster.cluster() as url, closing(cluster.Connections(url)) as connections:
        sizes = [node.dbsize() for node in connections.nodes]
    assert len(sizes) == 3
    assert sum(sizes) == len(cluster.KEYS)
    assert min(sizes) > len(cluster.KEYS) / 4
    for node in connections.nodes:
        with closing(node), pytest.raises(redis.ConnectionError):
            node.ping()


def is_alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("scenario", ["slow-connects", "cluster-get"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_nothing_is_left_of_what_is_interrupted(end, scenario):
    words = [sys.executable, "-m", "benchmarks", "--quick", "--only", scenario]
    with subprocess.Popen(  # noqa: S603 - our own code
        words,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as command:
        assert command.stderr.readline().startswith("asyncio")  # so the child is at work
        command.send_signal(end)
        assert command.stderr.read().endswith("benchmarks: interrupted\n")
    assert command.returncode == 130
    deadline = time.monotonic() + 10
    while is_alive(command.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
