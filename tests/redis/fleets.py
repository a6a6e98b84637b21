"""Fleets of real servers: a Redis Cluster, and servers that Sentinels watch."""

import contextlib
import math
import random
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from redis.crc import key_slot
from servers import PortTakenError, Server, version, wait_blocking

from aiopool import RedisCluster

HOST = "127.0.0.1"
SETTLE_LIMIT = 30.0
SLOTS = 16384
THIRDS = (range(5461), range(5461, 10923), range(10923, SLOTS))


def lasting_port() -> int:
    """Find a free port that is still free after its server was down for a while.

    So it lies below those that outgoing connections get (from 32768 on). The bus of a cluster, 10000
    further, does so too: Redis before 7.0 can not be told another.
    """
    while True:
        port = random.Random().randrange(10_000, 20_000)  # a test may have seeded the module's own
        with (
            contextlib.suppress(OSError),
            socket.create_server((HOST, port)),
            socket.create_server((HOST, port + 10_000)),
        ):
            return port


def slot_of(key: str | bytes) -> int:
    return key_slot(key.encode() if isinstance(key, str) else key)


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """Read a reply of Sentinel: name, value, name, value."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def is_users(client: dict[str, str]) -> bool:
    """Tell apart those who connect to use a server from those who run the fleet."""
    return not (
        client["name"].startswith("sentinel-")
        or set(client["flags"]) & {"M", "S"}  # a link between master and replica
        or client["cmd"] in {"replconf", "psync"}  # one that is going to be
        or client["cmd"] == "restore-asking"  # MIGRATE keeps its connection for the next one
    )


def lose_a_node(client: RedisCluster) -> str:
    """Have a client believe that the cluster has lost a node that it has used; gives its name."""
    nodes = client.nodes_manager
    lost = nodes.pools()[0].name
    there = {name: node for name, node in nodes.nodes_cache.items() if name != lost}
    nodes.set_nodes(nodes.nodes_cache, there, remove_old=True)
    nodes.set_nodes(nodes.startup_nodes, there, remove_old=True)
    nodes._forget()
    return lost


class Fleet:
    """Several servers that are started, looked at and ended together."""

    def __init__(self) -> None:
        self._all: list[Server] = []
        try:
            while not self._all:
                try:
                    self._set_up()
                except PortTakenError:  # since it was found free
                    self.destroy()
        except BaseException:  # also pytest's
            self.destroy()
            raise

    def _set_up(self) -> None:
        """Start everyone and make a fleet of them."""
        raise NotImplementedError

    def trouble(self) -> str:
        """Say what is not as it should be among those that are awake, if anything."""
        raise NotImplementedError

    @staticmethod
    def _launch(servers: Iterable[Server]) -> None:
        servers = list(servers)
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_until_up()

    def server_at(self, port: int) -> Server:
        return next(server for server in self._all if server.port == port)

    def wait_until_ok(self) -> None:
        """Wait until all that are awake agree, lack nothing and the replicas are in sync."""
        wait_blocking(lambda: not self.trouble(), self.trouble, SETTLE_LIMIT)

    def clients(self) -> dict[int, list[dict[str, str]]]:
        """Who is connected to each port, without admins and those who run the fleet."""
        return {
            server.port: list(filter(is_users, server.clients()))
            for server in self._all
            if server.awake
        }

    def destroy(self) -> None:
        """End everyone and clean up."""
        for server in self._all:
            server.kill()  # politely, a master would wait for its replicas
            server.destroy()
        self._all = []

    @staticmethod
    def _flush(master: Server) -> None:
        master.run("FLUSHALL")
        replicas = master.run("INFO", "replication")["connected_slaves"]
        master.run("WAIT", replicas, 5000)


def _replicates(server: Server, port: int) -> bool:
    seen = server.run("INFO", "replication")
    return (
        seen["role"] == "slave"
        and seen["master_port"] == port
        and seen["master_link_status"] == "up"
    )


# ---- Redis Cluster -------------------------------------------------------------------------------


class Seen(NamedTuple):
    """A line of CLUSTER NODES: what one node says of another, or of itself."""

    id: str
    port: int
    flags: frozenset[str]
    master: str  # "-" if it is none's replica
    epoch: int
    connected: bool
    ranges: tuple[str, ...]
    open: tuple[str, ...]  # slots that are on their way, as in [77->-id] and [77-<-id]

    @classmethod
    def read(cls, line: str) -> "Seen":
        name, address, flags, master, _, _, epoch, link, *slots = line.split()
        return cls(
            name,
            int(address.partition("@")[0].rpartition(":")[2]),
            frozenset(flags.split(",")),
            master,
            int(epoch),
            link == "connected",
            tuple(slot for slot in slots if slot[0] != "["),
            tuple(slot.strip("[]") for slot in slots if slot[0] == "["),
        )

    @property
    def slots(self) -> set[int]:
        found: set[int] = set()
        for one in self.ranges:
            first, _, last = one.partition("-")
            found.update(range(int(first), int(last or first) + 1))
        return found


class ClusterFleet(Fleet):
    """Three masters with a third of the slots each, and a replica of each.

    `node_timeout` is how long (in seconds) a node may be silent before the others look for a
    replacement. They take another half to one second for that.
    """

    def __init__(self, *, node_timeout: float = 0.6) -> None:
        self._vote_pause = 2 * node_timeout
        self._voted: dict[Server, float] = {}
        self._config = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": str(round(node_timeout * 1000)),
            "cluster_replica_validity_factor": "0",  # a replica may always replace its master
            "cluster_migration_barrier": "9",  # replicas stay with their masters
            "repl_diskless_sync": "yes",
            "repl_diskless_sync_delay": "0",
            "repl_ping_replica_period": "1",  # clients are told of replicas that have heard something
        }
        super().__init__()

    def _set_up(self) -> None:
        self.nodes = self._all = [Server(port=lasting_port(), **self._config) for _ in range(6)]
        self._launch(self.nodes)
        self._ids = {node.run("CLUSTER", "MYID"): node for node in self.nodes}
        for number, node in enumerate(self.nodes):
            node.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other in self.nodes[:number]:
                node.run("CLUSTER", "MEET", HOST, other.port)
        for master, slots in zip(self.nodes, THIRDS, strict=False):
            master.run("CLUSTER", "ADDSLOTS", *slots)
        for master, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            wait_blocking(
                lambda master=master, replica=replica: self._id(master) in self._view(replica),
                "a replica has met its master",
            )
            replica.run("CLUSTER", "REPLICATE", self._id(master))
        self.wait_until_ok()
        self._first = self._layout()

    # ---- what is --------------------------------------------------------------------------------

    def _id(self, server: Server) -> str:
        return next(name for name, node in self._ids.items() if node is server)

    def _view(self, node: Server) -> dict[str, Seen]:
        lines = node.run("CLUSTER", "NODES").splitlines()
        return {seen.id: seen for seen in map(Seen.read, lines)}

    def _own_views(self) -> dict[Server, Seen]:
        """What each that is awake says of itself."""
        return {node: self._view(node)[name] for name, node in self._ids.items() if node.awake}

    def _layout(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        return {seen.id: (seen.master, seen.ranges) for seen in self._own_views().values()}

    def trouble(self) -> str:  # noqa: PLR0911 - one for each trouble
        awake = {name: node for name, node in self._ids.items() if node.awake}
        views = {name: self._view(node) for name, node in awake.items()}
        layouts = []
        for own, node in awake.items():
            view = views[own]
            for name, other in awake.items():
                seen = view.get(name)
                if (
                    seen is None
                    or not seen.connected
                    or seen.flags & {"handshake", "fail", "fail?"}
                ):
                    return f"{node.port} sees {other.port} as {seen}"
            layouts.append({name: (view[name].master, view[name].ranges) for name in awake})
        if any(layout != layouts[0] for layout in layouts):
            return f"they do not agree: {layouts}"
        covered = set().union(*(view[own].slots for own, view in views.items()))
        if len(covered) < SLOTS:
            return f"{SLOTS - len(covered)} slots are nowhere"
        for name, node in awake.items():
            if "cluster_state:ok" not in node.run("CLUSTER", "INFO"):
                return f"{node.port} finds the cluster is down"
            told = {other[1] for shard in node.run("CLUSTER", "SLOTS") for other in shard[2:]}
            # A master without slots is told to nobody.
            of_use = {other.port for each, other in awake.items() if layouts[0][each] != ("-", ())}
            if missing := of_use - told:
                return f"{node.port} tells clients nothing of {missing}"
            master = layouts[0][name][0]
            if master != "-" and not _replicates(node, self._ids[master].port):
                return f"{node.port} does not replicate its master"
        return ""

    @property
    def startup(self) -> list[tuple[str, int]]:
        return [(HOST, node.port) for node in self.nodes]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def masters(self) -> list[Server]:
        return [node for node, seen in self._own_views().items() if "master" in seen.flags]

    def replicas(self) -> list[Server]:
        return [node for node, seen in self._own_views().items() if "slave" in seen.flags]

    def master_of(self, key_or_slot: str | bytes | int) -> Server:
        """Who serves it; of two that claim it, the one elected last."""
        slot = key_or_slot if isinstance(key_or_slot, int) else slot_of(key_or_slot)
        claims: dict[Server, int] = {}

        def claimed() -> bool:
            """Ask one after the other: of two that change places it may seem that neither does."""
            views = self._own_views()
            claims.update({node: s.epoch for node, s in views.items() if slot in s.slots})
            return bool(claims)

        wait_blocking(claimed, f"somebody claims slot {slot}")
        return max(claims, key=claims.__getitem__)

    def replica_of(self, server: Server) -> Server:
        name = self._id(server)
        return next(node for node, seen in self._own_views().items() if seen.master == name)

    # ---- what can be done to it -----------------------------------------------------------------

    def failover(self, replica: Server) -> None:
        """Let a replica and its master change their roles; the master helps, so nothing is lost.

        After a second one, back to the first roles, no master may die within 4 s: see `heal`.
        """
        master = self._ids[self._own_views()[replica].master]
        # Nobody votes again about the same master any sooner.
        pause = self._voted.get(master, -math.inf) + self._vote_pause - time.monotonic()
        time.sleep(max(pause, 0))
        replica.run("CLUSTER", "FAILOVER")
        wait_blocking(lambda: replica in self.masters(), "a replica has become master")
        self._voted[master] = time.monotonic()
        self.wait_until_ok()

    def begin_migration(self, slot: int, target: Server) -> None:
        """From now on the target takes keys of the slot from those who are sent to ask it."""
        source = self.master_of(slot)
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def move_keys(self, slot: int) -> int:
        """Bring all keys of a slot on its way to where it is going; says how many."""
        source, moved = self.master_of(slot), 0
        target = self._ways()[slot]
        while keys := source.run("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.run("MIGRATE", HOST, target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_migration(self, slot: int) -> None:
        """Let a slot on its way belong to where it was going, and wait until all know it."""
        self._hand_over(slot, self._ways()[slot])
        self.wait_until_ok()

    def migrate(self, slots: Iterable[int], target: Server, *, keys: bool = True) -> None:
        """Move slots to another master; without their keys only if they have none."""
        for slot in slots:
            self.begin_migration(slot, target)
            if keys:
                self.move_keys(slot)
            self._hand_over(slot, target)
        self.wait_until_ok()

    def _ways(self) -> dict[int, Server]:
        """Where slots are going, by what either end knows of it."""
        ways: dict[int, Server] = {}
        for node, seen in self._own_views().items():
            for way in seen.open:
                slot, direction, other = way.split("-", 2)
                ways[int(slot)] = node if direction == "<" else self._ids[other]
        return ways

    def _hand_over(self, slot: int, target: Server) -> None:
        # The target first: if the source came first, nobody would own the slot for a moment.
        for node in sorted(self.masters(), key=lambda node: node is not target):
            node.run("CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def flush(self) -> None:
        """Remove all keys."""
        for master in self.masters():
            self._flush(master)

    def heal(self) -> None:
        """Start who is down, finish what is half done, give everyone the first role and slots again.

        Data of killed masters that nobody replaced is gone.
        """
        self._launch(node for node in self.nodes if not node.running)
        self.wait_until_ok()
        if self._layout() == self._first and not self._ways():
            return
        for master, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            if master in self.replicas():
                self.failover(master)
                # Who has won an election takes itself for elected again if its master dies within
                # seconds; nobody else would agree. It forgets that only with its process.
                replica.restart()
        for slot, target in self._ways().items():
            self.migrate([slot], target)
        for master, home in zip(self.nodes, THIRDS, strict=False):
            if missing := sorted(set(home) - self._own_views()[master].slots):
                self.migrate(missing, master)
        assert self._layout() == self._first, "this one can not be healed: build a new one"


# ---- Sentinel ------------------------------------------------------------------------------------


class Watched(Server):
    """One that a Sentinel watches, which closes everybody's connection when it changes a role."""

    tries = 2


