"""The notebook docs/examples/walkthrough.ipynb: run again, from its first cell to its last, it says the same."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from aiopool._cli._redis_server import redis_server

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "examples" / "walkthrough.ipynb"
RUN = Path(__file__).with_name("run_notebook.py")


@pytest.fixture
def url():
    with redis_server() as url:
        yield url


def said(notebook):
    """Give what each cell says, without the numbers that differ from run to run."""
    cells = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        if cell["cell_type"] == "code":
            for output in cell["outputs"]:
                assert (output["output_type"], output["name"]) == ("stream", "stdout"), output
            text = "".join("".join(output["text"]) for output in cell["outputs"])
            cells[cell["id"]] = re.sub(r"\d+\.\d+", "#", text)
    return cells


def test_run_again_the_notebook_says_the_same_and_leaves_nothing(url, tmp_path):
    env = os.environ | {"REDIS_URL": url, "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"}
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        env[name] = str(tmp_path)
    again = tmp_path / "again.ipynb"
    words = [sys.executable, RUN, NOTEBOOK, again]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert (done.returncode, done.stderr) == (0, "")
    assert said(again) == said(NOTEBOOK)
    with redis.Redis.from_url(url) as admin:
        assert admin.dbsize() == 0
        assert len(admin.client_list()) == 1
