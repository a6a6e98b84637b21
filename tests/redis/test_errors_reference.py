"""The page docs/reference/errors.md, word for word: each case is produced and compared."""

import ast
import asyncio
import contextlib
import errno
import gc
import logging
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import redis.exceptions
import redis.sentinel
from fleets import ClusterFleet
from opentelemetry.metrics import NoOpMeterProvider
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.auth.token import SimpleToken
from redis.backoff import NoBackoff
from redis.credentials import StreamingCredentialProvider
from redis.maint_notifications import MaintNotificationsConfig
from servers import Server, TlsFront, eventually, free_port
from set_ups import HangingUp, loading_server
from troubles import descriptors_left

import aiopool
from aiopool import Listener, PipelinedRedis, PoolTimeout, RedisCluster, RedisPool, SentinelPool
from aiopool import _log as log
from aiopool.integrations import debug, otel, prometheus
from aiopool.redis._sentinel import _question
from aiopool.redis._sharing import Sharing

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "errors.md").read_text()
PROSE = " ".join(PAGE.split())

# ---- what the page says --------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    names: list[str]  # the error's class, then those that it is as well; or the level of a log line
    when: str
    messages: dict[str, str]  # by event loop or server, where that matters

    def message(self, version: str) -> str:
        loop, _, _ = type(asyncio.get_running_loop()).__module__.partition(".")
        here = [label for label in self.messages if {loop, version} & set(label.split())]
        return self.messages[here[0] if here else ""]


def named(path: str) -> type:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module or "builtins"), name)


def read_page(verb: str) -> Iterator[tuple[str, Entry]]:
    for section in re.split(r"^###? ", PAGE, flags=re.MULTILINE)[1:]:
        heading, text = section.split("\n", 1)
        opening = rf"^(?:{verb}) (`.+?`(?:\s\(.+?\))?)\s(.+?)\.\n\n"
        said = re.search(opening, text, re.MULTILINE | re.DOTALL)
        if said is None:  # a heading over others, or of another kind
            continue
        names = re.findall("`(.+?)`", said[1])
        when = " ".join(said[2].split())
        messages = re.findall(r"(?:^With (.+):)?\n\n```text\n(.+)\n```", text, re.MULTILINE)
        yield heading, Entry(names, when, dict(messages))


ENTRIES = dict(read_page("Raises|Warns with"))
LOG_ENTRIES = dict(read_page("Logged as"))


def smooth(message: str) -> str:
    """Take out the numbers that are others each time."""
    message = re.sub(r"_ssl\.c:\d+", "_ssl.c:…", message)
    message = re.sub(r"id 0x[0-9a-f]+", "id …", message)
    message = re.sub(r"\.py:\d+", ".py:…", message)
    message = re.sub(r"\d+ times since", "… times since", message)
    return re.sub(r"\b[\d.]+ s\b", "… s", message).rstrip()


def without_stalls(message: str) -> str:
    """Take out that the loop was blocked, as it is on a machine that stalls."""
    return re.sub(
        r"; for … s of that the event loop was blocked, so nobody could release", "", message
    )


# ---- the stage -----------------------------------------------------------------------------------

TIMEOUT = 0.3


class Tries(NoBackoff):
    """No pauses, and a count of how often redis-py has tried again."""

    again = 0

    def compute(self, failures: int) -> float:
        self.again += 1
        return super().compute(failures)

    def __deepcopy__(self, memo: object) -> "Tries":
        return self


async def rows(pool: RedisPool) -> Any:
    """Acquire a connection where the page says that it was acquired."""
    return await pool.acquire(timeout=5)


@contextlib.asynccontextmanager
async def held(pool: RedisPool, number: int, name: str = "report") -> AsyncIterator[None]:
    """Have a task of this name hold so many connections."""
    ready, over = asyncio.Event(), asyncio.Event()

    async def report() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(number):
                stack.push_async_callback(pool.release, await rows(pool))
            ready.set()
            await over.wait()

    task = asyncio.create_task(report(), name=name)
    await ready.wait()
    yield
    over.set()
    await task


