"""A cluster in trouble under load, and what its users have of it: for any of three clients.

`python tests/redis/cluster_load.py --trouble kill-master --client aiopool` goes through one trouble and
prints a row for each run. (`--client redis-py` is redis-py's own `RedisCluster`, with the same keywords.)

Each task writes tokens that no other has, under keys that are written once. So every reply is known:
another one belongs to somebody else. Only nothing may come in the place of a token that was written: if
a replica has replaced a master that was killed, what the master had acknowledged and not passed on yet is
gone. (Redis replicates after it has answered.) How much that is, is counted.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, NamedTuple, Self

from fleets import HOST, SLOTS, ClusterFleet, is_users, slot_of
from redis.asyncio import RedisCluster as TheirCluster
from redis.asyncio.cluster import ClusterNode
from redis.cluster import LoadBalancingStrategy
from redis.exceptions import ResponseError
from servers import Server, eventually

from aiopool import RedisCluster

SIZE = 8  # connections to each node
TASKS = 300
TAGS = [f"{{{number}}}" for number in range(24)]  # all keys are in the slots of these
REST = 0.1  # seconds, the longest that a task does something else between two requests
CANCELLED = 1 / 3  # of all requests, half of them twice
CANCELLED_WITHIN = 0.01  # which is about as long as a request takes
PATIENCE = 20.0  # more than a request may take
RECOVERY = 15.0  # longer is not waited for what should have come within a second or two
FIRST, SECOND, THIRD = 0, 8000, 16000  # a slot of each shard

Client = RedisCluster | TheirCluster

# ---- load ----------------------------------------------------------------------------------------


class Request(NamedTuple):
    kind: str
    slot: int | None  # None: several
    begun: float
    ended: float
    error: Exception | None


class Load:
    """Tasks that use a cluster all the time, of whose requests some are cancelled."""

    def __init__(
        self, client: Client, tasks: int = TASKS, *, cancelled: float = CANCELLED, seed: int = 0
    ) -> None:
        self.client: Any = client
        self.requests: list[Request] = []
        self.wrong: list[str] = []
        self.cancelled = 0
        self.swallowed: list[str] = []  # requests that went on after a cancellation
        self.stuck = 0  # tasks whose last request did not end
        self.acknowledged: dict[str, bytes] = {}  # tokens by their keys
        self.began = 0
        self._share = cancelled
        self._random = Random(seed)
        self._over = False
        self._number = tasks
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._work(number), name=f"user-{number}")
            for number in range(self._number)
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._over = True
        ended, stuck = await asyncio.wait(self._tasks, timeout=PATIENCE)
        self.stuck = len(stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        for task in ended:
            task.result()

    async def _work(self, number: int) -> None:
        kinds = [self._write, self._script, self._transaction, self._pipeline, self._many]
        for turn in count():
            if self._over:
                break
            # A client's keys begin with its id(), since there may be two of them at a time.
            ask, tag = kinds[turn % len(kinds)], self._random.choice(TAGS)
            key = f"{tag}:{id(self):x}.{number}.{turn}"
            request = asyncio.create_task(ask(key, f"token of {key}".encode()))
            try:
                await self._see(request, ask.__name__.strip("_"), slot_of(tag))
            finally:
                request.cancel()
            await asyncio.sleep(self._random.uniform(0, REST))

    async def _see(self, request: "asyncio.Task[None]", kind: str, slot: int) -> None:
        """Wait for a request, perhaps cancel it, and note what has become of it."""
        began = time.monotonic()
        self.began += 1
        effects: list[bool] = []
        if self._random.random() < self._share:
            self._cancel_later(request, effects)
        await asyncio.wait([request])
        if request.cancelled():
            self.cancelled += 1
            return
        error = request.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        if any(effects):
            self.swallowed.append(f"{kind}: {error!r}")
        place = None if kind == "pipeline" else slot
        self.requests.append(Request(kind, place, began, time.monotonic(), error))

    def _cancel_later(self, request: "asyncio.Task[None]", effects: list[bool]) -> None:
        def cancel() -> None:
            effects.append(request.cancel())

        loop = asyncio.get_running_loop()
        delay = self._random.uniform(0, CANCELLED_WITHIN)
        loop.call_later(delay, cancel)
        if self._random.random() < 0.5:
            loop.call_later(delay + self._random.choice([0, 0.001]), request.cancel)

    # ---- requests ----------------------------------------------------------------------------

    def _expect(self, reply: Any, expected: list[Any], *, lossy: bool = True) -> None:
        """Compare; a token that was written may be gone, but for `lossy`."""
        for got, wanted in zip(reply, expected, strict=True):
            if got != wanted and not (lossy and got is None and isinstance(wanted, bytes)):
                self.wrong.append(f"{reply!r} instead of {expected!r}")
                break

    async def _write(self, key: str, token: bytes) -> None:
        self._expect([await self.client.set(key, token)], [True])
        self.acknowledged[key] = token
        self._expect([await self.client.get(key)], [token])

    async def _script(self, key: str, token: bytes) -> None:
        reply = await self.client.eval("return {KEYS[1], ARGV[1]}", 1, key, token)
        self._expect(reply, [key.encode(), token], lossy=False)

    async def _transaction(self, key: str, token: bytes) -> None:
        async with self.client.pipeline(transaction=True) as pipe:
            reply = await pipe.set(key, token).get(key).strlen(key).execute()
        self._expect(reply, [True, token, len(token)], lossy=False)
        self.acknowledged[key] = token

    async def _pipeline(self, key: str, token: bytes) -> None:
        keys = [f"{tag}-{key}" for tag in self._random.sample(TAGS, 3)]
        pipe = self.client.pipeline()
        for each in keys:
            pipe.set(each, token + each.encode()).get(each)
        reply = await pipe.execute()
        self._expect(reply, [part for each in keys for part in (True, token + each.encode())])
        self.acknowledged |= {each: token + each.encode() for each in keys}

    async def _many(self, key: str, token: bytes) -> None:
        both = {f"{key}:a": token + b"a", f"{key}:b": token + b"b"}
        self._expect([await self.client.mset(both)], [True])
        self.acknowledged |= both
        self._expect(await self.client.mget(*both), [*both.values()])

    # ---- what came of it ---------------------------------------------------------------------

    def all_well_since(self, moment: float) -> bool:
        """Whether of each slot some request that began later has succeeded."""
        well = {r.slot for r in reversed(self.requests) if r.begun > moment and r.error is None}
        return well >= {slot_of(tag) for tag in TAGS}

    def first_success(self, moment: float, slots: Iterable[int]) -> float | None:
        """Say when the first succeeded that had begun later, after the moment; None: none has."""
        slots = set(slots)
        ended = [
            r.ended - moment
            for r in self.requests
            if r.slot in slots and r.begun > moment and r.error is None
        ]
        return min(ended, default=None)


def gone(fleet: ClusterFleet, acknowledged: dict[str, bytes]) -> list[str]:
    """Find what was acknowledged and is not there; at the masters, past the client."""
    owners = {slot: node for node in fleet.masters() for slot in fleet._own_views()[node].slots}
    by_slot: dict[int, list[str]] = {}
    for key in acknowledged:
        by_slot.setdefault(slot_of(key), []).append(key)
    lost = []
    for slot, keys in by_slot.items():
        values = owners[slot].run("MGET", *keys)
        for key, value in zip(keys, values, strict=True):
            if value is None:
                lost.append(key)
            else:
                assert value.encode() == acknowledged[key], f"{key} is {value}"
    return lost


async def lendable(node: Any, within: float = 5.0) -> int:
    """Lend as many connections to a node at once as there may be, and say how many answer."""

    async def lend(number: int) -> bool:
        conn = await node.pool.acquire(timeout=within)
        lent.append(conn)
        await all_lent.wait()
        await conn.send_command("PING", str(number))
        return await conn.read_response() == str(number).encode()

    lent: list[Any] = []
    all_lent = asyncio.Barrier(node.pool.max_connections)
    tasks = [asyncio.create_task(lend(number)) for number in range(node.pool.max_connections)]
    try:
        ended, late = await asyncio.wait(tasks, timeout=within + 1)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sum(task in ended and not task.exception() and task.result() for task in tasks)
    finally:
        for conn in lent:
            await node.pool.release(conn)


async def lost_slots(client: Client, fleet: ClusterFleet) -> int:
    """Count places for connections that nobody uses and nobody gets any more."""
    if not isinstance(client, RedisCluster):
        nodes: list[Any] = client.get_nodes()
        return sum(len(node._connections) - len(node._free) for node in nodes)

    def busy() -> bool:
        stats = client.stats()
        return bool(stats.lent or stats.waiting or stats.opening or stats.checking)

    await eventually(lambda: not busy(), lambda: f"nothing is under way: {client!r}")

    nodes = client.get_nodes()
    lent = await asyncio.gather(*map(lendable, nodes))

    def servers_agree() -> bool:
        ours = {name: stats.size for name, stats in client.node_stats().items() if stats.size}
        name = client.connection_kwargs["client_name"]
        theirs = Counter(
            f"{HOST}:{port}"
            for port, their in fleet.clients().items()
            for each in their
            if each["name"] == name
        )
        return ours == theirs

    await eventually(servers_agree, "the servers know of as many connections as the pools")
    return sum(node.pool.max_connections for node in nodes) - sum(lent)


# ---- troubles ------------------------------------------------------------------------------------


@dataclass
class Scene:
    """Where a trouble happens; it says what it has hit, and when."""

    fleet: ClusterFleet
    loads: Sequence[Load]
    moment: float = field(default_factory=time.monotonic)
    hit: frozenset[int] = frozenset(range(SLOTS))
    replaced: float | None = None  # seconds until a replica had taken over

    def strike(self, server: Server) -> None:
        """Note that this one is about to be hit."""
        self.hit = frozenset(self.fleet._own_views()[server].slots)
        self.moment = time.monotonic()

    async def settle(self, replica: Server) -> None:
        """Wait until this one has become master, and all know it."""
        await eventually(lambda: replica in self.fleet.masters(), "there is a new master")
        self.replaced = time.monotonic() - self.moment
        await blocking(self.fleet.wait_until_ok)


Trouble = Callable[[Scene], Awaitable[None]]
# With names that a command line takes.
TROUBLES: dict[str, Trouble] = {}


def trouble(happen: Trouble) -> Trouble:
    TROUBLES[happen.__name__.replace("_", "-")] = happen
    return happen


async def blocking(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Let the load go on meanwhile."""
    return await asyncio.to_thread(function, *args, **kwargs)


