"""The HTTP benchmark: its smallest run, on real services, and that its figures are what it says they are."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.http import __main__ as command
from benchmarks.http import measurement
from benchmarks.http.client import at_random, in_turn
from benchmarks.http.contenders import ALL
from benchmarks.http.measurement import Place, Results
from benchmarks.http.report import parts

ROOT = Path(__file__).parent.parent
MARKS = "".join(f"<!-- http: {name} -->\nold\n<!-- end -->\n" for name in ("capacity", "overload"))


class Service(asyncio.Protocol):
    """Answers each request after so many seconds, in two parts; the first with these statuses."""

    delay = 0.0
    statuses = ()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        assert data.startswith(b"GET /items/tea HTTP/1.1\r\n")
        asyncio.get_running_loop().call_later(self.delay, self.answer, next(self.statuses, 200))

    def answer(self, status):
        head, body = f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\n".encode(), b"{}"
        self.transport.write(head[:-2])
        asyncio.get_running_loop().call_later(0.01, self.transport.write, head[-2:] + body)


def asked(ask, delay=0.0, statuses=()):
    """Have a service asked; gives the tally, and how often the clock was looked at."""
    kind = type("Kind", (Service,), {"delay": delay, "statuses": iter(statuses)})
    marks = []

    async def run():
        server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            return await ask(address, lambda: marks.append(None))

    tally = asyncio.run(run())
    assert len(marks) == 2
    return tally


def test_clients_that_wait_ask_again_when_they_are_answered():
    tally = asked(lambda address, mark: in_turn(address, 3, 0.0, 0.5, mark), 0.1, (503, 500, 503))
    assert (len(tally.refused), tally.failed) == (2, 1)
    assert tally.requests == len(tally.served) + 3
    assert 3 <= tally.requests <= 15
    assert min(tally.served) >= 0.09


def test_others_come_whether_these_are_answered_or_not():
    def ask(address, mark):
        return at_random(address, 200, 0.0, 0.5, mark, random.Random(1))

    quick, slow = asked(ask), asked(ask, delay=0.4)
    assert quick.requests == slow.requests > 60
    assert len(quick.served) == quick.requests
    assert len(slow.served) == slow.requests
    assert min(slow.served) >= 0.39


def test_what_comes_after_the_deadline_counts_as_late(monkeypatch):
    monkeypatch.setattr("benchmarks.http.client.DEADLINE", 0.2)

    def ask(address, mark):
        return at_random(address, 200, 0.0, 0.3, mark, random.Random(1))

    tally = asked(ask, delay=0.3)
    assert tally.requests > 30
    assert (tally.served, tally.refused, tally.failed) == ([], [], 0)


def test_the_smallest_run_measures_all_and_fills_a_page(tmp_path, capsys, monkeypatch):
    place = Place("far away", 0.005, (2,), overload=True)
    monkeypatch.setattr(measurement, "PLACES", (place,))
    monkeypatch.setattr(sys, "argv", ["benchmarks.http", "--seconds", "0.1"])
    page, file = tmp_path / "page.md", tmp_path / "http.json"
    page.write_text(MARKS)
    words = f"--rounds 1 --seconds 0.1 --json {file} --markdown {page}"
    assert command.main(words.split()) == 0
    told = capsys.readouterr()
    assert told.err.startswith("far away, 2 clients\nfar away, ")
    results = Results.load(file)
    assert results.command == "python -m benchmarks.http --seconds 0.1"
    assert {"fastapi", "uvicorn", "redis-server"} <= results.versions.keys()
    names = [each.name for each in ALL]
    waited = [name for name in names if "shed" not in name]
    assert [turn.contender for turn in results.turns] == [*waited, *names]
    for turn in results.turns:
        assert turn.failed == 0
        assert turn.times.get("99", 1.0) >= 0.01  # two commands
    assert {turn.contender for turn in results.turns if turn.served} == {*names}
    text = page.read_text()
    assert "old" not in text.split()
    for name in names:
        assert f"| far away, {results.turns[-1].offered:,.0f} requests/s | {name} |" in text
    assert parts(results)["capacity"]() in told.out


def test_a_service_that_ends_by_itself_is_a_failure_that_says_why(capfd, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "uvicorn.py").write_text("raise SystemExit('there is no wind')")
    words = ["--rounds", "1", "--seconds", "0.1"]
    assert command.main(words) == 2
    assert "there is no wind" in capfd.readouterr().err


def test_the_page_has_a_place_for_each_part():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    for name in ("made", "capacity", "overload"):
        assert f"<!-- http: {name} -->" in text


@pytest.mark.parametrize("words", ["--rounds 0", "--seconds 0"])
def test_nonsense_is_refused(words):
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-m", "benchmarks.http", *words.split()],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 2
    assert "there must be a round at least" in done.stderr