class Stage:
    """What a case has at hand, and a look at its pool afterwards."""

    def __init__(
        self,
        server: Server,
        locked_server: Server,
        fleet: ClusterFleet,
        folder: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.server = server
        self.fleet = fleet
        self.locked_server = locked_server
        self.version, _, _ = server.run("INFO", "server")["redis_version"].rpartition(".")
        self.folder = folder
        self.caplog = caplog
        self.trouble = contextlib.AsyncExitStack()  # ends before the pool is tried again
        self.after = contextlib.AsyncExitStack()  # ends last
        self.tries = Tries()
        self.retries = 10
        self.pool: RedisPool | None = None
        self.mended: dict[str, Any] = {}  # what connections would have to be made with
        self.alike = [  # patterns, and what the page has in their place
            (rf"\b{errno.ECONNREFUSED}\b", "111"),
            (rf"\b{errno.ECONNRESET}\b", "104"),
            (rf"\b{errno.EADDRINUSE}\b", "98"),
            (re.escape(__file__), "/srv/app/report.py"),
            (re.escape(str(folder)), "/run/my-service"),
        ]
        self.took = 0.0

    @property
    def lines(self) -> list[logging.LogRecord]:
        """What was logged that somebody should look at."""
        records = self.caplog.records
        return [each for each in records if each.name == "aiopool" and each.levelno > logging.INFO]

    async def cluster(self, **options: Any) -> RedisCluster:
        """Make a client with one connection to each node, of which one is lent until the end."""
        host, port = self.fleet.startup[0]
        made = await RedisCluster(host, port, max_size=1, **options)
        self.after.push_async_callback(made.aclose)
        node: Any = made.get_node_from_key("key")
        self.alike += [(node.name, "127.0.0.1:7000"), (r"by task 'Task-\d+'", "by task 'report'")]
        await self.trouble.enter_async_context(held(node.pool, 1))
        return made

    def make(self, url: str, **options: Any) -> RedisPool:
        retry = Retry(self.tries, self.retries)
        self.pool = RedisPool(url, **{"max_size": 3, "retry": retry, **options})
        self.alike.append((str(self.pool.connection_kwargs.get("port")), "6379"))
        return self.pool

    async def fails(self, action: Awaitable[object]) -> Exception:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(30):
                result = await action
        except Exception as error:  # noqa: BLE001 - whichever it is
            self.took = loop.time() - begun
            return error
        return pytest.fail(f"no error, but {result!r}")

    async def no_connection(self, url: str, **options: Any) -> Exception:
        pool = self.make(url, **options)
        return await self.fails(pool.client().get("key"))

    def as_on_the_page(self, message: str) -> str:
        for ours, shown in self.alike:
            message = re.sub(ours, shown, message)
        return smooth(message)

    def came(self, when: str) -> bool:
        failed = 0 if self.pool is None else self.pool.stats().open_failed
        return {
            "at once": self.tries.again == 0 and failed <= 1,
            "after the retries": max(self.tries.again + 1, failed) == self.retries + 1,
            "after the timeout": self.took > TIMEOUT - 0.01,  # uvloop's clock is coarse
            "when it is collected": self.tries.again == failed == 0,
        }[when]

    async def all_slots_can_be_lent(self) -> None:
        if (pool := self.pool) is None:
            return
        await self.trouble.aclose()
        assert (pool.stats().lent, pool.stats().waiting) == (0, 0)
        pool.connection_kwargs.update(self.mended)
        await pool.open()
        async with contextlib.AsyncExitStack() as lent:
            for _ in range(pool.stats().max_size):
                await lent.enter_async_context(pool.connection())
            assert pool.stats().lent == pool.stats().max_size
        assert (pool.stats().lent, pool.stats().waiting) == (0, 0)


@pytest.fixture(scope="module")
def _troubled_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.destroy()


@pytest.fixture
async def stage(
    _troubled_server: Server,
    _locked_server: Server,
    _cluster: ClusterFleet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> AsyncIterator[Stage]:
    stage = Stage(_troubled_server, _locked_server, _cluster, tmp_path, caplog)
    async with stage.after, stage.trouble:
        yield stage
        if stage.pool is not None:
            await stage.pool.aclose()


Case = Callable[[Stage], Awaitable[Exception]]
CASES: dict[str, Case] = {}


def case(heading: str) -> Callable[[Case], Case]:
    def register(function: Case) -> Case:
        assert heading not in CASES
        return CASES.setdefault(heading, function)

    return register


# ---- the server can't be reached -----------------------------------------------------------------


@case("Nothing listens at the address")
async def _(stage: Stage) -> Exception:
    stage.mended = {"port": stage.server.port}
    return await stage.no_connection(f"redis://127.0.0.1:{free_port()}")


@case("The host name is unknown")
async def _(stage: Stage) -> Exception:
    stage.mended = {"host": "127.0.0.1", "port": stage.server.port}
    words = "Error {} connecting to redis.invalid:6379. {}."
    try:
        socket.getaddrinfo("redis.invalid", 6379)
    except socket.gaierror as error:  # as the system has it, perhaps without a network
        here = re.escape(words.format(error.errno, error.strerror))
        stage.alike.append((here, words.format(-2, "Name or service not known")))
    return await stage.no_connection("redis://redis.invalid:6379")


@case("The unix socket does not exist")
async def _(stage: Stage) -> Exception:
    stage.mended = {"path": stage.server.path}
    stage.alike.insert(0, (re.escape(str(stage.folder)), "/run"))
    return await stage.no_connection(f"unix://{stage.folder}/redis.sock")


@case("The server accepts the connection and says nothing")
async def _(stage: Stage) -> Exception:
    stage.trouble.enter_context(stage.server.frozen())
    return await stage.no_connection(stage.server.url, socket_timeout=0.05)


@case("Connecting takes too long")
async def _(stage: Stage) -> Exception:
    front = tls_front(stage)
    stage.mended = {
        "port": front.port,
        "ssl_ca_data": front.authority_pem,
        "socket_connect_timeout": 5,
    }
    stage.trouble.enter_context(stage.server.frozen())
    url = f"rediss://127.0.0.1:{stage.server.port}"
    return await stage.no_connection(url, socket_connect_timeout=0.05)


@case("The server has as many clients as it takes")
async def _(stage: Stage) -> Exception:
    stage.server.run("CONFIG", "SET", "maxclients", 1)
    stage.trouble.callback(stage.server.run, "CONFIG", "SET", "maxclients", 1000)
    return await stage.no_connection(stage.server.url)


@case("This process has no file descriptor left")
async def _(stage: Stage) -> Exception:
    client = stage.make(stage.server.url).client()  # which reads a file, to know its own version
    stage.trouble.enter_context(descriptors_left(0))
    return await stage.fails(client.get("key"))


@case("The server closes the connection during the handshake")
async def _(stage: Stage) -> Exception:
    proxy = HangingUp()
    stage.after.callback(proxy.destroy)
    stage.mended = {"port": stage.server.port}
    return await stage.no_connection(f"redis://127.0.0.1:{proxy.port}")


@case("The server closes the connection after the handshake")
async def _(stage: Stage) -> Exception:
    proxy = HangingUp(b"%1\r\n$5\r\nproto\r\n:3\r\n")  # to HELLO, which is all of the handshake
    stage.after.callback(proxy.destroy)
    stage.mended = {"port": stage.server.port}
    return await stage.no_connection(
        f"redis://127.0.0.1:{proxy.port}",
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


@case("The server does not know HELLO")
async def _(stage: Stage) -> Exception:
    settings = stage.folder / "redis.conf"
    settings.write_text('rename-command HELLO ""')
    server = Server(include=str(settings))
    stage.after.callback(server.destroy)
    stage.mended = {"port": stage.server.port}
    return await stage.no_connection(server.url)


# ---- Sentinel ------------------------------------------------------------------------------------


class Told(Sentinel):
    """A Sentinel that says what it is told to."""

    def __init__(self, *ports: int) -> None:
        super().__init__([])
        self.ports = ports  # the master's, then those of replicas

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        if not self.ports:
            return await super().discover_master(service_name)  # which knows nobody
        return "127.0.0.1", self.ports[0]

    async def discover_slaves(self, service_name: str) -> list[tuple[str, int]]:  # noqa: ARG002 - its signature
        return [("127.0.0.1", port) for port in self.ports[1:]]


async def by_sentinel(stage: Stage, told: Told, **options: Any) -> Exception:
    retry = Retry(stage.tries, stage.retries)
    pool = stage.pool = SentinelPool("mymaster", told, max_size=3, retry=retry, **options)
    port = stage.server.port
    stage.alike.append((str(port), "6379"))
    stage.trouble.callback(setattr, told, "ports", (port,))
    return await stage.fails(pool.client().set("key", "value"))


@case("No Sentinel knows the master")
async def _(stage: Stage) -> Exception:
    return await by_sentinel(stage, Told())


@case("No Sentinel answers in time")
async def _(stage: Stage) -> Exception:
    class Silent(Told):
        async def discover_master(self, service_name: str) -> tuple[str, int]:
            if not self.ports:
                await asyncio.sleep(60)
            return await super().discover_master(service_name)

    stage.after.enter_context(patch.object(_question, "PATIENCE", 0.05))  # not to wait for long
    return await by_sentinel(stage, Silent())


@case("The master is a replica")
async def _(stage: Stage) -> Exception:
    stage.server.run("REPLICAOF", "127.0.0.1", free_port())
    stage.trouble.callback(stage.server.run, "REPLICAOF", "NO", "ONE")
    return await by_sentinel(stage, Told(stage.server.port))


@case("No replica can be reached")
async def _(stage: Stage) -> Exception:
    options = {"is_master": False, "fall_back_to_master": False}
    told = Told(stage.server.port, free_port())
    stage.trouble.callback(setattr, told, "ports", (stage.server.port,) * 2)
    retry = Retry(stage.tries, stage.retries)
    pool = stage.pool = SentinelPool("mymaster", told, max_size=3, retry=retry, **options)
    return await stage.fails(pool.client().get("key"))


@case("The master was made a replica")
async def _(stage: Stage) -> Exception:
    told = Told(stage.server.port)
    retry = Retry(stage.tries, stage.retries)
    pool = stage.pool = SentinelPool("mymaster", told, max_size=3, retry=retry)
    stage.trouble.callback(stage.server.run, "REPLICAOF", "NO", "ONE")
    async with pool.connection() as conn:
        stage.server.run("REPLICAOF", "127.0.0.1", free_port())
        await conn.send_command("SET", "key", "value")
        return await stage.fails(conn.read_response())


# ---- TLS -----------------------------------------------------------------------------------------


def tls_front(stage: Stage) -> TlsFront:
    front = TlsFront(stage.server.port)
    stage.after.callback(front.destroy)
    # To be destroyed while the loop stands still, it must have nothing open.
    stage.after.push_async_callback(eventually, lambda: front.open == 0, "all are closed")
    return front


async def distrusts(stage: Stage, front: TlsFront) -> Exception:
    return await stage.no_connection(front.url, ssl_ca_data=front.authority_pem)


@case("The certificate is of an authority that is not trusted")
async def _(stage: Stage) -> Exception:
    front, other = tls_front(stage), tls_front(stage)
    stage.mended = {"ssl_ca_data": front.authority_pem}
    return await stage.no_connection(front.url, ssl_ca_data=other.authority_pem)


@case("The certificate has expired")
async def _(stage: Stage) -> Exception:
    front = tls_front(stage)
    front.present("127.0.0.1", days=-1)
    stage.trouble.callback(front.present, "127.0.0.1")
    return await distrusts(stage, front)


@case("The certificate is for another host")
async def _(stage: Stage) -> Exception:
    front = tls_front(stage)
    front.present("redis.example.org")
    stage.trouble.callback(front.present, "127.0.0.1")
    return await distrusts(stage, front)


@case("The server demands a client certificate")
async def _(stage: Stage) -> Exception:
    front = tls_front(stage)
    front.demand_client_certificates()
    stage.mended = front.client_certificate(stage.folder)
    return await distrusts(stage, front)


@case("The server does not trust the client certificate")
async def _(stage: Stage) -> Exception:
    front, other = tls_front(stage), tls_front(stage)
    front.demand_client_certificates()
    untrusted = other.client_certificate(stage.folder)
    stage.trouble.callback(front.client_certificate, stage.folder)  # in its place
    return await stage.no_connection(front.url, ssl_ca_data=front.authority_pem, **untrusted)


@case("The file with the certificate does not exist")
async def _(stage: Stage) -> Exception:
    front = tls_front(stage)
    file = stage.folder / "ca.pem"
    stage.trouble.callback(file.write_text, front.authority_pem)
    return await stage.no_connection(front.url, ssl_ca_certs=str(file))


@case("The server speaks TLS and the URL does not")
async def _(stage: Stage) -> Exception:
    front = tls_front(stage)
    stage.mended = {"port": stage.server.port}
    return await stage.no_connection(f"redis://127.0.0.1:{front.port}")


# ---- access --------------------------------------------------------------------------------------


@case("The password is wrong")
async def _(stage: Stage) -> Exception:
    stage.mended = {"password": stage.locked_server.password}
    return await stage.no_connection(f"redis://:wrong@127.0.0.1:{stage.locked_server.port}")


@case("There is no password and the server wants one")
async def _(stage: Stage) -> Exception:
    stage.mended = {"password": stage.locked_server.password}
    return await stage.no_connection(stage.locked_server.url)


def alice(stage: Stage, *rules: str) -> dict[str, Any]:
    stage.server.run("ACL", "SETUSER", "alice", "on", ">secret", "~*", *rules)
    stage.after.callback(stage.server.run, "ACL", "DELUSER", "alice")
    return {"username": "alice", "password": "secret"}


@case("The user may not use the command")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, **alice(stage, "+@all", "-get"))
    return await stage.fails(pool.client().get("key"))


@case("The user may not use a command that connecting needs")
async def _(stage: Stage) -> Exception:
    stage.trouble.callback(alice, stage, "+select")
    return await stage.no_connection(stage.server.url, db=1, **alice(stage, "+@all", "-select"))


@case("The database does not exist")
async def _(stage: Stage) -> Exception:
    stage.mended = {"db": 0}
    return await stage.no_connection(stage.server.url, db=99)


# ---- commands ------------------------------------------------------------------------------------


@case("The server is loading its data")
async def _(stage: Stage) -> Exception:
    stage.retries = 0  # else it would have loaded them
    server = stage.after.enter_context(loading_server())
    pool = stage.make(server.url)
    return await stage.fails(pool.client().get("key"))


@case("The server is a read-only replica")
async def _(stage: Stage) -> Exception:
    stage.server.run("REPLICAOF", "127.0.0.1", free_port())
    stage.trouble.callback(stage.server.run, "REPLICAOF", "NO", "ONE")
    pool = stage.make(stage.server.url)
    return await stage.fails(pool.client().set("key", "value"))


@case("The answer does not come in time")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, socket_timeout=0.05)
    await pool.client().ping()
    stage.trouble.enter_context(stage.server.frozen())
    return await stage.fails(pool.client().get("key"))


@case("The connection breaks while a command is under way")
async def _(stage: Stage) -> Exception:
    stage.retries = 0
    pool = stage.make(stage.server.url)
    command = await blocked(stage, pool)
    stage.server.kill_clients()
    return await stage.fails(command)


async def blocked(stage: Stage, pool: RedisPool) -> "asyncio.Task[Any]":
    """Start a command that waits on the server."""
    command = asyncio.create_task(pool.client().blpop(["list"]))
    await eventually(lambda: any("b" in c["flags"] for c in stage.server.clients()), "it waits")
    return command


# ---- the pool ------------------------------------------------------------------------------------


async def busy(stage: Stage, **options: Any) -> RedisPool:
    """A pool all of whose connections are lent until the trouble ends."""
    pool = stage.make(stage.server.url, max_size=10, **options)
    await stage.trouble.enter_async_context(held(pool, 10))
    return pool


@case("All connections are lent and none comes back in time")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage, timeout=TIMEOUT)
    return await stage.fails(pool.client().ping())


