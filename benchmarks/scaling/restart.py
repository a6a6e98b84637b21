"""A server restarts: how many dials it sees, and how long it takes until all goes on."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

from aiopool import Pool

from .fleet import Fleet, Lends, Load, simulate
from .naive import NaivePool
from .server import BIN, Conn, Dialler, Server

PLAIN, TLS = 0.0001, 0.001  # seconds of the server for the greeting of a connection
LOAD = Load(users=20, hold=0.05, think=0.95)
BEFORE = 1.0  # seconds of the usual before it, besides what the first greetings take
CALM = 1.5  # so long nobody has waited: it is over
PATIENCE = 40.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to open connections: aiopool's, or that with something changed, or another."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    naive: bool = False

    def make(self, dialler: Dialler) -> Lends:
        """Make a pool."""
        if self.naive:
            return NaivePool(dialler, **self.options)
        pool: Pool[Conn] = Pool(dialler, **self.options)
        return pool

    def applied(self) -> ExitStack:
        """Have the changes made for the length of a `with` block."""
        with ExitStack() as stack:
            for name, value in self.changes.items():
                stack.enter_context(patch(f"aiopool._opener.{name}", value))
            return stack.pop_all()


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _up_to_the_limit(opener: Any) -> bool:
    most: int = opener._max_opening  # noqa: SLF001 - in place of a method of its own
    return len(opener._opening) < most  # noqa: SLF001 - likewise


_ALIKE = {"uniform": _middle}
_STEADY = {"LONGEST_PAUSE": 0.01}
_RESTLESS = {"FIRST_PAUSE": 0.0, "LONGEST_PAUSE": 0.0}
_IN_CROWDS = {"Opener._has_room": _up_to_the_limit}

OURS = Variant("aiopool")
ONE_OPENING = Variant("`max_opening=1`", {"max_opening": 1})
MANY_OPENINGS = Variant("`max_opening=16`", {"max_opening": 16})
WITHOUT_JITTER = Variant("pauses without jitter", changes=_ALIKE)
STEADY = Variant("pauses that don't grow (10 ms)", changes=_STEADY)
IN_CROWDS = Variant("four at a time while in doubt", changes=_IN_CROWDS)
RESTLESS = Variant("no pause", changes=_RESTLESS)
RESTLESS_IN_CROWDS = Variant("no pause, four at a time", changes=_RESTLESS | _IN_CROWDS)
NAIVE = Variant("naive", naive=True)


@dataclass(frozen=True, slots=True)
class Restart:
    """What came of it."""

    variant: str
    greeting: float
    processes: int
    down: float
    while_down: int  # dials
    afterwards: int  # dials, until all was calm
    failed_afterwards: int
    dropped: int  # SYNs that found the backlog full
    worst_10_ms: int  # dials, after the return
    worst_second: int
    reopened: int  # connections, when all was calm
    all_served: float  # seconds from the return until each process was served; -1: never
    last_wait: float  # and until the last wait that users noticed had ended
    failed: int  # requests
    cut: int
    by_bin: Mapping[float, int]  # dials, in bins of `BIN` seconds from the return on


def restart(
    variant: Variant, *, processes: int, greeting: float, down: float, seed: int
) -> Restart:
    """Simulate one."""
    with variant.applied():
        return simulate(partial(_restart, variant, processes, greeting, down, seed), seed)


async def _restart(
    variant: Variant, processes: int, greeting: float, down: float, seed: int
) -> Restart:
    now = asyncio.get_running_loop().time
    server = Server(greeting)
    fleet = Fleet(processes, [server], variant.make, seed)
    fleet.start(LOAD)
    await asyncio.sleep(BEFORE + 6 * processes * greeting)
    gone, dials = now(), server.dials
    server.stop()
    fleet.failed = 0
    await asyncio.sleep(down)
    back, while_down = now(), server.dials - dials
    before, dropped, failed = server.dials, server.dropped, server.failed
    server.start()
    served = -1.0
    while now() < back + PATIENCE:
        await asyncio.sleep(0.01)
        if served < 0 and all(process.served_at > back for process in fleet.processes):
            served = now() - back
        if served >= 0 and now() > max(back, fleet.slow_until) + CALM:
            break
    first = int(back / BIN)
    result = Restart(
        variant=variant.name,
        greeting=greeting,
        processes=processes,
        down=down,
        while_down=while_down,
        afterwards=server.dials - before,
        failed_afterwards=server.failed - failed,
        dropped=server.dropped - dropped,
        worst_10_ms=server.most_dials(0.01, back, now()),
        worst_second=server.most_dials(1.0, back, now()),
        reopened=server.open,
        all_served=served,
        last_wait=max(0.0, fleet.slow_until - back),
        failed=fleet.failed,
        cut=fleet.cut,
        by_bin={(n - first) * BIN: d for n, d in server.by_bin.items() if n * BIN >= gone - 0.1},
    )
    await fleet.close()
    return result