@trouble
async def kill_master(scene: Scene) -> None:
    """A master is killed, its replica replaces it, and it comes back as a replica."""
    master = scene.fleet.master_of(FIRST)
    replica = scene.fleet.replica_of(master)
    scene.strike(master)
    master.kill()
    await scene.settle(replica)
    await blocking(master.start)
    await blocking(scene.fleet.wait_until_ok)


@trouble
async def failover(scene: Scene) -> None:
    """CLUSTER FAILOVER: a master and its replica change their roles in an orderly way."""
    master = scene.fleet.master_of(THIRD)
    scene.strike(master)
    await blocking(scene.fleet.failover, scene.fleet.replica_of(master))


@trouble
async def hang(scene: Scene) -> None:
    """A master hangs until its replica has replaced it, and finds itself a replica then."""
    master = scene.fleet.master_of(SECOND)
    replica = scene.fleet.replica_of(master)
    scene.strike(master)
    with master.frozen():
        await scene.settle(replica)
    await blocking(scene.fleet.wait_until_ok)


def some_slots(fleet: ClusterFleet, master: Server) -> list[int]:
    """Choose some of its slots that are under load."""
    return sorted(fleet._own_views()[master].slots & {slot_of(tag) for tag in TAGS})[:4]


HALFWAY = 0.15  # seconds; who is told to try again (TRYAGAIN) does so for about 0.4