@case("The same, with leak_after")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage, timeout=TIMEOUT, leak_after=60)
    return await stage.fails(pool.client().ping())


@case("The connections are lent to tasks that have ended")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10, timeout=TIMEOUT)

    async def take_all() -> None:
        for _ in range(10):
            stage.trouble.push_async_callback(pool.release, await rows(pool))

    await asyncio.create_task(take_all(), name="report")
    return await stage.fails(pool.client().ping())


@case("The event loop was blocked")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage, timeout=TIMEOUT)
    waiting = asyncio.create_task(stage.fails(pool.client().ping()))
    await eventually(lambda: pool.stats().waiting, "one waits")
    time.sleep(TIMEOUT)  # noqa: ASYNC251 - that is what the page is about
    return await waiting


async def embrace(stage: Stage, pool: RedisPool) -> Exception:
    """Have two tasks hold a connection each, and wait for another."""
    both = asyncio.Barrier(2)

    async def nest() -> None:
        async with pool.connection():
            await both.wait()
            async with pool.connection():
                pass

    tasks = [asyncio.create_task(nest(), name=name) for name in ("report", "import")]
    error = await stage.fails(asyncio.gather(*tasks))
    await asyncio.wait(tasks)
    assert sum(task.exception() is not None for task in tasks) == 1, "the other goes on"
    return error


