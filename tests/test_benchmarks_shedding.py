"""The simulation of overload: that it counts what there is, and shows what is said of it."""

from pathlib import Path

import pytest

from benchmarks.shedding import __main__ as command
from benchmarks.shedding import simulation
from benchmarks.shedding.simulation import EXPONENTIAL, TROUBLES, WITH, WITHOUT, at_load, outcome

PAGE = Path(__file__).parent.parent / "docs" / "guides" / "overload.md"


@pytest.fixture(autouse=True)
def _briefly(monkeypatch):
    monkeypatch.setattr(simulation, "WARM_UP", 0.5)
    monkeypatch.setattr(simulation, "LASTS", 1.0)


def test_the_same_seed_gives_the_same_result_and_another_another():
    assert outcome(at_load(1.0), EXPONENTIAL, WITH, 1) == outcome(
        at_load(1.0), EXPONENTIAL, WITH, 1
    )
    assert outcome(at_load(1.0), EXPONENTIAL, WITH, 1) != outcome(
        at_load(1.0), EXPONENTIAL, WITH, 2
    )


@pytest.mark.parametrize("story", TROUBLES.values(), ids=TROUBLES)
def test_every_request_that_counts_is_counted_once(story):
    both = [outcome(story, EXPONENTIAL, rule, 1) for rule in (WITHOUT, WITH)]
    assert both[0].tally.requests == both[1].tally.requests > 30
    assert not both[0].tally.rejected


def test_the_command_fills_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "LOADS", (0.5,))
    monkeypatch.setattr(command, "RULES", (WITH,))
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- shedding: made -->\n<!-- end -->\n<!-- shedding: rules -->\nold\n<!-- end -->\n"
    )
    names = ["--only", "overload,rules", "--markdown", str(page)]
    assert command.main(["--seed", "7", *names]) == 0
    text = page.read_text()
    assert "seed 7" in text
    assert "old" not in text
    assert "|  | `shed=True` |" in text
    assert "| 0.5x |" in capsys.readouterr().out


def test_the_page_has_a_place_for_each_study():
    text = PAGE.read_text(encoding="utf-8")
    for name in command.STUDIES:
        assert f"<!-- shedding: {name} -->" in text
