"""A Redis Cluster of three masters, in a process of its own: whatever ends us, it ends with us."""

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from aiopool._cli._redis_server import NoRedisServer, redis_server

from .server import SMALL, value_of

KEYS = [f"key:{number}" for number in range(10_000)]  # in slots of all nodes
VALUE = value_of(SMALL)

_MASTERS = 3
_SLOTS = 16384
_OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
_LIMIT = 30.0  # seconds until they have found each other


@contextmanager
def cluster(_url: str = "") -> Generator[str]:
    """Run one, which has `KEYS` with the same `VALUE` each; gives the URL of a node.

    Raises:
        NoRedisServer: There is none here, or they do not become a cluster; why is told on stderr.

    """
    with subprocess.Popen(  # noqa: S603 - this very file
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - for the type checkers
        assert process.stdout is not None  # noqa: S101 - likewise
        try:
            url = process.stdout.readline().strip()
            if not url:
                msg = "no cluster could be started"
                raise NoRedisServer(msg)
            yield url
        finally:
            process.stdin.close()  # which ends it, as our own end would


class Connections:
    """Looks at how many connections were made to each node of a cluster so far."""

    def __init__(self, url: str) -> None:
        """Have a connection to each."""
        kind: Any = redis.Redis  # typed in parts
        with kind.from_url(url) as one:
            slots = one.execute_command("CLUSTER SLOTS")
        self.nodes = [kind(host.decode(), port) for _, _, (host, port, *_) in slots]
        self.made()  # which opens its own

    def made(self) -> list[int]:
        """Count them."""
        return [node.info("stats")["total_connections_received"] for node in self.nodes]

    def close(self) -> None:
        """Look no more."""
        for node in self.nodes:
            node.close()


# ---- the other side ------------------------------------------------------------------------------


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends whoever wants us, which ends us
    with ExitStack() as stack:
        urls = [
            stack.enter_context(redis_server(*_OPTIONS, find_port=_find_port))
            for _ in range(_MASTERS)
        ]
        _join(urls)
        _store(urls[0])
        print(urls[0], flush=True)  # noqa: T201 - the other side reads it
        sys.stdin.read()


def _find_port() -> int:
    """Find one that is free as well 10000 further, where nodes of a cluster talk to each other."""
    while True:
        port = random.randrange(10_000, 20_000)  # noqa: S311 - no secret
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("127.0.0.1", port + 10_000)),
        ):
            return port


def _join(urls: Sequence[str]) -> None:
    kind: Any = redis.Redis  # typed in parts
    with ExitStack() as stack:
        nodes = [stack.enter_context(kind.from_url(url)) for url in urls]
        for number, node in enumerate(nodes):
            share = range(number * _SLOTS // _MASTERS, (number + 1) * _SLOTS // _MASTERS)
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER ADDSLOTS", *share)
            for url in urls[:number]:
                node.execute_command("CLUSTER MEET", *url.removeprefix("redis://").split(":"))
        deadline = time.monotonic() + _LIMIT
        while not all(_is_ready(node) for node in nodes):
            if time.monotonic() > deadline:
                msg = "the nodes do not become a cluster"
                raise NoRedisServer(msg)
            time.sleep(0.02)


def _is_ready(node: Any) -> bool:
    seen = node.execute_command("CLUSTER INFO")
    return bool(seen["cluster_state"] == "ok" and seen["cluster_size"] == str(_MASTERS))


def _store(url: str) -> None:
    kind: Any = redis.RedisCluster  # typed in parts
    with kind.from_url(url) as client:
        pipe = client.pipeline()
        for key in KEYS:
            pipe.set(key, VALUE)
        pipe.execute()


if __name__ == "__main__":
    _serve()