@case("Each connection is held by a task that waits for one")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=2, timeout=60)
    await pool.warm(2)
    return await embrace(stage, pool)


async def others_wait(client: PipelinedRedis, stage: Stage) -> Exception:
    """Have 36 commands wait behind one that fails."""
    first = asyncio.ensure_future(stage.fails(client.get("key")))
    await asyncio.sleep(TIMEOUT / 3)
    others = [asyncio.ensure_future(client.get("key")) for _ in range(36)]
    error = await first
    for other in others:
        other.cancel()
    await asyncio.wait(others)
    return error


@case("All connections are lent and a command can't be sent in time")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage, timeout=TIMEOUT)
    client = pool.pipelined()
    client._sharing = Sharing(scripts=False)
    client._sharing.learn([(b"GET", 2, [b"readonly"])])
    return await others_wait(client, stage)


@case("There is no room on a lane in time")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10, timeout=TIMEOUT)
    client = pool.pipelined(max_in_flight=1)
    await client.ping()
    stuck: list[asyncio.Future[object]] = []
    stage.trouble.push_async_callback(lambda: asyncio.gather(*stuck))  # when it has thawed
    stage.trouble.enter_context(stage.server.frozen())
    stuck.append(asyncio.ensure_future(client.get("key")))
    await eventually(lambda: pool.stats().lent, "a command is under way")
    return await others_wait(client, stage)


