"""The kit of the walk through clusters: a step is done with redis-py's client of a cluster and with ours.

Ours once with a connection for each command, and with commands that share one or two to each node.
"""

import asyncio
from collections.abc import Awaitable, Callable
from difflib import unified_diff
from pprint import pformat
from typing import Any

import pytest
from fleets import HOST, ClusterFleet
from redis.asyncio import RedisCluster
from test_pipelined_commands import exact

import aiopool


class OnOneLane(aiopool.RedisCluster):
    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, lanes=1, **keywords)


class OnTwoLanes(aiopool.RedisCluster):
    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, lanes=2, **keywords)


OURS: list[type[RedisCluster]] = [aiopool.RedisCluster, OnOneLane, OnTwoLanes]
KINDS: list[type[RedisCluster]] = [RedisCluster, *OURS]


class Make:
    """Makes clients of one kind for the fleet, with redis-py's keywords, and closes them."""

    def __init__(self, kind: type[RedisCluster], fleet: ClusterFleet) -> None:
        self.kind = kind
        self.fleet = fleet
        self._made: list[RedisCluster] = []

    def __call__(self, **keywords: Any) -> RedisCluster:
        if not {"host", "startup_nodes"} & keywords.keys():
            keywords = {"host": HOST, "port": self.fleet.nodes[0].port, **keywords}
        return self.keep(self.kind(**keywords))

    def from_url(self, url: str, **keywords: Any) -> RedisCluster:
        return self.keep(self.kind.from_url(url, **keywords))

    def keep(self, cluster: RedisCluster) -> RedisCluster:
        self._made.append(cluster)
        return cluster

    async def close(self) -> None:
        for cluster in self._made:
            await cluster.aclose()
            if (
                self.kind is RedisCluster
            ):  # which leaves open what was opened while it is to begin anew
                await cluster.nodes_manager.aclose()
                await cluster.nodes_manager.aclose("startup_nodes")


Step = Callable[..., Awaitable[object]]


class Walk:
    def __init__(self) -> None:
        self.steps: list[Any] = []  # for pytest

    def step(self, function: Step) -> Step:
        self.steps.append(pytest.param(function, id=function.__name__))
        return function

    def with_each(self, table: dict[str, tuple[Any, ...]]) -> Callable[[Step], Step]:
        """Add a step once for each row of a table, which holds further arguments."""

        def add(function: Step) -> Step:
            for name, row in table.items():

                async def step(make: Make, row: tuple[Any, ...] = row) -> object:
                    return await function(make, *row)

                self.steps.append(pytest.param(step, id=f"{function.__name__}-{name}"))
            return function

        return add


async def agree(step: Step, fleet: ClusterFleet) -> None:
    """Do a step with each kind of client, on empty servers: all are to tell what redis-py's tells."""
    theirs, *ours = KINDS
    told = await transcript(step, theirs, fleet)
    for kind in ours:
        told_by_ours = await transcript(step, kind, fleet)
        if told_by_ours != told:
            lines = [pformat(one, width=100).splitlines() for one in (told, told_by_ours)]
            pytest.fail("\n".join(unified_diff(*lines, theirs.__module__, str(kind), n=0)))


async def transcript(step: Step, kind: type[RedisCluster], fleet: ClusterFleet) -> object:
    fleet.flush()
    make = Make(kind, fleet)
    try:
        return exact(await step(make))
    finally:
        await make.close()


async def outcome(attempt: Callable[[], Any]) -> Any:
    """Say what comes of it: what it gives, or the class and the words of its error."""
    try:
        result = attempt()
        awaited = asyncio.iscoroutine(result) or asyncio.isfuture(result)  # and no pipeline
        return await result if awaited else result
    except Exception as error:  # noqa: BLE001 - whichever it is, it is to be the same
        return type(error), str(error)


def names(nodes: Any) -> list[str]:
    """Tell of nodes what is the same for every client, in the order in which they come."""
    return [repr(node) for node in nodes]


async def outcomes(*attempts: Callable[[], Any]) -> list[Any]:
    """Make one attempt after the other."""
    return [await outcome(attempt) for attempt in attempts]
