"""The demo, run as a user would, and its verdict, which must be able to say that something is lost."""

import asyncio
import json
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from aiopool import RedisPool, Stats
from aiopool._cli import demo
from aiopool._cli._auditor import Auditor, auditing
from aiopool._cli._book import Book
from aiopool._cli._names import Names
from aiopool._cli._plan import plan
from aiopool._cli._play import play
from aiopool._cli._pool import make_pool
from aiopool._cli._report import summarize
from aiopool._cli._server import fake_server
from aiopool._cli._verdict import Evidence, losses
from aiopool.redis._connection import Accountable


def command(*arguments):
    return subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-W", "error", "-m", "aiopool", "demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


# ---- a whole run -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "report.json"
    done = command("--quiet", "--seconds", "2", "--json", str(path))
    assert done.stderr == ""
    return done, json.loads(path.read_text())


def test_a_run_loses_nothing_and_says_so(finished):
    done, report = finished
    assert done.returncode == 0
    assert report["lost"] == []
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("Nothing was lost")


def test_some_requests_are_cancelled_and_some_time_out(finished):
    requests = finished[1]["requests"]
    assert requests["cancelled"] > 0
    assert requests["timed_out"] > 0
    assert requests["arrived"] == sum(requests.values()) - requests["arrived"]


def test_what_was_confirmed_was_counted(finished):
    check = finished[1]["check"]
    assert 0 < check["confirmed"] <= check["counted"] <= check["confirmed"] + check["unknown"]


def test_the_reaper_brings_the_pool_back_to_its_least_size(finished):
    connections = finished[1]["connections"]
    assert connections["reaped"] > 0
    assert connections["after_quiet"] == finished[1]["parameters"]["min_size"]
    assert connections["lent_at_once"] == finished[1]["parameters"]["max_size"]


def test_there_are_never_more_connections_than_allowed(finished):
    report = finished[1]
    assert 0 < report["connections"]["most_by_pool"] <= report["parameters"]["max_size"]


def test_with_json_for_stdout_there_is_nothing_else_on_it():
    done = command("--quiet", "--seconds", "1", "--json", "-")
    assert json.loads(done.stdout)["lost"] == []
    assert done.returncode == 0


def test_a_missing_increment_makes_the_command_fail(monkeypatch, capsys):
    counted = Auditor.count

    async def forgetful(self):
        return await counted(self) - 50

    monkeypatch.setattr(Auditor, "count", forgetful)
    assert demo.run(url=None, seed=1, seconds=1, quiet=True, json_file=None) == 1
    assert capsys.readouterr().out.startswith("LOST: ")


def test_a_pool_that_lends_what_owes_a_reply_makes_the_command_fail(monkeypatch, capsys):
    async def stay_connected(*_, **__):
        pass

    monkeypatch.setattr(Accountable, "may_be_lent", lambda _: True)
    monkeypatch.setattr(Accountable, "disconnect", stay_connected)
    assert demo.run(url=None, seed=1, seconds=2, quiet=True, json_file=None) == 1
    assert "mixed up" in capsys.readouterr().out


def test_an_interrupted_run_leaves_nothing_on_the_server():
    async def interrupt(url):
        looks = iter(range(5))

        def look(_moment):
            if next(looks, None) is None:
                playing.cancel()

        playing = asyncio.create_task(play(make_pool(url), seed=1, seconds=1, fake=True, show=look))
        with pytest.raises(asyncio.CancelledError):
            await playing
        async with Redis.from_url(url) as client:
            assert await client.keys() == []

    with fake_server() as url:
        asyncio.run(interrupt(url))


def test_the_auditor_sees_the_connections_of_the_run_and_no_others():
    async def look(url):
        names = Names()
        async with (
            RedisPool(url, client_name=names.run) as pool,
            RedisPool(url, min_size=2),
            auditing(pool, names, 0) as auditor,
        ):
            assert auditor.seen is None
            await pool.warm(3)
            await auditor.look()
            await auditor.look()
            assert auditor.seen == 3

    with fake_server() as url:
        asyncio.run(look(url))


# ---- what can't be played --------------------------------------------------------------------


