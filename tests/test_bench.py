"""The answer of `aiopool bench`, from figures that are given; and the command where it needs no server."""

import json
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from aiopool.__main__ import main
from aiopool._cli import bench
from aiopool._cli._advice import Advice, advise, explain, ms
from aiopool._cli._measurement import Measurement, Spread, percentile, rows, spread
from aiopool._cli._mix import KINDS, parse_mix
from aiopool._cli._redis_server import NoRedisServer
from aiopool._cli._requests import Requests

# ---- the answer ------------------------------------------------------------------------------


def measurement(size, throughput, **values):
    return Measurement(
        **{
            "size": size,
            "seconds": 2.0,
            "finished": 2 * throughput,
            "wait_mean": 0.010,
            "wait_p50": 0.010,
            "wait_p99": 0.020,
            "request_mean": 0.012,
            "request_p50": 0.012,
            "request_p99": 0.022,
            "in_use": float(size),
            "in_line": 10.0,
            "busy": 0.5,
            "errors": {},
            **values,
        }
    )


def measured(**throughputs):
    """Make rows from what each size had in each round, as `_5=[100, 110]`."""
    return rows(
        [
            measurement(int(name[1:]), throughput)
            for name, each in throughputs.items()
            for throughput in each
        ]
    )


def answer(found, rounds=5):
    return " ".join(explain(found, advise(found), rounds))


def test_it_is_the_smallest_within_five_per_cent_of_the_best():
    found = measured(_1=[500] * 5, _2=[949] * 5, _5=[950] * 5, _10=[1000] * 5, _20=[990] * 5)
    assert advise(found) == Advice(max_size=5, at_least=5, at_most=5, best=10)
    assert answer(found).startswith(
        "max_size=5 is the smallest of these sizes within 5 % of the best throughput: "
        "it has 95 % of that with 10."
    )
    assert "certain" not in answer(found)


def test_the_order_in_which_sizes_were_measured_means_nothing():
    ups = [measurement(size, 100 * size) for size in (1, 2, 3)]
    assert rows([*ups, *reversed(ups)]) == rows([*reversed(ups), *ups])


def test_of_equals_it_is_the_smallest():
    assert advise(measured(_2=[100] * 3, _1=[100] * 3)) == Advice(1, 1, 1, best=1)


def test_the_best_may_be_the_only_one_that_is_enough():
    found = measured(_1=[500] * 3, _2=[1000] * 3, _5=[900] * 3)
    assert advise(found) == Advice(2, 2, 2, best=2)
    assert "none of the smaller sizes comes within 5 % of it" in answer(found)
    assert "No larger size" not in answer(found)


def test_if_the_largest_is_needed_it_says_that_there_may_be_better_ones():
    assert "No larger size was measured" in answer(measured(_1=[500] * 3, _2=[1000] * 3))


def test_sizes_are_compared_within_each_round():
    """So a machine that is slow for a round, or for half of them, changes nothing."""
    found = measured(_1=[960, 480, 96], _2=[1000, 500, 100])
    assert advise(found) == Advice(1, 1, 1, best=2)
    assert [row.throughput for row in found] == pytest.approx([480, 500])


def test_if_the_rounds_disagree_it_says_between_which_sizes_the_answer_is():
    found = measured(
        _1=[600] * 5,
        _2=[930, 900, 970, 960, 940],
        _5=[970, 980, 940, 930, 960],
        _10=[1000] * 5,
    )
    assert advise(found) == Advice(max_size=5, at_least=2, at_most=10, best=10)
    assert "can't be told for certain" in answer(found)
    assert "2 had 93 to 96 % and 5 had 94 to 97 % of the best" in answer(found)
    assert "anything from 2 to 10" in answer(found)


def test_if_nothing_can_be_told_any_size_may_be_the_answer():
    found = measured(_1=[100, 50, 80], _2=[50, 100, 81], _5=[70, 70, 60])
    assert advise(found) == Advice(max_size=1, at_least=1, at_most=5, best=2)


def test_one_round_does_not_claim_to_be_certain():
    found = measured(_1=[100], _2=[200])
    assert advise(found) == Advice(2, 2, 2, best=2)
    assert "One round can't tell" in answer(found, rounds=1)