async def move(scene: Scene, slots: Sequence[int], target: Server) -> None:
    """Move slots with their keys, and let the load find them halfway."""
    fleet = scene.fleet
    for slot in slots:
        fleet.begin_migration(slot, target)
    for slot in slots:
        source = fleet.master_of(slot)
        if keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, 100_000):
            some = keys[::2]
            source.run("MIGRATE", HOST, target.port, "", 0, 5000, "REPLACE", "KEYS", *some)
    # Besides what the load asks just now: of each slot what is sent on (ASK) and refused there (TRYAGAIN).
    asked = [
        asyncio.create_task(load._many(f"{tag}:{id(load):x}.to.{target.port}", tag.encode()))
        for load in scene.loads
        for tag in TAGS
        if slot_of(tag) in slots
    ]
    await asyncio.sleep(HALFWAY)
    for slot in slots:
        await blocking(fleet.move_keys, slot)
        with contextlib.suppress(ResponseError):  # who has lost the last slot is no master any more
            fleet._hand_over(slot, target)
    await asyncio.gather(*asked)
    await blocking(fleet.wait_until_ok)


@trouble
async def migrate(scene: Scene) -> None:
    """Slots move to another master and back."""
    fleet = scene.fleet
    source, target = fleet.master_of(FIRST), fleet.master_of(SECOND)
    slots = some_slots(fleet, source)
    await move(scene, slots, target)
    await move(scene, slots, source)