@case("The pool's time is over and the server can't be reached")
async def _(stage: Stage) -> Exception:
    stage.mended = {"port": stage.server.port}
    stage.alike.append(
        (r"size=1/10, idle=0, lent=0, opening=1", "size=0/10, idle=0, lent=0, opening=0")
    )
    url = f"redis://127.0.0.1:{free_port()}"
    error = await stage.no_connection(url, max_size=10, timeout=TIMEOUT)
    assert isinstance(error.__cause__, redis.exceptions.ConnectionError)
    return error


@case("The pool's time is over and the server has said nothing")
async def _(stage: Stage) -> Exception:
    stage.trouble.enter_context(stage.server.frozen())
    error = await stage.no_connection(stage.server.url, max_size=10, timeout=TIMEOUT)
    assert error.__cause__ is None
    return error


@case("Too many wait already")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage, max_waiting=1)
    waiting = asyncio.create_task(pool.client().ping())
    stage.trouble.callback(waiting.cancel)
    await eventually(lambda: pool.stats().waiting, "one waits")
    return await stage.fails(pool.client().ping())


@case("A caller would wait for too long")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10, shed=True)
    for _ in range(10):
        async with pool.connection():
            await asyncio.sleep(0.05)  # which is how long a use takes, as far as the pool knows
    await stage.trouble.enter_async_context(held(pool, 10))
    waiting = asyncio.gather(*(pool.acquire(timeout=None) for _ in range(14)))
    stage.trouble.callback(waiting.cancel)
    await eventually(lambda: pool.stats().waiting == 14, "they wait")
    return await stage.fails(pool.acquire(timeout=0.05))


async def view(stage: Stage, **options: Any) -> RedisPool:
    """A view both of whose connections are lent until the trouble ends."""
    view = stage.make(stage.server.url, max_size=10, **options).view(limit=2)
    await stage.trouble.enter_async_context(held(view, 2))
    return view


@case("A view has lent all that it may")
async def _(stage: Stage) -> Exception:
    client = Redis(connection_pool=await view(stage, timeout=TIMEOUT))
    return await stage.fails(client.ping())


@case("Each connection of a view is held by a task that waits for one")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10, timeout=60)
    await pool.warm(2)
    return await embrace(stage, pool.view(limit=2))


@case("Too many wait for a view already")
async def _(stage: Stage) -> Exception:
    pool = await view(stage, max_waiting=1)
    waiting = asyncio.ensure_future(pool.acquire())
    stage.trouble.callback(waiting.cancel)
    await eventually(lambda: pool.stats().waiting, "one waits")
    return await stage.fails(pool.acquire())


@case("The pool is closed")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    await pool.open()
    await pool.aclose()
    return await stage.fails(pool.client().ping())


@case("The pool is closed while a caller waits")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage)
    waiting = asyncio.create_task(pool.client().ping())
    await eventually(lambda: pool.stats().waiting, "one waits")
    closing = asyncio.create_task(pool.aclose(timeout=5))
    error = await stage.fails(waiting)
    await stage.trouble.aclose()
    await closing
    return error


@case("The pool is opened before its closing has ended")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage)
    closing = asyncio.create_task(pool.aclose(timeout=5))
    await asyncio.sleep(0)
    error = await stage.fails(pool.open())
    await stage.trouble.aclose()
    await closing
    return error


@case("The pool is closed while a command is under way")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url)
    command = await blocked(stage, pool)
    await pool.aclose(timeout=0)
    return await stage.fails(command)


@case("A connection is given back twice")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    connection = await pool.acquire()
    await pool.release(connection)
    return await stage.fails(pool.release(connection))


