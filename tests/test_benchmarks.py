"""What the benchmarks make of figures, with figures that are made up."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.__main__ import main
from benchmarks.compare import NotComparable, compare
from benchmarks.contender import CannotTakePart, Contender, Place
from benchmarks.contenders import BARE, CLIENT, CLUSTER, MEASURE, PIPELINED, RAISING, THEIR_CLUSTER
from benchmarks.markdown import main_table, put_into
from benchmarks.measure import Case, Effort, Sample, measure, percentiles, rotated
from benchmarks.options import parse
from benchmarks.results import Absence, Run, Series, Setting, Spread, ratio
from benchmarks.tables import tables
from benchmarks.words import amount, count, significant, times

ASYNCIO = Setting("asyncio", hiredis=True)
UVLOOP = Setting("uvloop", hiredis=False)
OURS = "aiopool Pool"


def series(contender, samples, setting=ASYNCIO, case="1 task", scenario="lend", **more):
    return Series(setting, scenario, case, 1, contender, "s", samples, **more)


def a_run(*made, versions=None, missing=()):
    versions = {"python": "3.11.7", "redis": "8.1.0", "coredis": "6.9.0"} | (versions or {})
    machine = {"system": "Linux", "processor": "a fast one", "cores": "2", "load": "0.1"}
    return Run(
        "python -m benchmarks",
        "2026-01-02T03:04:05",
        "c0ffee",
        versions,
        machine,
        list(missing),
        list(made),
    )


def as_text(run):
    console = Console(width=140)
    with console.capture() as capture:
        console.print(tables(run, {"lend": "lend and give back"}))
    return capture.get()


# ---- figures -------------------------------------------------------------------------------------


def test_ratios_are_taken_round_by_round():
    # A disturbance that hit both in the second round does not count.
    assert ratio(series("a", [2.0, 20.0, 2.2]), series("b", [1.0, 10.0, 1.0])) == Spread(
        2.0, 2.0, 2.2
    )


def test_percentiles_are_values_that_occurred():
    at = percentiles([0.001 * n for n in range(1000, 0, -1)])
    assert (at["0"], at["50"], at["99"], at["99.9"], at["100"]) == (0.001, 0.5, 0.99, 0.999, 1.0)
    assert percentiles([7.0])["50"] == 7.0
    assert percentiles([]) == {}


def test_everybody_begins_a_round_once_before_anybody_does_again():
    rounds = [rotated(["a", "b", "c"], number) for number in range(-1, 3)]
    assert rounds == [["c", "a", "b"], ["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    assert rotated([], 3) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.0123, "0.012"),
        (0.123, "0.12"),
        (0.9999, "1.0"),
        (1.26, "1.3"),
        (9.96, "10"),
        (12345.6, "12,346"),
    ],
)
def test_numbers_have_two_digits(value, words):
    assert significant(value) == words


def test_figures_as_people_write_them():
    assert [amount(s, "s") for s in (2.0, 0.0021, 3.4e-6, 5e-8)] == [
        "2.0 s",
        "2.1 ms",
        "3.4 µs",
        "50 ns",
    ]
    assert amount(1234.5, "B") == "1,234 B"
    assert (count(8.0), count(1.26)) == ("8", "1.3")
    assert times(Spread(2.0, 1.5, 3.0)) == "2.0x (1.5-3.0)"
    assert times(Spread(2.0, 2.0, 2.0)) == "2.0x"


# ---- the method ----------------------------------------------------------------------------------


def measured(effort, laps=1, **turns):
    """Measure contenders whose turns are these functions."""

    @asynccontextmanager
    async def opened(contender, _url):
        async def turn():
            return turns[contender.name]()

        yield turn

    steps = []
    case = Case("case", 1, [Contender(name) for name in turns], opened, laps=laps)
    with asyncio.Runner() as runner:
        result = runner.run(measure("s", case, ASYNCIO, "", effort, lambda: steps.append(1)))
    return *result, len(steps)


def test_a_case_may_have_a_server_of_its_own():
    servers = []

    @contextmanager
    def own(url):
        servers.append(url)
        yield f"not {url}"
        servers.append("ended")

    @asynccontextmanager
    async def opened(contender, url):
        async def turn():
            servers.append(f"{contender.name} on {url}")
            return Sample(1.0)

        yield turn

    case = Case("case", 1, [Contender("a"), Contender("b")], opened, warm_ups=0, server=own)
    with asyncio.Runner() as runner:
        runner.run(measure("s", case, ASYNCIO, "it", Effort(1, 0.0, "smoke"), lambda: None))
    assert servers == ["it", "a on not it", "b on not it", "ended"]  # one for all


def test_contenders_take_turns():
    order = []

    def turn(name):
        order.append(name)
        return Sample(float(len(order)), latencies=[1.0], counts={"errors": len(order)})

    made, absent, steps = measured(
        Effort(2, 0.0, "smoke"), a=lambda: turn("a"), b=lambda: turn("b")
    )
    assert "".join(order) == "ba" + "ab" + "ba"  # the first round warms up
    assert {s.contender: s.samples for s in made} == {"a": [3.0, 6.0], "b": [4.0, 5.0]}
    assert made[0].latencies["100"] == 1.0
    assert made[0].counts == {"errors": 6}  # of the worst round
    assert (absent, steps) == ([], 3)


def test_a_sample_is_the_mean_of_the_laps_of_a_round():
    order = []

    def turn(name):
        order.append(name)
        counts = {"errors": len(order)}
        return Sample(float(len(order)), latencies=[float(len(order))], counts=counts)

    made, _, steps = measured(
        Effort(1, 0.0, "smoke"), laps=2, a=lambda: turn("a"), b=lambda: turn("b")
    )
    assert "".join(order) == "baab" + "abba"  # the first round warms up
    assert {s.contender: s.samples for s in made} == {"a": [6.5], "b": [6.5]}
    assert {s.contender: (s.latencies["0"], s.latencies["100"]) for s in made} == {
        "a": (5.0, 8.0),
        "b": (6.0, 7.0),
    }
    assert {s.contender: s.counts for s in made} == {"a": {"errors": 8}, "b": {"errors": 7}}
    assert steps == 2


def test_who_fails_in_one_lap_has_no_other():
    turns = []

    def fail():
        turns.append(1)
        raise ValueError

    made, absent, _ = measured(Effort(1, 0.0, "smoke"), laps=3, a=lambda: Sample(1.0), b=fail)
    assert [s.contender for s in made] == ["a"]
    assert [a.contender for a in absent] == ["b"]
    assert len(turns) == 1


def test_who_fails_is_left_out_and_the_others_go_on():
    def fail():
        msg = "boom"
        raise ExceptionGroup(msg, [ValueError("this\n  is it")])

    def refuse():
        msg = "it can't"
        raise CannotTakePart(msg)

    made, absent, _ = measured(Effort(1, 0.0, "smoke"), a=lambda: Sample(1.0), b=fail, c=refuse)
    assert [s.contender for s in made] == ["a"]
    assert {(a.contender, a.why, a.failed) for a in absent} == {
        ("b", "ValueError: this is it", True),
        ("c", "it can't", False),
    }


def test_contenders_say_why_they_can_t_take_part():
    with pytest.raises(CannotTakePart, match="Too many connections"):
        RAISING.lend(Place("", 10), tasks=11)
    with pytest.raises(CannotTakePart, match="no_such_module is switched off or not installed"):
        replace(RAISING, needs=("no_such_module",)).lend(Place("", 10), tasks=1)
    with pytest.raises(CannotTakePart, match="sends no commands"):
        Contender("a").connect(Place("", 10), tasks=1)
    with pytest.raises(CannotTakePart, match="knows no clusters"):
        Contender("a").join(Place("", 10), tasks=1)
    with pytest.raises(CannotTakePart, match="Too many connections"):
        THEIR_CLUSTER.join(Place("", 10), tasks=11)
    with pytest.raises(CannotTakePart, match="lends no connections"):
        Contender("a").lend(Place("", 10), tasks=1)


# ---- files and tables ----------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(tmp_path):
    absence = Absence(UVLOOP, "get", "1 task", "coredis", "not installed", failed=False)
    run = a_run(
        series(OURS, [1.0, 2.0], latencies={"50": 1.0}, counts={"errors": 1.0}),
        series(MEASURE, [3.0, 4.0], UVLOOP),
        missing=[absence],
    )
    run.save(tmp_path / "r.json")
    assert Run.load(tmp_path / "r.json") == run
    assert run.keys == [(ASYNCIO, "lend", "1 task"), (UVLOOP, "lend", "1 task")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 0}',
        '{"format": 1, "series": [1]}',
        '{"format": 1, "missing": [], "series": [], "more": 1}',
    ],
)
def test_what_is_no_run_is_refused(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=r"r\.json is no result of python -m benchmarks"):
        Run.load(tmp_path / "r.json")


def test_tables_show_ratios_and_who_is_missing():
    absences = [
        Absence(ASYNCIO, "lend", case, "coredis", "coredis is not installed", failed=failed)
        for case, failed in (("1 task", False), ("2 tasks", False), ("3 tasks", True))
    ]
    run = a_run(
        series(OURS, [1e-6, 1e-6], counts={"errors": 2.0}),
        series(MEASURE, [4e-6, 5e-6], waits={"50": 0.25}),
        missing=absences,
    )
    text = as_text(run)
    assert "lend and give back (asyncio, hiredis)" in text
    assert "4.5x (4.0-5.0)" in text
    assert "errors: 2" in text
    assert "250 ms" in text
    assert (
        "coredis takes no part: coredis is not installed. That is in lend, 1 task (asyncio, hiredis) and 1 more."
        in text
    )
    assert "coredis failed: coredis is not installed." in text


def test_in_a_cluster_all_are_measured_by_redis_pys():
    run = a_run(
        series(CLUSTER.name, [1.0], scenario="cluster-get", counts={"opened to a node": 10.0}),
        series(THEIR_CLUSTER.name, [3.0], scenario="cluster-get", counts={"opened to a node": 34}),
        series("coredis", [2.0], scenario="cluster-get"),
    )
    text = as_text(run)
    assert "3.0x" in text
    assert "1.5x" in text
    assert f"ratio: {THEIR_CLUSTER.name}'s figure" in text
    table = main_table(run, {"cluster-get": "GET"})
    assert "| GET: 1 task | `RedisCluster` |  | 3.0x | 2.0x |" in table
    assert "connections opened to a node (1 task) | 10 |  | 34 |" in table


def test_documents_quote_the_main_table():
    run = a_run(
        series(OURS, [1.0]),
        series(MEASURE, [12.0]),
        series("coredis", [0.5]),
        series(BARE.name, [0.25]),
    )
    table = main_table(run, {"lend": "lend and give back"})
    assert "| lend and give back: 1 task | `Pool` | 12x | 0.50x | 0.25x |" in table
    document = "# A\n<!-- benchmarks: main -->\nold\n<!-- end -->\nB\n<!-- benchmarks: all -->\n<!-- end -->\n"
    once = put_into(document, run, {"lend": "lend and give back"})
    assert "old" not in once
    assert once.count("12x") == 2
    assert once.startswith(
        "# A\n<!-- benchmarks: main -->\nMeasured on 2026-01-02 of commit c0ffee"
    )
    assert put_into(once, run, {"lend": "lend and give back"}) == once
    with pytest.raises(ValueError, match="<!-- benchmarks: main -->"):
        put_into("# A\n", run, {})


def test_readme_quotes_some_of_it():
    run = a_run(
        *(series(name, [2.0], scenario="lend") for name in (OURS, MEASURE)),
        *(series(name, [2.0], scenario="mixed") for name in (OURS, MEASURE)),
    )
    document = "<!-- benchmarks: short -->\n<!-- end -->\n"
    rows = [line for line in put_into(document, run, {}).splitlines() if line.startswith("| ")]
    assert rows == [
        "|  | aiopool's | BlockingConnectionPool |",
        "| --- | --- | --- |",
        "| lend: 1 task | `Pool` | 1.0x |",
    ]


def test_documents_quote_how_long_one_task_alone_takes():
    at = {"50": 0.0001, "99": 0.00025}
    made = {CLIENT.name: [1.0, 2.0], PIPELINED.name: [1.1, 2.4], BARE.name: [0.5, 1.0]}
    run = a_run(*(series(name, s, scenario="get", latencies=at) for name, s in made.items()))
    document = "<!-- benchmarks: alone -->\n<!-- end -->\n"
    assert put_into(document, run, {"get": "GET"}).splitlines()[1:-1] == [
        "| GET: 1 task (asyncio, hiredis) | median | 99th percentile | times as long as `pool.client()` |",
        "| --- | --- | --- | --- |",
        "| `pool.client()` | 100 µs | 250 µs |  |",
        "| `pool.pipelined()` | 100 µs | 250 µs | 1.1x (1.1-1.2) |",
        "| asyncio + hiredis | 100 µs | 250 µs | 0.50x |",
    ]


# ---- comparison ----------------------------------------------------------------------------------


def beside(ours, rival=(10.0, 10.0, 10.0), **versions):
    return a_run(series(OURS, list(ours)), series(MEASURE, list(rival)), versions=versions)


def test_slower_is_what_lost_against_the_rival_beside_it():
    comparison = compare(beside([1.0, 1.1, 1.0]), beside([2.0, 2.1, 2.0]))
    assert [str(change) for change in comparison.slower] == [
        f"{OURS} beside {MEASURE} in lend, 1 task (asyncio, hiredis): 10x (9.1-10) -> 5.0x (4.8-5.0)"
    ]
    assert (comparison.faster, comparison.same) == ([], 0)
    assert compare(beside([2.0, 2.1, 2.0]), beside([1.0, 1.1, 1.0])).faster


def test_a_slower_machine_makes_nothing_slower():
    comparison = compare(beside([1.0] * 3), beside([3.0] * 3, [30.0] * 3))
    assert (comparison.slower, comparison.faster, comparison.same) == ([], [], 1)


def test_what_is_within_the_spread_is_the_same():
    assert compare(beside([1.0, 2.0, 1.5]), beside([1.6, 2.1, 1.9])).same == 1
    assert compare(beside([1.0] * 3), beside([1.04] * 3)).same == 1  # for certain, but too little


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (beside([1.0] * 3), beside([1.0] * 3, python="3.12.1"), "Python 3.11, the other with 3.12"),
        (beside([1.0] * 2, [1.0] * 2), beside([1.0] * 3), "the old run has only 2 rounds"),
        (a_run(), beside([1.0] * 3), "the old run has only 0 rounds"),
        (
            beside([1.0] * 3),
            beside([1.0] * 3, redis="9.0", coredis="7.0"),
            "no rival is of the same version",
        ),
        (beside([1.0] * 3), a_run(series(OURS, [1.0] * 3, UVLOOP)), "no case in common"),
    ],
)
def test_runs_that_can_t_be_compared(old, new, why):
    with pytest.raises(NotComparable, match=why):
        compare(old, new)


# ---- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--only lend,nothing", "argument --only: 'nothing' is none of lend, get, set,"),
        ("--loops trio", "argument --loops: 'trio' is none of asyncio, uvloop"),
        ("--hiredis yes", "argument --hiredis: 'yes' is none of on, off"),
        ("--rounds 0", "argument --rounds: not a number from 1 on: '0'"),
        ("--rounds many", "argument --rounds: not a number from 1 on: 'many'"),
        (
            "--quick --json no/such/folder/r.json",
            "argument --json: there is no folder no/such/folder",
        ),
        ("--quick --markdown no/such.md", "argument --markdown: there is no file no/such.md"),
        ("--slow", "unrecognized arguments: --slow"),
    ],
)
def test_wrong_flags_are_named(words, complaint, capsys):
    with pytest.raises(SystemExit) as left:
        main(words.split())
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_what_is_measured_by_which_flags():
    quick = parse(["--quick"])
    assert quick.settings == [ASYNCIO]
    assert (quick.json, quick.plots, quick.effort.size) == (None, None, "quick")
    some = parse(["--loops", "uvloop,asyncio", "--hiredis", "off", "--rounds", "7"])
    assert some.settings == [Setting("asyncio", hiredis=False), UVLOOP]
    assert (some.json, some.plots, some.effort.size, some.effort.rounds) == (None, None, "full", 7)


def test_a_file_is_shown_drawn_quoted_and_compared(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    beside([1.0, 1.1, 1.0]).save(old)
    beside([2.0, 2.1, 2.0]).save(new)
    words = [
        "--from",
        str(new),
        "--compare",
        str(old),
        "--markdown",
        "-",
        "--plots",
        str(tmp_path / "plots"),
    ]
    assert main(words) == 1
    told = capsys.readouterr().out
    assert "SLOWER: aiopool Pool beside BlockingConnectionPool" in told
    assert "1 slower, 0 faster, 0 the same" in told
    assert "| `Pool` | 5.0x (4.8-5.0) |" in told
    plots = {path.name for path in (tmp_path / "plots").iterdir()}
    assert plots == {f"{n}.{s}" for n in ("overview", "throughput-lend") for s in ("png", "svg")}
    assert main(["--from", str(new), "--compare", str(new)]) == 0


def test_the_same_figures_make_the_same_pictures(tmp_path):
    beside([1.0, 1.1, 1.0]).save(tmp_path / "r.json")
    for folder in ("a", "b"):
        assert main(["--from", str(tmp_path / "r.json"), "--plots", str(tmp_path / folder)]) == 0
    assert (tmp_path / "a" / "overview.svg").read_bytes() == (
        tmp_path / "b" / "overview.svg"
    ).read_bytes()


def test_files_that_can_t_be_used_are_named(tmp_path, capsys):
    assert main(["--from", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
    (tmp_path / "r.json").write_text(json.dumps([]))
    assert main(["--from", str(tmp_path / "r.json")]) == 2
    assert "r.json is no result of python -m benchmarks" in capsys.readouterr().err
    beside([1.0] * 3).save(tmp_path / "r.json")
    beside([1.0] * 3, python="3.13.0").save(tmp_path / "s.json")
    assert main(["--from", str(tmp_path / "r.json"), "--compare", str(tmp_path / "s.json")]) == 2
    assert "one run was made with Python 3.13" in capsys.readouterr().err
