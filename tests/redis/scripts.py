"""Programs of their own, for what can't be tried inside pytest: runs, forks, the end of a process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

LOOPS = ["asyncio"] + (["uvloop"] if sys.platform != "win32" else [])

PRELUDE = """
import asyncio, gc, logging, os, sys
import redis.asyncio
from redis.auth.token import SimpleToken
from aiopool import RedisPool

loop, url, authority = sys.argv[1:]
if loop == "uvloop":
    import uvloop as module
else:
    module = asyncio
# In its debug mode asyncio also tells what took long, which on a busy machine anything may.
logging.getLogger("asyncio").setLevel(logging.ERROR)
options = {"ssl_ca_data": authority} if authority else {}
pool = RedisPool(url, max_size=2, client_name="pool", **options)
client = redis.asyncio.Redis(connection_pool=pool)

def new_runner():
    return asyncio.Runner(loop_factory=module.new_event_loop)

def run(coroutine):
    with new_runner() as runner:
        return runner.run(coroutine)
"""

# uvloop's close() warns of every transport that is still open, and if that is an error, it never
# returns. Nothing but closing the pool in time could prevent that.
UVLOOP_S = "ignore:unclosed resource:ResourceWarning"


def run_script(folder: Path, script: str, *words: str) -> None:
    """Run a script that may say nothing on stderr."""
    run_python(folder, "-W", "error", "-W", UVLOOP_S, "-c", PRELUDE + script, *words)


def run_python(folder: Path, *words: str) -> str:
    """Run Python, which may say nothing on stderr; returns what it says on stdout."""
    with subprocess.Popen(  # noqa: S603 - its own words
        [sys.executable, "-X", "dev", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said, complained = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it says where it hangs
            said, complained = process.communicate()
    if process.returncode or complained:
        pytest.fail(f"exit status {process.returncode}:\n{said}\n{complained}")
    return said
