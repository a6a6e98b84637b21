"""What a run comes to: the one thing that is shown at the end and written as JSON."""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from redis.asyncio import Redis
from redis.exceptions import ResponseError


@dataclass(frozen=True, slots=True)
class Report:
    """Plain values only. All durations are seconds."""

    lost: Sequence[str]
    """A sentence for each thing lost or mixed up."""
    requests: Mapping[str, int]
    errors: Mapping[str, int]
    """By class; that a request found no connection in time is none of these."""
    wait: Mapping[str, float | None]
    connections: Mapping[str, int | None]
    closed: Mapping[str, int]
    """Connections closed, by reason."""
    check: Mapping[str, int]
    parameters: Mapping[str, str | float]
    versions: Mapping[str, str]
    took: float


AT_ONCE = 0.001  # seconds; who waited for no longer did not queue


def summarize(waits: Sequence[float]) -> dict[str, float | None]:
    """Sum up how long it took to lend a connection.

    Fairness is told by those who had to wait at all, for more than a millisecond: how many times as
    long as their median the unluckiest waited. None, if nobody had to.
    """
    ordered = sorted(waits) or [0.0]
    queued = [wait for wait in ordered if wait > AT_ONCE]
    return {
        "lent": len(waits),
        "queued": len(queued),
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
        "queued_p50": median(queued) if queued else None,
        "longest_to_median": ordered[-1] / median(queued) if queued else None,
    }


def versions(server: str) -> dict[str, str]:
    """Say what took part, in which version."""
    return {
        "aiopool": version("aiopool"),
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "server": server,
    }


async def server_version(client: Redis) -> str:
    """Ask a server what it is."""
    with suppress(ResponseError):  # not every user may
        info = await client.info("server")  # pyright: ignore[reportUnknownMemberType] - kwargs are not annotated
        return f"redis {info['redis_version']}"
    return "redis"


def fakeredis() -> str:
    """Say which server it is if it is none."""
    return f"fakeredis {version('fakeredis')} in this process"