def test_an_unreachable_server_is_told_in_one_line_without_the_password():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        done = command("--url", f"redis://:s3cret@127.0.0.1:{deaf.getsockname()[1]}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "127.0.0.1" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    "url",
    ["http://:s3cret@localhost", "redis://:s3cret/@localhost", "redis://:s3cret@localhost?no=1"],
)
def test_a_bad_url_is_told_in_one_line_without_the_password(url):
    done = command("--url", url)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr


def test_a_password_that_the_server_repeats_is_not_shown():
    text = "unknown command 'HELLO', with args beginning with:\n'AUTH' 's3/cret' s3%2Fcret"
    assert demo.without_password(text, "redis://:s3%2Fcret@localhost") == (
        "unknown command 'HELLO', with args beginning with: 'AUTH' '***' ***"
    )


def test_a_report_that_cannot_be_written_is_told_before_the_run(tmp_path):
    done = command("--json", str(tmp_path / "missing" / "report.json"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["rich", "fakeredis"])
def test_without_the_extra_it_says_how_to_install_it(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from aiopool.__main__ import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'aiopool[demo]'" in done.stderr


def test_importing_aiopool_needs_nothing_of_the_extra():
    code = "import aiopool, sys; sys.exit(bool({'rich', 'fakeredis'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own code


# ---- the verdict -----------------------------------------------------------------------------


def stats(**gauges):
    return Stats(
        **{
            "max_size": 10,
            "min_size": 2,
            "size": 2,
            "idle": 2,
            "lent": 0,
            "opening": 0,
            "checking": 0,
            "waiting": 0,
            "acquired": 0,
            "timed_out": 0,
            "rejected": 0,
            "opened": 0,
            "open_failed": 0,
            "closed": {},
            "wait_seconds": 0.0,
            "use_seconds": 0.0,
            "open_seconds": 0.0,
            "blocked_seconds": 0.0,
            **gauges,
        }
    )


GOOD = Evidence(
    wrong=[],
    told=[1, 2, 4],
    unknown=2,
    counted=4,
    missing=[],
    hung=0,
    after_quiet=stats(),
    lent_at_once=10,
    at_end=stats(size=10, idle=10),
    most=10,
)


@pytest.mark.parametrize("counted", [4, 5])
def test_nothing_is_lost_if_the_unanswered_increments_explain_the_count(counted):
    assert losses(replace(GOOD, counted=counted)) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"wrong": ["request 1 got b'2' for its GET"]},
        {"told": [1, 2, 2]},  # a reply was read twice
        {"told": [1, 2, 5]},  # a count that never was
        {"counted": 2},  # an increment was confirmed and not made
        {"counted": 6},  # an increment was made and nobody asked for it
        {"missing": [7]},
        {"hung": 1},
        {"after_quiet": stats(lent=1, idle=1)},
        {"after_quiet": stats(waiting=1)},
        {"after_quiet": stats(size=3, idle=3)},  # not reaped
        {"after_quiet": stats(size=1, idle=1)},  # reaped too many
        {"lent_at_once": 9},  # a slot is lost
        {"at_end": stats(size=10, idle=9, lent=1)},
        {"most": 11},
    ],
    ids=",".join,
)
def test_each_kind_of_loss_is_found(bad):
    assert losses(replace(GOOD, **bad)) != []


def test_a_reply_that_is_somebody_elses_is_noted_as_wrong():
    book = Book(Names())
    book.set_answered(1, reply=True)
    book.incr_answered(1, 1)
    book.blpop_answered(1, None)
    book.get_answered(1, book.names.token(1).encode())
    assert book.wrong == []
    book.set_answered(2, 1)
    book.incr_answered(2, reply=True)
    book.blpop_answered(2, b"OK")
    book.get_answered(2, book.names.token(1).encode())
    assert len(book.wrong) == 4
    assert book.stored == {1}
    assert book.told == {1: 1}


def test_an_increment_is_unknown_until_it_is_answered():
    book = Book(Names())
    book.asked |= {1, 2}
    book.incr_answered(2, 1)
    assert book.unknown == 1


def test_a_seed_gives_the_same_requests_again():
    assert plan(1, 3) == plan(1, 3) != plan(2, 3)


def test_fairness_is_told_by_those_who_had_to_wait():
    wait = summarize([0, 0, 0, 0.1, 0.1, 0.2])
    assert wait["queued"] == 3
    assert wait["longest_to_median"] == pytest.approx(2)
    assert summarize([0, 0])["longest_to_median"] is None
    assert summarize([])["p99"] == 0
