"""The simulation of many processes: that it counts what there is, and shows what is said of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from aiopool import _limits, _opener
from benchmarks.scaling import full as filled
from benchmarks.scaling import server as servers
from benchmarks.scaling.__main__ import main
from benchmarks.scaling.connections import SetUp, connections
from benchmarks.scaling.day import day
from benchmarks.scaling.fleet import Fleet, Load, simulate
from benchmarks.scaling.full import full
from benchmarks.scaling.lifetime import expiry
from benchmarks.scaling.restart import (
    IN_CROWDS,
    LOAD,
    MANY_OPENINGS,
    NAIVE,
    ONE_OPENING,
    OURS,
    PLAIN,
    RESTLESS,
    STEADY,
    TLS,
    WITHOUT_JITTER,
    restart,
)
from benchmarks.scaling.server import Dialler, Processor, Server
from benchmarks.scaling.studies import STUDIES

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "scaling.md"


def a_restart(variant, seed=1, processes=20):
    return restart(variant, processes=processes, greeting=PLAIN, down=0.4, seed=seed)


# ---- the model -----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_and_another_another():
    assert a_restart(OURS, processes=3) == a_restart(OURS, processes=3)
    assert a_restart(OURS, processes=3) != a_restart(OURS, seed=2, processes=3)


def dials_at_once(number, **options):
    """Dial a server so many times at once; give it, and when each got through."""

    async def work():
        server = Server(TLS, **options)
        now = asyncio.get_running_loop().time
        began = now()

        async def dial():
            await server.connect()
            return now() - began

        ends = await asyncio.gather(*(dial() for _ in range(number)), return_exceptions=True)
        return server, ends

    return simulate(work, seed=1)


def test_what_finds_the_backlog_full_comes_again_after_a_second():
    server, ends = dials_at_once(servers.BACKLOG + 10)
    assert (server.accepted, server.dropped, server.most) == (521, 10, 521)
    ends.sort()
    assert ends[510] == pytest.approx(0.511, abs=0.001)
    assert ends[511:] == pytest.approx([1.0 + 0.001 * n for n in range(1, 11)], abs=0.001)


def test_what_is_not_heard_for_five_seconds_has_failed(monkeypatch):
    monkeypatch.setattr(servers, "BACKLOG", 0)
    server, (error,) = dials_at_once(1)
    assert isinstance(error, TimeoutError)
    assert (server.dials, server.unheard, server.dropped) == (1, 1, 3)
    assert sum(server.by_bin.values()) == 3  # it came at once, after 1 and after 3 s


def test_a_dial_that_its_caller_gives_up_is_greeted_all_the_same():
    async def work():
        server = Server(1.0)
        dial = asyncio.create_task(server.connect())
        await asyncio.sleep(0.5)
        dial.cancel()
        await asyncio.gather(dial, return_exceptions=True)
        given_up = (server.unheard, server.heard, server.under_way)
        await asyncio.sleep(1.0)
        return given_up, server.heard

    assert simulate(work, seed=1) == ((1, 1, 0), 0)


def test_a_full_server_turns_away():
    server, ends = dials_at_once(5, maxclients=3)
    assert (server.accepted, server.turned_away) == (3, 2)
    errors = [str(end) for end in ends if isinstance(end, OSError)]
    assert errors == ["[Errno 24] max number of clients reached"] * 2


def test_a_process_begins_one_dial_after_the_other():
    async def work():
        dialler = Dialler(Server(0.0), Processor(1.0))
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(dialler.open() for _ in range(3)))
        return asyncio.get_running_loop().time() - began, dialler.open_now

    took, opened = simulate(work, seed=1)
    assert (took, opened) == (pytest.approx(3.0, abs=0.001), 3)


@pytest.mark.parametrize("variant", [OURS, NAIVE, RESTLESS, IN_CROWDS], ids=lambda v: v.name)
def test_every_dial_is_counted_once_and_connections_stay_below_their_bound(variant, monkeypatch):
    monkeypatch.setattr(servers, "BACKLOG", 30)

    async def work():
        server = Server(TLS)
        fleet = Fleet(10, [server], variant.make, 1)

        async def watch(seconds):
            for _ in range(round(seconds / 0.01)):
                await asyncio.sleep(0.01)
                ended = server.accepted + server.failed
                assert server.dials == ended + server.under_way
                assert server.open == sum(d.open_now for p in fleet.processes for d in p.diallers)
                assert server.open <= 10 * 10

        fleet.start(replace(LOAD, think=0.1))
        await asyncio.sleep(1.0)
        lent = server.open
        server.stop()
        assert (lent > 10, server.open) == (True, 0)
        await asyncio.sleep(0.3)
        server.start()
        await asyncio.sleep(3.0)  # and until the last of before has been found out
        await watch(1.0)
        await fleet.stop()
        await watch(9.0)
        stats = [pool.stats() for p in fleet.processes for pool in p.pools if variant is not NAIVE]
        await fleet.close()
        return server, stats

    with variant.applied():
        server, stats = simulate(work, seed=1)
    assert server.refused > 0
    assert (server.under_way, server.open) == (0, 0)
    assert server.dials == server.accepted + server.refused + server.turned_away + server.unheard
    if stats:
        assert sum(each.opened for each in stats) == server.accepted
        assert sum(each.open_failed for each in stats) == server.failed


def test_connections_in_use_are_what_little_s_law_says():
    load = Load(users=10, hold=0.5, think=0.5)

    async def work():
        server = Server(PLAIN)
        fleet = Fleet(5, [server], OURS.make, 1)
        fleet.start(load)
        await asyncio.sleep(100.0)
        used = sum(pool.stats().use_seconds for each in fleet.processes for pool in each.pools)
        await fleet.close()
        return used / 100.0 / 5

    assert load.in_use == 5.0
    assert simulate(work, seed=1) == pytest.approx(load.in_use, rel=0.05)


def test_what_a_variant_changes_is_as_before_afterwards():
    before = (_opener.FIRST_PAUSE, _opener.uniform, _opener.Opener._has_room)
    a_restart(RESTLESS, processes=1)
    a_restart(IN_CROWDS, processes=1)
    expiry(0.0, 1.0, 1, seed=1)
    assert before == (_opener.FIRST_PAUSE, _opener.uniform, _opener.Opener._has_room)
    assert _limits.LIFETIME_JITTER == 0.1


# ---- what the page says, in small ----------------------------------------------------------------


def test_a_naive_pool_dials_many_times_as_often_while_the_server_is_down():
    ours, naive = a_restart(OURS), a_restart(NAIVE)
    assert naive.while_down > 20 * ours.while_down
    assert naive.worst_10_ms > 2 * ours.worst_10_ms
    assert ours.failed == 0


def test_each_ingredient_saves_dials_or_spreads_them():
    ours = a_restart(OURS)
    assert a_restart(STEADY).while_down > 2 * ours.while_down
    assert a_restart(RESTLESS).while_down > 8 * ours.while_down
    assert a_restart(IN_CROWDS).while_down > 1.2 * ours.while_down
    seeds = range(1, 5)  # what happens in one moment of one run is much of a coincidence
    in_step, spread = (
        sum(a_restart(variant, seed).worst_10_ms for seed in seeds)
        for variant in (WITHOUT_JITTER, OURS)
    )
    assert in_step > 1.2 * spread


def test_the_more_openings_at_a_time_the_worse_the_rush_on_a_slow_server():
    few, many = (
        [restart(variant, processes=20, greeting=TLS, down=0.4, seed=seed) for seed in range(1, 5)]
        for variant in (ONE_OPENING, MANY_OPENINGS)
    )
    assert sum(run.worst_10_ms for run in many) > 1.2 * sum(run.worst_10_ms for run in few)
    assert sum(run.reopened for run in many) > sum(run.reopened for run in few)


def test_jitter_of_lifetimes_spreads_the_dials():
    worst = [expiry(jitter, 1.0, 20, seed=1).worst[0] for jitter in (0.0, 0.025, 0.1)]
    assert worst[0] == 20 * 5
    assert worst[0] > 5 * worst[1] > 5 * worst[2]


def test_connections_go_after_a_peak_but_for_min_size():
    few = connections(SetUp(5, max_idle=30.0, min_size=2), seed=1)
    many = connections(SetUp(5, max_idle=None), seed=1)
    assert (few.at_rest, few.peak, few.bound) == (10, 50, 50)
    assert few.at_rest <= few.after[-1] < few.peak
    assert many.after[-1] == many.peak == 50
    nodes = connections(SetUp(5, nodes=6), seed=1, look_on=False)
    assert nodes.usual < few.usual
    assert nodes.peak <= nodes.bound


def test_the_shorter_max_idle_the_fewer_stay_open_and_the_more_is_dialled():
    short, long, never = (day(max_idle, 400.0, 2, seed=1) for max_idle in (15.0, 60.0, None))
    assert min(short.last_day) < min(long.last_day) < min(never.last_day)
    assert short.dials > long.dials > never.dials
    assert list(never.open) == sorted(never.open)


def test_a_full_server_is_never_overrun_and_seldom_asked():
    ours, naive = (full(way, 4, 40, seed=1) for way in (filled.OURS, filled.NAIVE))
    assert ours.open == naive.open == 40
    assert naive.dials_each_second > 20 * ours.dials_each_second
    assert ours.dials_each_second < 2 * 4
    assert ours.failed <= naive.failed
    assert (ours.late_served, naive.late_served) == (0, 0)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_fills_a_page_and_draws(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- scaling: made -->\n<!-- end -->\n<!-- scaling: lifetimes -->\nold\n<!-- end -->\n"
    )
    names = ["--only", "lifetimes,days", "--markdown", str(page), "--plots", str(tmp_path)]
    assert main(["--quick", "--seed", "7", *names]) == 0
    text = page.read_text()
    assert "seed 7" in text
    assert "old" not in text
    assert "| 10.0% | 1 s |" in text
    assert "| `max_idle` |" in capsys.readouterr().out
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["scaling-day.png", "scaling-lifetime.png"]


def test_the_page_has_a_place_for_each_study():
    text = PAGE.read_text(encoding="utf-8")
    for name in STUDIES:
        assert f"<!-- scaling: {name} -->" in text