def test_a_single_size_is_compared_with_nothing():
    found = measured(_7=[100, 120])
    assert advise(found) == Advice(7, 7, 7, best=7)
    assert "nothing to compare it with" in answer(found)
    assert "No larger size" not in answer(found)


def test_a_size_at_which_requests_fail_is_no_answer_and_no_measure():
    fails = {"errors": {"PoolTimeout": 3, "ConnectionError": 1}}
    found = rows([measurement(1, 1000, **fails), measurement(2, 500), measurement(3, 400)])
    assert advise(found) == Advice(2, 2, 2, best=2)
    assert "max_size=1 is out of the question: 4 of 2,004 requests failed" in answer(found)


def test_a_failure_in_a_thousand_does_not_matter():
    found = rows([measurement(1, 1000, errors={"ConnectionError": 2}), measurement(2, 1000)])
    assert advise(found) == Advice(1, 1, 1, best=1)


def test_if_requests_fail_at_all_sizes_there_is_no_answer():
    found = rows([measurement(size, 100, errors={"PoolTimeout": 9}) for size in (1, 2)])
    assert advise(found) is None
    assert answer(found).startswith("There is no answer")


def test_littles_law_stands_beside_the_pools_own_account():
    found = rows([measurement(5, 1000, in_use=2.1, in_line=10.4)])
    assert (
        "Little's law: 1,000 requests/s x 2.00 ms of use each = 2.0 connections in use; the pool "
        "counted 2.1. And x 10 ms of waiting each = 10.0 in line; the pool counted 10.4."
    ) in answer(found)
    assert "hand-over" not in answer(found)
    assert "hand-over" in answer(rows([measurement(5, 1000, in_use=4.0)]))


def test_it_says_if_a_larger_size_is_as_good_but_spares_some_a_long_wait():
    found = rows(
        [measurement(5, 1000), measurement(6, 1000), measurement(10, 1000, request_p99=0.011)]
    )
    assert "max_size=10: its p99 of a request is 11 ms instead of 22 ms" in answer(found)
    assert "slowest requests" not in answer(found[:2])


def test_it_says_why_more_connections_are_of_no_use():
    idle = rows([measurement(5, 1000), measurement(10, 1000, in_use=5.5)])
    assert "Of 10 connections only 5.5 were in use" in answer(idle)
    longer = rows([measurement(5, 1000), measurement(10, 1000, request_mean=0.015, busy=0.98)])
    assert "10 connections are all in use as well, but each for 5.00 ms" in answer(longer)
    assert "computes 98 % of the time" in answer(longer)


def test_percentiles_are_values_that_were_measured():
    values = list(range(200))
    assert percentile(values, 50) == 100
    assert percentile(values, 99) == 198
    assert percentile([7], 99) == 7
    assert percentile([1, 2], 100) == 2


def test_a_spread_is_the_quartiles_and_of_one_value_nothing():
    assert spread([5, 1, 2, 4, 3]) == Spread(2, 3, 4)
    assert spread([3]) == Spread(3, 3, 3)


def test_durations_have_about_three_digits():
    assert [ms(0.0001234), ms(0.01234), ms(1.234)] == ["0.12", "12", "1,234"]


# ---- options ---------------------------------------------------------------------------------


def test_a_mix_is_read():
    assert parse_mix("get=8, set=1,slow=1000") == {"get": 8, "set": 1, "slow": 1000}


@pytest.mark.parametrize(
    ("mix", "complaint"),
    [
        ("", "no kind ''"),
        ("read=1", "no kind 'read'"),
        ("get", "'get' is no whole number from 1 to 1000: ''"),
        ("get=0", "from 1 to 1000: '0'"),
        ("get=1001", "from 1 to 1000: '1001'"),
        ("get=0.5", "from 1 to 1000: '0.5'"),
        ("get=1,get=2", "twice"),
    ],
)
def test_what_is_no_mix_is_refused(mix, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_mix(mix)


def test_each_kind_can_be_requested():
    assert all(callable(getattr(Requests, kind)) for kind in KINDS)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--sizes", "0", "from 1 to 1000: '0'"),
        ("--sizes", "1,,2", "from 1 to 1000: ''"),
        ("--sizes", "1001", "from 1 to 1000: '1001'"),
        ("--sizes", ",".join(map(str, range(1, 22))), "more than 20 sizes"),
        ("--tasks", "0", "from 1 to 10000: '0'"),
        ("--tasks", "1e3", "from 1 to 10000: '1e3'"),
        ("--mix", "get=x", "from 1 to 1000: 'x'"),
        ("--value-size", "0", "from 1 to 1000000: '0'"),
        ("--slow", "11", "from 0 to 10: '11'"),
        ("--think", "-1", "from 0 to 10: '-1'"),
        ("--seconds", "nan", "from 0.05 to 60: 'nan'"),
        ("--rounds", "101", "from 1 to 100: '101'"),
        ("--loop", "trio", "'trio' (choose from"),
        ("--plot", "sizes.pdf", ".png or .svg: 'sizes.pdf'"),
    ],
)
def test_a_bad_option_is_told_with_its_name_its_value_and_what_is_allowed(
    option, value, allowed, capsys
):
    with pytest.raises(SystemExit) as end:
        main(["bench", option, value])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert option in told
    assert allowed in told