class Sentinel(Server):
    """A Sentinel. It keeps what it knows in a file, so that it knows it again after a restart."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(port=lasting_port())
        self.id = secrets.token_hex(20)
        self.lines = lines

    def _words(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        if not file.exists():
            options = {
                "port": self.port,
                "bind": self.host,
                "dir": self.folder,
                "logfile": self._log,
                "sentinel myid": self.id,
            }
            lines = [f"{name} {value}" for name, value in options.items()] + self.lines
            file.write_text("\n".join(lines) + "\n")
        return [str(file), "--sentinel"]

    def wait_until_up(self, *, loaded: bool = True) -> None:
        super().wait_until_up(loaded=loaded)
        if version() >= (7,):  # else it goes at the pace of production
            for period, value in HASTE.items():
                self.run("SENTINEL", "DEBUG", period, value)


# How often they do things, in ms. A lost connection is made again with the next PING; if it took longer
# than DOWN_AFTER, a new master, who drops all connections, would be replaced at once. A replica not heard
# of for five PINGs is not made master, and during a failover it is asked for its role once a second. Who
# has the wrong role for four periods of publishing is corrected: that must be longer than this second.
HASTE = {"PING-PERIOD": 300, "INFO-PERIOD": 300, "ASK-PERIOD": 100, "PUBLISH-PERIOD": 500}
DOWN_AFTER = 0.6 if version() >= (7,) else 1.5  # seconds; before 7.0 there is no haste


class SentinelFleet(Fleet):
    """A master and two replicas, watched by three Sentinels, two of which make a quorum.

    `down_after` is how long (in seconds) one may be silent before a Sentinel takes it for dead.
    """

    service = "mymaster"

    def __init__(self, *, down_after: float = DOWN_AFTER) -> None:
        self._down_after = round(down_after * 1000)
        super().__init__()

    def _set_up(self) -> None:
        # By these Sentinels choose the next master, so it is known which.
        self.servers = [
            Watched(port=lasting_port(), repl_diskless_sync_delay="0", replica_priority=priority)
            for priority in ("1", "2", "3")
        ]
        self.sentinels: list[Server] = [Sentinel(self._watch()) for _ in range(3)]
        self._all = [*self.servers, *self.sentinels]
        # To know each other from the first moment saves them seconds.
        for sentinel in self.sentinels:
            sentinel.lines += [
                f"sentinel known-sentinel {self.service} {HOST} {other.port} {other.id}"
                for other in self.sentinels
                if other is not sentinel
            ]
        self._launch(self.servers)
        for replica in self.servers[1:]:
            replica.run("REPLICAOF", HOST, self.servers[0].port)
        self._launch(self.sentinels)
        self.wait_until_ok()

    def _watch(self) -> list[str]:
        name = self.service
        return [
            "sentinel resolve-hostnames no",
            f"sentinel monitor {name} {HOST} {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {name} {self._down_after}",
            f"sentinel failover-timeout {name} 3000",
            f"sentinel parallel-syncs {name} 2",
            *(
                f"sentinel known-replica {name} {HOST} {replica.port}"
                for replica in self.servers[1:]
            ),
        ]

    # ---- what is --------------------------------------------------------------------------------

    def _awake_sentinels(self) -> list[Server]:
        return [sentinel for sentinel in self.sentinels if sentinel.awake]

    def trouble(self) -> str:
        master = self.master()
        replicas = [server for server in self.servers if server.awake and server is not master]
        if not master.awake or master.run("INFO", "replication")["role"] != "master":
            return f"{master.port} is no master"
        for replica in replicas:
            if not _replicates(replica, master.port):
                return f"{replica.port} does not replicate {master.port}"
        sentinels = self._awake_sentinels()
        for sentinel in sentinels:
            peers = [other.port for other in sentinels if other is not sentinel]
            if wrong := self._wrong(sentinel, master.port, [r.port for r in replicas], peers):
                return f"the Sentinel at {sentinel.port} says {wrong}"
        return ""

    def _wrong(
        self, sentinel: Server, master: int, replicas: list[int], peers: list[int]
    ) -> object:
        """Find what a Sentinel does not see as it should."""
        seen = pairs(sentinel.run("SENTINEL", "MASTER", self.service))
        if (seen["port"], seen["flags"]) != (str(master), "master"):
            return seen
        if seen["num-other-sentinels"] != str(len(self.sentinels) - 1):
            return seen
        for kind, flag, ports in (("SLAVES", "slave", replicas), ("SENTINELS", "sentinel", peers)):
            others = list(map(pairs, sentinel.run("SENTINEL", kind, self.service)))
            # Who has no runid yet has not told anything about itself yet, either.
            fine = {int(one["port"]) for one in others if one["flags"] == flag and one["runid"]}
            if not fine >= set(ports):
                return others
        return None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [(HOST, sentinel.port) for sentinel in self.sentinels]

    def master(self) -> Server:
        """Who it is in the opinion of most Sentinels that are awake."""
        votes = Counter(
            int(sentinel.run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1])
            for sentinel in self._awake_sentinels()
        )
        return self.server_at(votes.most_common(1)[0][0])

    def replicas(self) -> list[Server]:
        master = self.master()
        return [server for server in self.servers if server.awake and server is not master]

    # ---- what can be done to it -----------------------------------------------------------------

    def failover(self) -> None:
        """Let the Sentinels make another server master."""
        before = self.master()
        self._awake_sentinels()[0].run("SENTINEL", "FAILOVER", self.service)
        wait_blocking(lambda: self._new_master(before), "there is another master", SETTLE_LIMIT)
        before.run("REPLICAOF", HOST, self.master().port)  # as in heal()
        self.wait_until_ok()

    def _new_master(self, before: Server) -> bool:
        """Whether all Sentinels have changed over."""
        return all(
            sentinel.run("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1] != str(before.port)
            for sentinel in self._awake_sentinels()
        )

    def flush(self) -> None:
        """Remove all keys."""
        self._flush(self.master())

    def heal(self) -> None:
        """Start who is down, and make the first master master again."""
        self._launch(server for server in self._all if not server.running)
        master = self.master()
        for server in self.replicas():
            # It was down or frozen. Sentinels would see to it after four periods.
            if server.run("INFO", "replication")["role"] == "master":
                server.run("REPLICAOF", HOST, master.port)
        self.wait_until_ok()
        while self.master() is not self.servers[0]:
            self.failover()
