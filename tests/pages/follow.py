"""Does all that a page of the documentation says, in its order, in a process of its own and in the current folder.

Arguments: the page, and the addresses where the servers that it starts will listen.
"""

import ast
import asyncio
import gc
import json
import linecache
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import redirect_stdout
from inspect import CO_COROUTINE
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from blocks import Block, blocks

STARTED_WITHIN = 20.0


class Page:
    """What is under way while a page is followed."""

    def __init__(self, name: str, addresses: list[str]) -> None:
        self.name = name
        self.addresses = addresses
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.loop = asyncio.Runner()
        self.servers: list[subprocess.Popen[bytes]] = []
        self.files: dict[str, str] = {}
        self.unused: set[str] = set()
        self.said = ""  # by the last piece of code

    def follow(self, found: list[Block]) -> None:
        ways: dict[str, Callable[[Block], object]] = {
            "python": self.python,
            "sh": self.shell,
            "json": lambda block: json.loads(block.code),
            "yaml": lambda block: yaml.safe_load(block.code),
            "toml": lambda block: tomllib.loads(block.code),
            "promql": self.queries,
        }
        with self.loop:
            try:
                for block in found:
                    sys.stderr.write(f"--- {self.name}:{block.line} ({block.language})\n")
                    if block.file is not None:
                        Path(block.file).write_text(block.code)
                        self.files[block.file] = block.code
                        self.unused.add(block.file)
                    else:
                        ways[block.language](block)
                        compare(block.says or "", self.said)
            finally:
                self.names.clear()
                for server in reversed(self.servers):
                    stop(server)
        assert not self.unused, f"nothing on the page uses {self.unused}"

    def python(self, block: Block) -> None:
        # So that a traceback shows the page's own lines.
        source = "\n" * block.line + block.code
        linecache.cache[self.name] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            self.name,
        )
        compiled = compile(source, self.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with redirect_stdout(StringIO()) as out:
            if compiled.co_flags & CO_COROUTINE:
                self.loop.run(eval(compiled, self.names))  # noqa: S307 - the page's code
            else:
                exec(compiled, self.names)  # noqa: S102 - likewise
        self.said = out.getvalue()

    def queries(self, block: Block) -> None:
        """Look for all that they ask for in what is exposed at that point of the page."""
        from prometheus_client import generate_latest  # noqa: PLC0415 - few pages need it

        exposed = set(re.findall(r"aiopool_\w+", generate_latest().decode()))
        asked_for = set(re.findall(r"aiopool_\w+", re.sub("#.*", "", block.code)))
        assert asked_for, block.code
        assert asked_for <= exposed, asked_for - exposed

    def used_by(self, code: str) -> None:
        """Note which files this names, and which those name."""
        for name in [name for name in self.unused if re.search(rf"\b{Path(name).stem}\b", code)]:
            self.unused.discard(name)
            self.used_by(self.files[name])

    def shell(self, block: Block) -> None:
        self.used_by(block.code)
        command = ["bash", "-euo", "pipefail", "-c", block.code]
        if not block.background:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - the page's code
            self.said = done.stdout
            sys.stdout.write(done.stdout)
            done.check_returncode()
            return
        server = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - likewise
        self.servers.append(server)
        for address in self.addresses:
            if address.split(":")[1] in block.code:
                wait_for(address, server)


def compare(page: str, said: str) -> None:
    """Look for each line of the page, in this order; numbers, folders and space may differ."""
    rest = iter(plain(said))
    for line in plain(page):
        assert line in rest, f"the page has {line!r}, but it said:\n{said}"


def plain(text: str) -> list[str]:
    masked = re.sub(r"\d[\d.,:]*", "#", re.sub(r"/\S*/", "/", text))
    return [" ".join(line.split()) for line in masked.splitlines() if line.strip()]


def wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + STARTED_WITHIN
    while True:
        try:
            socket.create_connection((host, int(port))).close()
        except ConnectionRefusedError:
            assert server.poll() is None, f"what should serve at {address} has ended"
            assert time.monotonic() < deadline, f"nobody serves at {address}"
            time.sleep(0.05)
        else:
            return


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End a server as a service manager does, with all that it has started."""
    assert server.poll() is None, "a server of the page has ended before"
    os.killpg(server.pid, signal.SIGTERM)
    status = server.wait(STARTED_WITHIN)
    assert status in {0, -signal.SIGTERM, 128 + signal.SIGTERM}, f"it ended with status {status}"


def main(name: str, *addresses: str) -> None:
    failures: list[str] = []
    # What is left open, and what nobody has asked a task for, is told there.
    sys.unraisablehook = lambda error: failures.append(f"{error.exc_value!r} in {error.object!r}")
    logger = logging.getLogger("asyncio")
    logger.addFilter(lambda record: bool(failures.append(record.getMessage())) or True)
    page = Path(name)
    Page(page.name, [*addresses]).follow(blocks(page.read_text()))
    gc.collect()
    assert not failures, failures


if __name__ == "__main__":
    assert shutil.which("bash") is not None
    main(*sys.argv[1:])