@trouble
async def migrate_to_newcomer(scene: Scene) -> None:
    """Slots move to a master that had none, so that it is not in CLUSTER SLOTS yet, and back."""
    fleet = scene.fleet
    source = fleet.master_of(FIRST)
    newcomer = fleet.replica_of(source)
    newcomer.run("CLUSTER", "RESET", "SOFT")
    newcomer.run("CLUSTER", "MEET", HOST, source.port)
    await blocking(fleet.wait_until_ok)
    slots = some_slots(fleet, source)
    await move(scene, slots, newcomer)
    await move(scene, slots, source)
    newcomer.run("CLUSTER", "REPLICATE", fleet._id(source))
    await blocking(fleet.wait_until_ok)


@trouble
async def kill_replica(scene: Scene) -> None:
    """A replica is killed and comes back."""
    replica = scene.fleet.replica_of(scene.fleet.master_of(FIRST))
    scene.moment = time.monotonic()
    replica.kill()
    await asyncio.sleep(0.3)
    await blocking(replica.start)
    await blocking(scene.fleet.wait_until_ok)


@trouble
async def restart_all(scene: Scene) -> None:
    """All nodes are killed and started again, with nothing in them."""
    scene.moment = time.monotonic()
    for node in scene.fleet.nodes:
        node.kill()
    await blocking(scene.fleet._launch, scene.fleet.nodes)
    await blocking(scene.fleet.wait_until_ok)


FEWER = 4  # connections


