"""valkey-glide: no pool, but one connection for all tasks (to each node), driven by a core in Rust.

It has no number of connections that could be set, and does its I/O in threads of its own.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.contender import Client, Contender, Get, Place

# It turns requests away above a number that is smaller than that of our tasks.
_IN_FLIGHT = 100_000


@asynccontextmanager
async def _opened(kind: str, place: Place) -> AsyncGenerator[Any]:
    glide: Any = import_module("glide")  # it need not be installed
    configuration = getattr(glide, f"{kind}Configuration")
    advanced = getattr(glide, f"Advanced{kind}Configuration")
    patience = int(1000 * place.timeout)
    glide.Logger.set_logger_config(glide.LogLevel.OFF)
    client = await getattr(glide, kind).create(
        configuration(
            [glide.NodeAddress(*place.address)],
            request_timeout=patience,
            advanced_config=advanced(connection_timeout=patience),
            inflight_requests_limit=_IN_FLIGHT,
        )
    )
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _client(place: Place) -> AsyncGenerator[Client]:
    glide: Any = import_module("glide")
    async with _opened("GlideClient", place) as client:

        async def pipeline(key: str, times: int) -> None:
            batch = glide.Batch(is_atomic=False)
            for _ in range(times):
                batch.get(key)
            await client.exec(batch, raise_on_error=True)

        async def transaction(key: str) -> None:
            batch = glide.Batch(is_atomic=True)
            batch.incr(key)
            batch.expire(key, 60)
            await client.exec(batch, raise_on_error=True)

        yield Client(client.get, client.set, pipeline, transaction)


@asynccontextmanager
async def _cluster(place: Place) -> AsyncGenerator[Get]:
    async with _opened("GlideClusterClient", place) as client:
        yield client.get


GLIDE = Contender(
    "valkey-glide",
    package="valkey-glide",
    client=_client,
    cluster=_cluster,
    needs=("glide",),
)