@case("A connection is given to another pool")
async def _(stage: Stage) -> Exception:
    async with RedisPool(stage.server.url) as other, other.connection() as connection:
        pool = stage.make(stage.server.url, max_size=10)
        return await stage.fails(pool.release(connection))


def elsewhere(coroutine: Coroutine[Any, Any, Any]) -> Awaitable[object]:
    """Run it on another event loop, in another thread."""
    return asyncio.to_thread(asyncio.run, coroutine)


@case("The pool is used on two event loops")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    await pool.client().ping()
    return await stage.fails(elsewhere(pool.client().ping()))


@case("A connection is given back on another event loop")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    async with pool.connection() as connection:
        return await stage.fails(elsewhere(pool.release(connection)))


@case("The pool is changed in another thread")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    await pool.client().ping()
    return await stage.fails(asyncio.to_thread(pool.drain))


@case("A block is entered twice")
async def _(stage: Stage) -> Exception:
    block = stage.make(stage.server.url).connection()
    async with block:
        pass
    return await stage.fails(block.__aenter__())


@case("get_available_connection() finds none free")
async def _(stage: Stage) -> Exception:
    pool = await busy(stage)
    return await stage.fails(made(pool.get_available_connection))


# ---- options -------------------------------------------------------------------------------------


class Overriding(RedisPool):
    def make_connection(self) -> Any:
        return Connection()


@case("make_connection() makes another kind")
async def _(stage: Stage) -> Exception:
    return await stage.fails(Overriding().acquire())


SENTINEL = Sentinel([("localhost", 26379)])
MISTAKES: dict[str, Callable[[], object]] = {
    "An option is out of range": lambda: RedisPool(max_size=0),
    "An option is of the wrong type": lambda: RedisPool(timeout="5"),
    "Reclaiming needs leak_after": lambda: RedisPool(reclaim=True),
    "An option does not exist": lambda: RedisPool(maxsize=10),
    "An option of TLS is given without TLS": lambda: RedisPool(ssl_ca_certs="ca.pem"),
    "An option of the pool is in the URL": lambda: RedisPool("redis://localhost?max_size=10"),
    "The size is given twice": lambda: RedisPool(max_connections=20, max_size=10),
    "The retry is of the wrong kind": lambda: RedisPool(retry=3),
    "The connection class is of the wrong kind": lambda: RedisPool(connection_class="TLS"),
    "The URL is not a Redis URL": lambda: RedisPool("localhost:6379"),
    "The URL can't be read": lambda: RedisPool("redis://user:sec/ret@localhost:6379"),
    "A client is told how to connect": lambda: RedisPool().client(decode_responses=True),
    "A pipelined client is to have a connection for itself": lambda: PipelinedRedis(
        RedisPool(), single_connection_client=True
    ),
    "A pipelined client is made of another pool": lambda: PipelinedRedis(ConnectionPool()),
    "There are more lanes than connections": lambda: RedisPool().pipelined(lanes=20),
    "A view is to lend more than the pool has": lambda: RedisPool().view(limit=20),
    "A view is to pipeline": lambda: RedisPool().view(limit=2).pipelined(),
    "A view of a view": lambda: RedisPool().view(limit=2).view(limit=1),
    "What is to listen is no listener": lambda: RedisPool().on(print),
    "The Sentinel is of the wrong kind": lambda: SentinelPool(
        "mymaster", redis.sentinel.Sentinel([("localhost", 26379)])
    ),
    "A SentinelPool is given an address": lambda: SentinelPool(
        "mymaster", SENTINEL, url="redis://localhost"
    ),
    "The connection class does not ask Sentinel": lambda: SentinelPool(
        "mymaster", SENTINEL, connection_class=Connection
    ),
    "A pool is shared for another service": lambda: SENTINEL.master_for(
        "other", connection_pool_class=SentinelPool("mymaster", SENTINEL).shared
    ),
    "A pool is shared with other options": lambda: SENTINEL.master_for(
        "mymaster", connection_pool_class=SentinelPool("mymaster", SENTINEL).shared, db=1
    ),
}


async def made(make: Callable[[], object]) -> object:
    return make()


for heading, mistake in MISTAKES.items():
    case(heading)(lambda stage, mistake=mistake: stage.fails(made(mistake)))


# ---- a cluster -----------------------------------------------------------------------------------


@case("No node of the cluster can be reached")
async def _(stage: Stage) -> Exception:
    port = free_port()
    stage.alike.append((str(port), "7000"))
    return await stage.fails(RedisCluster("127.0.0.1", port).get("key"))


@case("All connections to a node are lent and none comes back in time")
async def _(stage: Stage) -> Exception:
    cluster = await stage.cluster(timeout=TIMEOUT)
    return await stage.fails(cluster.get("key"))


@case("Too many wait at a node already")
async def _(stage: Stage) -> Exception:
    cluster = await stage.cluster(max_waiting=0)
    return await stage.fails(cluster.get("key"))


@case("The cluster's client is closed while a command is to be tried again")
async def _(stage: Stage) -> Exception:
    cluster = await stage.cluster()
    await stage.trouble.aclose()
    task = asyncio.create_task(cluster.blpop(["key"], 0))
    await eventually(lambda: cluster.stats().lent, "it is under way")
    await cluster.aclose()
    return await stage.fails(task)


# ---- seeing inside -------------------------------------------------------------------------------