@pytest.mark.parametrize("words", [["redis://:s3cret@x"], ["--tasks", "redis://me:s3cret@x"]])
def test_a_url_where_none_belongs_is_not_repeated_with_its_password(words, capsys):
    with pytest.raises(SystemExit):
        main(["bench", *words])
    assert "s3cret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://:s3cret@localhost", "no Redis URL"),
        ("redis://:s3cret/@localhost", "no Redis URL"),
        ("redis://:s3cret@localhost?no=1", "no Redis URL"),
        (
            "redis://:s3cret@localhost?max_connections=5",
            "max_connections, which contradicts --sizes",
        ),
    ],
)
def test_a_bad_url_is_told_in_one_line_without_the_password(url, complaint, capsys):
    assert main(["bench", "--url", url]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert complaint in told.err
    assert "s3cret" not in told.err


def test_an_unreachable_server_is_told_in_one_line_without_the_password(capsys):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        url = f"redis://:s3cret@127.0.0.1:{deaf.getsockname()[1]}"
        assert main(["bench", "--url", url]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "127.0.0.1" in told.err
    assert "s3cret" not in told.err


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_file_that_cannot_be_written_is_told_before_the_run(option, tmp_path):
    folder = tmp_path / "sizes.png"
    folder.mkdir()
    # Not in this process: with matplotlib in it, each collection of garbage would take long.
    words = ["-m", "aiopool", "bench", option, str(folder)]
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("missing", "extra", "words"),
    [
        ("rich", "demo", []),
        ("matplotlib", "bench", ["--plot", "x.png"]),
        ("uvloop", "uvloop", ["--loop", "uvloop"]),
    ],
)
def test_what_is_missing_is_told_in_one_line(missing, extra, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = (
        f"import sys; sys.modules[{missing!r}] = None; "
        f"from aiopool.__main__ import main; sys.exit(main(['bench', *{words!r}]))"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"aiopool bench needs {missing}: pip install 'aiopool[{extra}]'\n"
    assert list(tmp_path.iterdir()) == []


def test_a_server_of_its_own_that_does_not_start_is_told(monkeypatch, capsys):
    @contextmanager
    def broken():
        raise NoRedisServer("it does not start")
        yield

    monkeypatch.setattr(bench, "find_redis_server", lambda: "redis-server")
    monkeypatch.setattr(bench, "redis_server", broken)
    assert main(["bench"]) == 2
    assert capsys.readouterr().err == "aiopool bench: it does not start\n"


# ---- a run on fakeredis, which is there for those who have no redis-server ---------------------

SHORT = ["--sizes", "1,3", "--tasks", "5", "--seconds", "0.1", "--rounds", "2"]


def test_without_a_redis_server_it_runs_on_fakeredis_and_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bench, "find_redis_server", lambda: None)
    path = tmp_path / "report.json"
    mix = ["--mix", "get=1,set=1,pipeline=1,transaction=1,slow=1", "--slow", "0.001"]
    assert main(["bench", *SHORT, *mix, "--json", str(path)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert "its figures say nothing about Redis" in " ".join(told.out.split())
    report = json.loads(path.read_text())
    assert report["versions"]["server"].startswith("fakeredis")
    assert [row["size"] for row in report["sizes"]] == [1, 3]
    assert all(row["finished"] > 0 and not row["errors"] for row in report["sizes"])
