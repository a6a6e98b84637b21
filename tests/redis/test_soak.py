"""Everything at once for some minutes, through one pool: what it holds stays level.

Not a part of the everyday suite: `pytest -m soak`. `AIOPOOL_SOAK` is for how many minutes it goes
on, on each event loop (3 unless told).
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import pytest
from chaos import PATIENCE, SIZE, WAYS, Report, Traffic, lost_slots, number_databases, options
from chaos_proxy import ChaosProxy
from servers import Server, eventually
from surroundings import open_sockets, other_tasks

from aiopool import RedisPool

MINUTES = float(os.environ.get("AIOPOOL_SOAK", "3"))
REQUESTS = 3000  # a spell
WARM_UP = 3  # spells in which caches fill
OPERATIONS = 0.1  # seconds between two of them, on average


@pytest.fixture
async def lasting_server() -> AsyncIterator[Server]:
    """A server that remembers what it has acknowledged when it is killed."""
    server = Server(appendonly="yes", appendfsync="no")
    number_databases(server)
    yield server
    server.destroy()


@dataclass(frozen=True)
class Sample:
    """What this process holds between two spells."""

    objects: int
    kilobytes: int
    descriptors: int
    sockets: int
    tasks: int


def sample(number: int) -> Sample:
    """Take a sample, which does not count those before it."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        objects=len(gc.get_objects()) - number,
        kilobytes=pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        descriptors=len(os.listdir("/dev/fd")),  # noqa: PTH208 - names are all that is wanted
        sockets=open_sockets(),
        tasks=len(other_tasks()),
    )


async def trouble(pool: RedisPool, server: Server, draw: Random, over: asyncio.Event) -> None:
    """Do to pool and server whatever an operator or a bad day may."""
    while not over.is_set():
        await asyncio.sleep(draw.expovariate(1 / OPERATIONS))
        match draw.randrange(8):
            case 0:
                server.run("CLIENT", "KILL", "TYPE", "normal")
            case 1:
                server.run("CLIENT", "PAUSE", draw.randint(1, 150))
            case 2:
                pool.drain()
            case 3:
                pool.resize(max_size=draw.randint(SIZE // 2, SIZE), min_size=draw.randint(0, 4))
            case 4:
                server.run("CONFIG", "SET", "maxclients", draw.randint(4, 12))
                await asyncio.sleep(draw.uniform(0, 0.5))
                server.run("CONFIG", "SET", "maxclients", 1000)
            case 5:
                with server.frozen():
                    await asyncio.sleep(draw.uniform(0, 2 * PATIENCE))
            case 6:
                await asyncio.wait([asyncio.create_task(pool.warm(draw.randint(0, SIZE // 2)))])
            case 7 if draw.random() < 0.3:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)


async def spell(pool: RedisPool, server: Server, seed: int) -> Report:
    """Send some requests through a bad network while there is trouble; then have calm."""
    with ChaosProxy(server.path, seed, PATIENCE) as proxy:
        pool.connection_kwargs["port"] = proxy.port
        pool.drain()
        crowd = Traffic(pool, way=WAYS[seed % len(WAYS)], requests=REQUESTS, seed=seed)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(trouble(pool, server, Random(seed), over))
            await crowd.flow()
            over.set()
        proxy.calm()
        pool.resize(max_size=SIZE, min_size=0)
        crowd.report.lost = await lost_slots(pool, crowd.report)
        crowd.judge(proxy)
        crowd.report.faults = proxy.faults
        pool.drain()
        await eventually(lambda: not server.clients(), "the pool is empty, and its sockets closed")
    return crowd.report


@pytest.mark.soak
async def test_what_a_pool_holds_stays_level_whatever_happens(lasting_server: Server, capsys):
    total = Report()
    samples: list[Sample] = []
    end = time.monotonic() + MINUTES * 60
    async with RedisPool(lasting_server.url, max_idle=1.0, check_after=0.1, **options(0)) as pool:
        while time.monotonic() < end or len(samples) < WARM_UP + 6:
            total += await spell(pool, lasting_server, len(samples))
            samples.append(sample(len(samples)))
            with capsys.disabled():
                sys.stdout.write(f"\n{total.requests} requests, {samples[-1]}")
    with capsys.disabled():
        sys.stdout.write(f"\n{total}\n")
    assert not total.wrong, total
    assert not total.odd, total
    assert total.lost == 0, total
    samples = samples[WARM_UP:]
    assert len({(each.descriptors, each.sockets, each.tasks) for each in samples}) == 1, samples
    third = len(samples) // 3
    for name in ("objects", "kilobytes"):
        first, last = (
            median(getattr(each, name) for each in some)
            for some in (samples[:third], samples[-third:])
        )
        assert last <= 1.05 * first, (name, samples)