@case("What an integration needs is not installed")
async def _(stage: Stage) -> Exception:
    with patch.dict(sys.modules), patch.object(sys, "path", []):
        for name in [name for name in sys.modules if name.partition(".")[0] == "starlette"]:
            del sys.modules[name]
        return await stage.fails(made(debug.app))


@case("A pool is instrumented twice")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    provider = NoOpMeterProvider()
    stage.after.callback(otel.instrument(pool, provider))
    return await stage.fails(made(lambda: otel.instrument(pool, provider)))


@case("A pool is registered twice")
async def _(stage: Stage) -> Exception:
    pool = stage.make(stage.server.url, max_size=10)
    registry = CollectorRegistry()
    stage.after.callback(prometheus.register(pool, registry))
    return await stage.fails(made(lambda: prometheus.register(pool, registry)))


@case("What is to be measured is no pool")
async def _(stage: Stage) -> Exception:
    return await stage.fails(made(lambda: prometheus.register(Redis(), CollectorRegistry())))


@case("What is to be shown is no pool")
async def _(stage: Stage) -> Exception:
    return await stage.fails(made(lambda: debug.snapshot(Redis())))


async def serving(pool: RedisPool, path: Path) -> None:
    async with debug.serve(pool, path=path):
        pass


@case("Somebody serves on the socket already")
async def _(stage: Stage) -> Exception:
    pool, path = stage.make(stage.server.url), stage.folder / "pool.sock"
    async with debug.serve(pool, path=path):
        return await stage.fails(serving(pool, path))


@case("Where the socket is to be is something else")
async def _(stage: Stage) -> Exception:
    path = stage.folder / "pool.sock"
    path.touch()
    return await stage.fails(serving(stage.make(stage.server.url), path))


@case("The folder of the socket does not exist")
async def _(stage: Stage) -> Exception:
    path = stage.folder / "not here" / "pool.sock"
    return await stage.fails(serving(stage.make(stage.server.url), path))


@case("The path of the socket is too long")
async def _(stage: Stage) -> Exception:
    return await stage.fails(serving(stage.make(stage.server.url), stage.folder / ("long" * 30)))


# ---- warnings and log lines ----------------------------------------------------------------------


@case("A pool is dropped while it is open")
async def _(stage: Stage) -> Exception:
    def rows() -> RedisPool:
        return RedisPool(stage.server.url, max_size=10)

    def drop() -> None:
        pools.clear()
        gc.collect()

    pools = [rows()]
    stage.alike.append((str(stage.server.port), "6379"))
    await pools[0].warm(1)
    with pytest.warns(ResourceWarning) as warned:
        drop()
    (warning,) = [each for each in warned if "unclosed" not in str(each.message)]
    assert isinstance(warning.message, Exception)
    return warning.message


LOG_CASES: dict[str, Callable[[Stage], Awaitable[object]]] = {}


def log_case(heading: str) -> Callable[[Callable[[Stage], Awaitable[object]]], object]:
    return lambda function: LOG_CASES.setdefault(heading, function)


@log_case("A connection can't be opened")
async def _(stage: Stage) -> None:
    stage.mended = {"port": stage.server.port}
    await stage.no_connection(f"redis://127.0.0.1:{free_port()}", max_size=10)


@log_case("A caller has got none")
async def _(stage: Stage) -> None:
    await stage.fails((await busy(stage)).acquire(timeout=0))


@log_case("Many callers have got none")
async def _(stage: Stage) -> None:
    pool = await busy(stage)
    with patch.object(log, "QUIET_FOR", 0.1):  # not to wait for long
        async with asyncio.timeout(30):
            while not stage.lines or "since" not in stage.lines[-1].message:
                await stage.fails(pool.acquire(timeout=0.01))


@log_case("A connection is missed")
async def _(stage: Stage) -> None:
    pool = stage.make(stage.server.url, max_size=10, leak_after=0.01)
    await stage.trouble.enter_async_context(held(pool, 1))
    await eventually(lambda: stage.lines, "it is missed")


@log_case("A task has ended and left a connection behind")
async def _(stage: Stage) -> None:
    pool = stage.make(stage.server.url, max_size=10, leak_after=60, reclaim=True)

    async def report() -> None:
        await rows(pool)

    await asyncio.create_task(report(), name="report")
    await eventually(lambda: pool.stats().lent == 0, "the pool closes it")
    assert pool.stats().closed == {"reclaimed": 1}


@log_case("The server does not tell its commands")
async def _(stage: Stage) -> None:
    user = alice(stage, "+@all", "-command")
    await stage.make(stage.server.url, max_size=10, **user).pipelined().ping()


@log_case("A listener fails")
async def _(stage: Stage) -> None:
    class Failing(Listener):
        def lent(self, _pool: Any, _conn: Any, _waited: float, /) -> None:
            raise ZeroDivisionError

    pool = stage.make(stage.server.url, max_size=10)
    stage.trouble.callback(pool.on(Failing()))
    await pool.client().ping()


class Provider(StreamingCredentialProvider):
    """Remembers whom to tell of new credentials, and of failures to renew them."""

    on_next_token: Any
    on_failure: Any

    def get_credentials(self) -> tuple[str, str]:
        return "default", "any"

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()

    def on_next(self, callback: Any) -> None:
        self.on_next_token = callback

    def on_error(self, callback: Any) -> None:
        self.on_failure = callback

    def is_streaming(self) -> bool:
        return True


