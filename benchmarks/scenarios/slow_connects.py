"""Connecting takes long, a request does not: how many connections are opened for a burst of requests?

The server is behind a proxy that lets the first byte of a connection through after 150 ms, and holds
each reply back for a while. (With what else it takes, a request then lasts half a millisecond longer.)
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks.contender import Contender, Place
from benchmarks.contenders import BARE, CLIENTS
from benchmarks.measure import Case, Effort, Sample, Scenario, Turn, together
from benchmarks.proxy import delaying_proxy
from benchmarks.server import SMALL

_REQUESTS = 50
_CONNECT = 0.150
_REPLIES = (0.001, 0.002)  # late by so much


@asynccontextmanager
async def _opened(
    contender: Contender, url: str, *, requests: int, connect: float, reply: float
) -> AsyncGenerator[Turn]:
    with delaying_proxy(url, connect, reply) as proxy:

        async def turn() -> Sample:
            before = proxy.connections()
            begin = perf_counter()
            async with contender.connect(Place(proxy.url, requests), requests) as client:

                async def get() -> None:
                    await client.get(SMALL)

                opening = perf_counter() - begin  # of those that must connect first
                elapsed = opening + await together(requests, get)
                return Sample(elapsed, counts={"opened": proxy.connections() - before})

        yield turn


def _cases(effort: Effort) -> list[Case]:
    requests = effort.pick(_REQUESTS, _REQUESTS, 4)
    connect = effort.pick(_CONNECT, _CONNECT, 0.01)
    return [
        Case(
            f"{requests} requests, replies {1000 * reply:g} ms late",
            requests,
            [contender for contender in CLIENTS if contender is not BARE],
            partial(_opened, requests=requests, connect=connect, reply=reply),
        )
        for reply in effort.pick(_REPLIES, _REPLIES, _REPLIES[:1])
    ]


SLOW_CONNECTS = Scenario(
    "slow-connects",
    "connects of 150 ms, as many as needed",
    _cases,
    wanted=lambda setting: setting.hiredis and setting.loop == "asyncio",  # it is about waiting
)