@trouble
async def maxclients(scene: Scene) -> None:
    """A master has closed all connections, and takes fewer from now on than it is asked for."""
    master = scene.fleet.master_of(FIRST)
    before = master.run("CONFIG", "GET", "maxclients")[1]
    scene.strike(master)
    users = len([*filter(is_users, master.clients())])
    seen = master.run("INFO", "clients")
    others = seen["connected_clients"] - users + seen["cluster_connections"]
    master.run("CONFIG", "SET", "maxclients", others + FEWER)
    try:
        master.run("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.5)
    finally:
        master.run("CONFIG", "SET", "maxclients", before)


@trouble
async def kill_clients(scene: Scene) -> None:
    """Single connections are closed by the servers, one after another."""
    dice = Random(0)
    masters = scene.fleet.masters()
    scene.moment = time.monotonic()
    for _ in range(40):
        node = dice.choice(masters)
        if clients := [*filter(is_users, node.clients())]:
            node.run("CLIENT", "KILL", "ID", dice.choice(clients)["id"])  # 0 if it is gone by now
        await asyncio.sleep(0.01)


@trouble
async def refresh(scene: Scene) -> None:
    """The topology is read anew again and again, without a reason."""
    scene.moment = time.monotonic()
    for _ in range(15):
        await asyncio.gather(*(load.client.nodes_manager.initialize() for load in scene.loads))
        await asyncio.sleep(0.02)


@trouble
async def close(scene: Scene) -> None:
    """The client is closed, and goes on to be used."""
    scene.moment = time.monotonic()
    for _ in range(3):
        await asyncio.gather(*(load.client.aclose() for load in scene.loads))
        await asyncio.sleep(0.1)


# ---- what came of it -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What the users of one client saw of a trouble."""

    requests: int
    right: int
    wrong: list[str]
    cancelled: int
    swallowed: list[str]
    stuck: int
    errors: Counter[str]
    lost_slots: int
    replaced: float | None  # seconds until another was master
    first_success: float | None  # seconds after the trouble had begun, where it was
    acknowledged: int
    gone: int
    examples: dict[str, Exception] = field(repr=False)

    def row(self) -> dict[str, Any]:
        """Give the figures by the names of their columns."""
        return {
            "requests": self.requests,
            "right": self.right,
            "wrong": len(self.wrong),
            "cancelled": self.cancelled,
            "not so": len(self.swallowed),
            "stuck": self.stuck,
            "lost slots": self.lost_slots,
            "replaced s": self.replaced,
            "first ok s": self.first_success,
            "written": self.acknowledged,
            "of it gone": self.gone,
            "errors": dict(self.errors),
        }


def make_client(kind: str, fleet: ClusterFleet, **keywords: Any) -> Client:
    """Make a client of any kind. redis-py's has as many connections as it likes, since it doesn't wait."""
    nodes = [ClusterNode(HOST, node.port) for node in fleet.nodes[:2]]
    patience = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
    keywords = {"client_name": kind, **patience} | keywords
    if kind == "redis-py":
        return TheirCluster(startup_nodes=nodes, **keywords)
    keywords = {"max_size": SIZE, "timeout": 10.0} | keywords
    if kind == "aiopool-lanes":
        keywords["lanes"] = min(2, keywords["max_size"])
    return RedisCluster(startup_nodes=nodes, **keywords)


KINDS = ("aiopool", "aiopool-lanes", "redis-py")


async def suffer(happen: Trouble, fleet: ClusterFleet, loads: Sequence[Load]) -> list[Report]:
    """Go through a trouble under load."""
    async with contextlib.AsyncExitStack() as stack:
        for load in loads:
            await stack.enter_async_context(load)
        first = time.monotonic()
        await _all_well(loads, first)
        scene = Scene(fleet, loads)
        await happen(scene)
        await _all_well(loads, time.monotonic())
    return [await _report(scene, load) for load in loads]


async def _all_well(loads: Sequence[Load], since: float) -> None:
    await eventually(
        lambda: all(load.all_well_since(since) for load in loads),
        lambda: f"all goes well again: {[load.requests[-3:] for load in loads]}",
        RECOVERY,
    )


async def _report(scene: Scene, load: Load) -> Report:
    errors = [request.error for request in load.requests if request.error is not None]
    return Report(
        requests=load.began,
        right=len(load.requests) - len(errors) - len(load.wrong),
        wrong=load.wrong,
        cancelled=load.cancelled,
        swallowed=load.swallowed,
        stuck=load.stuck,
        errors=Counter(type(error).__name__ for error in errors),
        lost_slots=await lost_slots(load.client, scene.fleet),
        replaced=scene.replaced,
        first_success=load.first_success(scene.moment, scene.hit),
        acknowledged=len(load.acknowledged),
        gone=len(await blocking(gone, scene.fleet, load.acknowledged)),
        examples={type(error).__name__: error for error in errors},
    )


# ---- the table -----------------------------------------------------------------------------------


def connects_of_this_process() -> Callable[[], int]:
    """Count what an event loop connects from now on, whichever client it is for."""
    total = 0

    def hear(event: str, args: tuple[Any, ...]) -> None:
        nonlocal total
        total += event == "socket.connect" and args[0].gettimeout() == 0  # those of admins block

    sys.addaudithook(hear)
    return lambda: total


def shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{number} {name}" for name, number in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.2f}"
    return "never" if value is None else str(value)


def in_columns(first: str, cells: Iterable[str]) -> str:
    *narrow, last = cells
    return f"{first:<20}" + "".join(f"{cell:>12}" for cell in narrow) + f"  {last}\n"


async def _run(name: str, kind: str, tasks: int, seed: int, cancelled: float) -> Report:
    fleet = await blocking(ClusterFleet)
    try:
        in_turn = {"load_balancing_strategy": LoadBalancingStrategy.ROUND_ROBIN}
        replicas = in_turn if name == "kill-replica" else {}
        async with make_client(kind, fleet, **replicas) as client:
            load = Load(client, tasks, cancelled=cancelled, seed=seed)
            [report] = await suffer(TROUBLES[name], fleet, [load])
            return report
    finally:
        fleet.destroy()


def main() -> None:
    """Go through all troubles, or one, and print what came of each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--client", choices=KINDS, default="aiopool")
    parser.add_argument("--trouble", choices=TROUBLES)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--cancelled", type=float, default=CANCELLED, help="share of all requests")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1, help="each with the next seed")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    connects = connects_of_this_process()
    first = True
    for name in [args.trouble] if args.trouble else TROUBLES:
        for seed in range(args.seed, args.seed + args.runs):
            before = connects()
            report = asyncio.run(_run(name, args.client, args.tasks, seed, args.cancelled))
            row = {"connects": connects() - before, **report.row()}
            if args.json:
                line = {"client": args.client, "trouble": name, "seed": seed, **row}
                sys.stdout.write(json.dumps(line) + "\n")
            else:
                if first:
                    sys.stdout.write(in_columns(args.client, row))
                sys.stdout.write(in_columns(name, map(shown, row.values())))
            first = False
            sys.stdout.flush()


if __name__ == "__main__":
    main()