@log_case("Credentials can't be renewed")
async def _(stage: Stage) -> None:
    provider = Provider()
    stage.make(stage.server.url, credential_provider=provider)
    await provider.on_failure(RuntimeError("which may quote a password"))


@log_case("A pool can't take new credentials")
async def _(stage: Stage) -> None:
    provider = Provider()
    await stage.make(stage.server.url, credential_provider=provider).client().ping()
    await elsewhere(provider.on_next_token(SimpleToken("other", -1, -1, {"oid": "default"})))


# ---- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", CASES)
async def test_the_page_says_what_happens(heading: str, stage: Stage):
    entry = ENTRIES[heading]
    if entry.when == "after the retries":
        stage.retries = 1
    error = await CASES[heading](stage)
    message, expected = stage.as_on_the_page(str(error)), smooth(entry.message(stage.version))
    if without_stalls(expected) == expected:
        message = without_stalls(message)
    assert message == expected
    classes = [*map(named, entry.names)]
    assert type(error).__name__ == classes[0].__name__
    for kind in classes:
        assert isinstance(error, kind)
    assert stage.came(entry.when)
    await stage.all_slots_can_be_lent()


@pytest.mark.parametrize("heading", LOG_CASES)
async def test_the_page_says_what_is_logged(heading: str, stage: Stage):
    entry = LOG_ENTRIES[heading]
    stage.retries = 0
    await LOG_CASES[heading](stage)
    line = stage.lines[-1]
    message = without_stalls(stage.as_on_the_page(line.message))
    assert message == smooth(entry.message(stage.version))
    assert [line.levelname] == entry.names
    assert bool(line.exc_info) == ("traceback" in entry.when)
    await stage.all_slots_can_be_lent()


def test_the_page_has_every_line_that_may_be_logged():
    """But for those that are written where the level is chosen."""
    templates = {
        call.args[0].value
        for file in (Path(aiopool.__file__).parent).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        and re.fullmatch(r"logger\.(warning|error|exception|critical)", ast.unparse(call.func))
        and isinstance(call.args[0], ast.Constant)
    }
    assert len(templates) > 5
    for template in templates:
        pattern = re.sub(r"%(?:[rsd]|\.\df)", ".*", template)
        assert re.search(pattern, PROSE), template


def test_the_page_knows_how_often_errors_are_logged():
    assert set(re.findall(r"first in (\d+) s", PROSE)) == {f"{log.QUIET_FOR:g}"}


async def test_the_page_shows_what_an_error_reports(stage: Stage):
    pool = stage.make(stage.server.url, max_size=2, leak_after=60, timeout=TIMEOUT)
    await stage.trouble.enter_async_context(held(pool, 1))
    await stage.trouble.enter_async_context(held(pool, 1, "report for Ann"))
    error = await stage.fails(pool.client().ping())
    assert isinstance(error, PoolTimeout)
    (shown,) = re.findall(r"```text\n(PoolTimeout: .+?)\n```", PAGE, re.DOTALL)
    assert without_stalls(stage.as_on_the_page(error.report())) == smooth(shown)
    assert (error.stats.lent, error.stats.waiting) == (2, 0)
    assert [holder.task for holder in error.holders] == ["report", "report for Ann"]
    assert 0 <= error.blocked <= error.waited
    assert error.waited > TIMEOUT - 0.01  # uvloop's clock is coarse
    await stage.all_slots_can_be_lent()


@pytest.mark.asyncio(loop_factories=["asyncio"])  # once is long enough
async def test_by_default_a_refused_connect_is_told_when_the_page_says(stage: Stage):
    (said,) = re.findall(
        r"(\d+) by default. Refused connects are tried again for ([\d.]+) to ([\d.]+) s", PROSE
    )
    attempts, least, most = map(float, said)
    stage.mended = {"port": stage.server.port}
    await stage.no_connection(f"redis://127.0.0.1:{free_port()}", retry=None, timeout=30)
    assert stage.pool
    assert stage.pool.stats().open_failed == attempts
    assert least <= stage.took < most + 3
    await stage.all_slots_can_be_lent()


def test_the_page_knows_the_defaults():
    connection = RedisPool().make_connection()
    for option in ("socket_timeout", "socket_connect_timeout"):
        (said,) = set(re.findall(rf"`{option}`, ([\d.]+) s by default", PROSE))
        assert getattr(connection, option) == float(said)
    (said,) = re.findall(r"`timeout` is over, that of the pool \(([\d.]+) s by default\)", PROSE)
    assert RedisPool()._core._limits.timeout == float(said)


def test_the_page_has_these_cases_in_this_order():
    assert list(ENTRIES) == list(CASES)
    assert list(LOG_ENTRIES) == list(LOG_CASES)


def test_the_table_says_which_of_the_pools_errors_each_class_catches():
    rows = re.findall(r"^\| `(.+)` \|.*\| (.*) \|$", PAGE, re.MULTILINE)
    said = {catch: set(re.findall(r"`(\w+)`", caught)) for catch, caught in rows}
    assert len(said) == 7
    policy = RedisPool()._core._policy
    own = [
        policy.timeout_error,
        policy.deadlock_error,
        policy.rejected_error,
        policy.closed_error,
    ]
    assert said == {
        catch: {
            error.__name__
            for error in [*own, aiopool.NotLent, aiopool.WrongLoop]
            if issubclass(error, named(catch))
        }
        for catch in said
    }
