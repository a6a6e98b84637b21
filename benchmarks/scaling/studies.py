"""What is simulated, in which sizes, side by side on as many cores as there are."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeAlias

from . import full as filled
from .connections import Connections, SetUp, connections
from .day import Day, day
from .full import Full, full
from .lifetime import Expiry, expiry
from .restart import (
    IN_CROWDS,
    MANY_OPENINGS,
    NAIVE,
    ONE_OPENING,
    OURS,
    PLAIN,
    RESTLESS,
    RESTLESS_IN_CROWDS,
    STEADY,
    TLS,
    WITHOUT_JITTER,
    Restart,
    restart,
)

Job: TypeAlias = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How large it all is."""

    fleets: Sequence[int]  # of processes; the last is that of all studies in which nothing repeats
    few: int  # processes, where each costs much: those that dial without pauses, or for an hour
    down: float  # seconds
    failover: float
    day: float
    by_day: int  # processes


FULL = Size(fleets=(10, 100, 1000), few=100, down=1.0, failover=10.0, day=3600.0, by_day=5)
QUICK = Size(fleets=(2, 20), few=4, down=0.4, failover=1.5, day=400.0, by_day=2)


@dataclass(frozen=True, slots=True)
class Results:
    """What came of all studies."""

    connections: Sequence[Connections] = ()
    restarts: Sequence[Restart] = ()
    lifetimes: Sequence[Expiry] = ()
    days: Sequence[Day] = ()
    full: Sequence[Full] = ()


STUDIES = tuple(field.name for field in fields(Results))


def study(
    size: Size, seed: int, only: Sequence[str] = STUDIES, workers: int | None = None
) -> Results:
    """Simulate it all, or some of it, in so many processes; in none but this if that is 0."""
    jobs = {name: _jobs(size, seed)[name] for name in only}
    flat = [job for each in jobs.values() for job in each]
    if workers == 0:
        done = [job() for job in flat]
    else:
        with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn")) as executor:
            done = [future.result() for future in [executor.submit(job) for job in flat]]
    results = iter(done)
    return Results(**{name: [next(results) for _ in each] for name, each in jobs.items()})


def _jobs(size: Size, seed: int) -> dict[str, list[Job]]:
    many = size.fleets[-1]
    return {
        "connections": [
            *(
                partial(connections, SetUp(number, nodes), seed, look_on=number < many)
                for nodes in (1, 6)
                for number in size.fleets
            ),
            *(
                partial(connections, setup, seed)
                for setup in (
                    SetUp(size.few, max_size=4),
                    SetUp(size.few, max_size=25),
                    SetUp(size.few, min_size=2, max_idle=30.0),
                    SetUp(size.few, min_size=10),
                    SetUp(size.few, max_idle=None),
                )
            ),
        ],
        "restarts": [
            partial(restart, way, processes=number, greeting=greeting, down=down, seed=seed)
            for number, greeting, down, ways in (
                (
                    many,
                    PLAIN,
                    size.down,
                    (OURS, ONE_OPENING, MANY_OPENINGS, WITHOUT_JITTER, IN_CROWDS, NAIVE),
                ),
                (
                    many,
                    TLS,
                    size.down,
                    (OURS, ONE_OPENING, MANY_OPENINGS, NAIVE),
                ),
                (size.few, PLAIN, size.down, (OURS, STEADY, RESTLESS, RESTLESS_IN_CROWDS, NAIVE)),
                (many, PLAIN, size.failover, (OURS,)),
            )
            for way in ways
        ],
        "lifetimes": [
            partial(expiry, jitter, within, many, seed)
            for within, jitters in ((60.0, (0.0, 0.025, 0.05, 0.1)), (1.0, (0.0, 0.1)))
            for jitter in jitters
        ],
        "days": [
            partial(day, max_idle, size.day, size.by_day, seed) for max_idle in (30.0, 300.0, None)
        ],
        "full": [
            partial(full, way, number, 10 * number, seed)
            for way, number in (
                (filled.OURS, many),
                (filled.OURS, size.few),
                (filled.NAIVE, size.few),
            )
        ],
    }
