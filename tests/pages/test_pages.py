"""Every page of the documentation does what it says: all of its code runs, in order, against real servers."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from blocks import blocks
from servers import free_port

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *sorted(ROOT.glob("docs/**/*.md"))]
WITH_CODE = [page for page in PAGES if blocks(page.read_text())]

LIMIT = 120.0
BIN = Path(__file__).with_name("bin")  # stands in for what would install something
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    # Of trio, which rivals bring, hypothesis' plugin warns as soon as it is imported.
    "PYTEST_ADDOPTS": "-p no:hypothesispytest",
    "STAND_IN_FOR": sys.prefix,
}


# What would take too long is done in its smallest form; what the pages say, with what stands for it.
QUICK = "-m benchmarks --quick --rounds 3 --only mass-cancel --plots plots"
SHORTER = {
    "README.md": {
        # .ci/run does this itself: it is where this very test is run.
        ".venv/bin/pytest -n 3 --dist worksteal": ".venv/bin/pytest --version",
        "aiopool demo\n": "aiopool demo --seconds 1\n",
    },
    "benchmarks/README.md": {
        "-m benchmarks --quick  #": f"{QUICK} --json quick.json #",
        "-m benchmarks          #": f"{QUICK} --json all.json #",
        "-m benchmarks --json old.json --only lend,get": f"{QUICK} --json old.json",
        # With so few rounds, noise may look as if something had become slower.
        "-m benchmarks --json new.json --only lend,get --compare old.json": (
            f"{QUICK} --json new.json --compare old.json || [ $? = 1 ]"
        ),
    },
    "docs/explanation/reliability.md": {
        "AIOPOOL_SEEDS=40000 .venv/bin/pytest": "AIOPOOL_SEEDS=20 .venv/bin/pytest -k storm",
        "--requests 1000000": "--requests 30 --ways client",
        "troubles.py  #": "troubles.py --trouble killed #",
        "--runs 3  #": "--runs 1 --tasks 20 --trouble refresh #",
        "pytest -m soak": "pytest -m soak --collect-only tests/redis",
    },
    "docs/guides/observability.md": {
        "aiopool top /run/shop/pool.sock\n": (
            "until [ -S pool.sock ]; do sleep 0.1; done; aiopool top --once pool.sock\n"
        ),
        'path="/run/shop/pool.sock"': 'path="pool.sock"',
    },
    "docs/guides/pool-size.md": {"--slow 0.02\n": "--slow 0.02 --seconds 0.1 --rounds 2\n"},
    "docs/explanation/scaling.md": {
        "-m benchmarks.scaling          #": "-m benchmarks.scaling --quick #"
    },
}
# What these say is to be done in a clone of the project; all others begin in an empty folder.
IN_A_CLONE = ["README.md", "benchmarks/README.md", "docs/contributing.md", "docs/explanation/"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_all_that_a_page_says_can_be_done(page, request, tmp_path):
    name = str(page.relative_to(ROOT))
    text = page.read_text()
    for long, short in SHORTER.get(name, {}).items():
        assert long in text, f"the page does not say {long!r} any more"
        text = text.replace(long, short)
    text, addresses = with_addresses_that_exist(text, request)
    (tmp_path / page.name).write_text(text)
    here = tmp_path / "here"
    if any(map(name.startswith, IN_A_CLONE)):
        subprocess.run(["git", "clone", "-q", ROOT, here], check=True)  # noqa: S603, S607 - a copy
        make_venv = [BIN / "python3", "-m", "venv", ".venv"]
        subprocess.run(make_venv, cwd=here, env=ENVIRONMENT, check=True)  # noqa: S603 - our own code
    else:
        here.mkdir()
    if page.parent.name == "examples":
        shutil.copytree(page.parent, here, dirs_exist_ok=True)
    child = [sys.executable, "-W", "error", BIN.with_name("follow.py"), tmp_path / page.name]
    following = subprocess.Popen(  # noqa: S603 - our own code
        [*child, *addresses], cwd=here, env=ENVIRONMENT, start_new_session=True
    )
    try:
        assert following.wait(LIMIT) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(following.pid, signal.SIGKILL)


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_nothing_that_does_not_exist(page):
    """Also in functions that are not called there."""
    code = [block for block in blocks(page.read_text()) if block.language == "python"]
    files = [block.code for block in code if block.file is not None]
    for text in ["\n".join(block.code for block in code if block.file is None), *files]:
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "-"]
        done = subprocess.run(ruff, input=text, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        assert done.returncode == 0, done.stdout


def with_addresses_that_exist(text: str, request: pytest.FixtureRequest) -> tuple[str, list[str]]:
    """Put addresses of the tests' own servers, and free ones, in the place of those that are written."""
    starts_redis = any(each.background and "redis-server" in each.code for each in blocks(text))
    there = {
        6379: lambda: free_port() if starts_redis else request.getfixturevalue("server").port,
        8000: free_port,
        9100: free_port,
        7000: lambda: request.getfixturevalue("cluster").nodes[0].port,
        26379: lambda: request.getfixturevalue("sentinels").sentinels[0].port,
    }
    addresses = []
    for written, find in there.items():
        if f"localhost:{written}" in text or re.search(
            rf"(--port|\blocalhost\b|start_http_server).*\b{written}\b", text
        ):
            port = find()
            text = re.sub(rf"\b{written}\b", str(port), text).replace(
                f"localhost:{port}", f"127.0.0.1:{port}"
            )
            addresses.append(f"127.0.0.1:{port}")
    return text, addresses
