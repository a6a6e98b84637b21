"""The documentation names tests as evidence; they have to be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    if re.search(r"`test_\w+`", page.read_text("utf-8"))
]


@pytest.fixture(scope="module")
def tests():
    return {
        name
        for file in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"def (test_\w+)\(", file.read_text("utf-8"))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_test_that_a_page_names_is_there(page, tests):
    named = set(re.findall(r"`(test_\w+)`", page.read_text("utf-8")))
    assert named - tests == set()
