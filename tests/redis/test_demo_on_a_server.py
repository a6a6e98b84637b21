"""The demo on a real server, where it is a guest."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_the_demo_loses_nothing_on_a_real_server_and_leaves_it_as_it_was(server, kind):
    server.run("SET", "mine", "untouched")
    url = server.url if kind == "tcp" else server.unix_url
    words = ["demo", "--quiet", "--seconds", "1", "--json", "-", "--url", url]
    done = subprocess.run(  # noqa: S603 - its own words
        [sys.executable, "-m", "aiopool", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["lost"] == []
    assert report["check"]["counted"] >= report["check"]["confirmed"] > 0
    assert 0 < report["connections"]["most_by_server"] <= report["parameters"]["max_size"]
    assert server.run("KEYS", "*") == ["mine"]
