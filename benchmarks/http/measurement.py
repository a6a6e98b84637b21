"""The method: the services of all contenders run side by side, and take turns under the load."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, Self

from redis import Redis

from aiopool._cli._redis_server import redis_server
from benchmarks.measure import percentiles, rotated
from benchmarks.proxy import delaying_proxy
from benchmarks.run import commit, machine, versions

from .client import DEADLINE, at_random, in_turn, until_at_rest
from .contenders import ALL, OURS, Contender
from .server import Server, serving

PACKAGES = ["aiopool", "redis", "hiredis", "fastapi", "starlette", "uvicorn", "uvloop", "httptools"]
OVERLOAD = 2.0
# Seconds that a command may wait for a connection: nothing that clients who wait would come to; and, as a
# request sends two, so much that they have waited for half of their time at most.
PATIENT, HURRIED = 5.0, DEADLINE / 4
_WARM_UP = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is, and what is measured there."""

    name: str
    away: float
    """Seconds by which its replies are late."""
    clients: Sequence[int]
    """How many wait for their answers, by turns."""
    overload: bool
    """Whether to have more requests than can be served as well: only where connections are what there is too
    little of. Else it is the event loop, and a request has waited for longer than it may before a pool hears of it."""


PLACES = (
    Place("Redis on the same machine", 0.0, (10, 100), overload=False),
    Place("Redis 20 ms away", 0.02, (100,), overload=True),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a contender did in a turn. All durations are seconds."""

    place: str
    clients: int
    """So many waited for each answer; 0 if requests came at random."""
    offered: float
    """So many of these came each second, whatever became of them."""
    contender: str
    seconds: float
    """How long it lasted, without the warm-up."""
    served: int
    refused: int
    late: int
    failed: int
    times: dict[str, float]
    """How long those took that were served: by percentile, as `50`, `99`, `100`."""
    refusals: dict[str, float]
    """How long it took until others were refused: likewise."""
    client_busy: float
    """The part of the time for which the process that asks used a core."""
    server_busy: float
    """Likewise that which serves; 0 if the system does not tell."""

    @property
    def rate(self) -> float:
        """How many were served each second."""
        return self.served / self.seconds

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.served + self.refused + self.late + self.failed


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is to be done."""

    rounds: int
    seconds: float
    """That count in a turn."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Results:
    """All that one call of the command has measured, and on what."""

    command: str
    made: str
    """When it began: ISO 8601, UTC."""
    commit: str | None
    versions: dict[str, str]
    machine: dict[str, str]
    turns: list[Turn]

    def save(self, path: Path) -> None:
        """Write the file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save()` wrote."""
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(turns=[Turn(**turn) for turn in data.pop("turns")], **data)


def measure(effort: Effort, command: str, tell: Callable[[str], None]) -> Results:
    """Measure everything, and tell what is being measured.

    Raises:
        NoRedisServer: There is none here.
        CannotRun: A service has failed.

    """
    made, measured, where = datetime.now(UTC).isoformat(timespec="seconds"), commit(), machine()
    turns: list[Turn] = []
    with redis_server() as url, asyncio.Runner(loop_factory=_new_loop()) as runner:
        _store(url)
        installed = versions(url, PACKAGES)
        for place in PLACES:
            with delaying_proxy(url, 0.0, place.away) as proxy:
                study = _Study(place, proxy.url if place.away else url, effort, tell)
                turns += runner.run(study.all())
    return Results(command, made, measured, installed, where, turns)


def _store(url: str) -> None:
    """Put into the cache what is asked for, for ever: the origin is never asked."""
    redis: Any = Redis
    with redis.from_url(url) as client:
        client.set("cache:tea", json.dumps({"name": "tea", "length": 3}))


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Have the asking process use as little of the machine as it can."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - it need not be installed
    except ModuleNotFoundError:
        return None
    return new_event_loop


@dataclass(frozen=True, slots=True)
class _Study:
    """All turns at one place."""

    place: Place
    url: str
    effort: Effort
    tell: Callable[[str], None]

    async def all(self) -> list[Turn]:
        turns: list[Turn] = []
        async with self._services(PATIENT) as servers:
            for clients in self.place.clients:
                turns += await self._rounds(servers, clients=clients, offered=0.0)
        if self.place.overload:
            served = median(turn.rate for turn in turns if turn.contender == OURS.name)
            async with self._services(HURRIED) as servers:
                turns += await self._rounds(servers, clients=0, offered=OVERLOAD * served)
        return turns

    @asynccontextmanager
    async def _services(self, timeout: float) -> AsyncGenerator[Mapping[Contender, Server]]:
        with ExitStack() as stack:
            servers = {
                contender: stack.enter_context(serving(contender, self.url, timeout))
                for contender in ALL
                if contender.always or timeout == HURRIED
            }
            for server in servers.values():
                await until_at_rest(server.address)
            yield servers
            for server in servers.values():
                server.stop()  # all at once; each is waited for when its block ends

    async def _rounds(
        self, servers: Mapping[Contender, Server], *, clients: int, offered: float
    ) -> list[Turn]:
        load = f"{clients} clients" if clients else f"{offered:,.0f} requests/s"
        self.tell(f"{self.place.name}, {load}")
        return [
            await self._turn(contender, servers[contender], clients, offered, number)
            for number in range(self.effort.rounds)
            for contender in rotated(list(servers), number)
        ]

    async def _turn(
        self, contender: Contender, server: Server, clients: int, offered: float, number: int
    ) -> Turn:
        marks: list[tuple[float, float, float]] = []
        mark = partial(_mark, marks, server)
        if clients:
            tally = await in_turn(server.address, clients, _WARM_UP, self.effort.seconds, mark)
        else:
            # All contenders get the same requests in a round. After a deadline's time the line is as it stays.
            draw = random.Random(self.effort.seed + number)  # noqa: S311 - it shall repeat
            warm_up = min(DEADLINE, self.effort.seconds)
            tally = await at_random(
                server.address, offered, warm_up, self.effort.seconds, mark, draw
            )
        lasted, asking, serving = (end - begin for begin, end in zip(*marks, strict=True))
        turn = Turn(
            place=self.place.name,
            clients=clients,
            offered=offered,
            contender=contender.name,
            seconds=self.effort.seconds,
            served=len(tally.served),
            refused=len(tally.refused),
            late=tally.requests - len(tally.served) - len(tally.refused) - tally.failed,
            failed=tally.failed,
            times=percentiles(tally.served),
            refusals=percentiles(tally.refused),
            client_busy=asking / lasted,
            server_busy=serving / lasted,
        )
        await until_at_rest(server.address)
        return turn


def _mark(marks: list[tuple[float, float, float]], server: Server) -> None:
    marks.append((perf_counter(), process_time(), server.busy()))
