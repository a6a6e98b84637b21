"""What takes part: how connections are lent from it, and how commands are sent through it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


class CannotTakePart(Exception):
    """A contender can't do this, or is not there; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contender is to work, and with how much."""

    url: str
    """Of the server."""
    size: int
    """How many connections it may have at most."""
    timeout: float = 60.0
    """Seconds that a caller may wait for one: long, but not for ever, so that all pay for a deadline."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 6379)


@dataclass(frozen=True, slots=True)
class Lender:
    """Lends connections. Both are the contender's own methods, so that no adapter is measured."""

    acquire: Callable[[], Awaitable[Any]]
    release: Callable[[Any], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Client:
    """Sends commands; wherever it is possible these are the contender's own methods."""

    get: Callable[[str], Awaitable[object]]
    set: Callable[[str, bytes], Awaitable[object]]
    pipeline: Callable[[str, int], Awaitable[object]]
    """Get a key so many times in one round trip."""
    transaction: Callable[[str], Awaitable[object]]
    """In one MULTI: count the key up and give it a time to live."""


Get = Callable[[str], Awaitable[object]]
Opens = Callable[[Place], AbstractAsyncContextManager[T]]


@dataclass(frozen=True, slots=True)
class Contender:
    """One that takes part, and with what."""

    name: str
    ours: bool = False
    """Whether it is a face of aiopool."""
    package: str = "redis"
    """Whose version must be the same for two runs to be compared by it."""
    lender: Opens[Lender] | None = None
    client: Opens[Client] | None = None
    cluster: Opens[Get] | None = None
    """On the cluster of which the place is one of the nodes, with so many connections to each."""
    waits: bool = True
    """Whether callers wait where there are more than connections."""
    needs: tuple[str, ...] = ()
    """Modules without which it can't take part."""

    def lend(self, place: Place, tasks: int) -> AbstractAsyncContextManager[Lender]:
        """Open it for so many tasks that lend connections.

        Raises:
            CannotTakePart: It can't do that.

        """
        if self.lender is None:
            msg = "it lends no connections"
            raise CannotTakePart(msg)
        self._check(place, tasks)
        return self.lender(place)

    def connect(self, place: Place, tasks: int) -> AbstractAsyncContextManager[Client]:
        """Open it for so many tasks that send commands.

        Raises:
            CannotTakePart: It can't do that.

        """
        if self.client is None:
            msg = "it sends no commands"
            raise CannotTakePart(msg)
        self._check(place, tasks)
        return self.client(place)

    def join(self, place: Place, tasks: int) -> AbstractAsyncContextManager[Get]:
        """Open it for so many tasks that send commands to a cluster.

        Raises:
            CannotTakePart: It can't do that.

        """
        if self.cluster is None:
            msg = "it knows no clusters"
            raise CannotTakePart(msg)
        self._check(place, tasks)
        return self.cluster(place)

    def _check(self, place: Place, tasks: int) -> None:
        for module in self.needs:
            if find_spec(module) is None:
                msg = f"{module} is switched off or not installed"
                raise CannotTakePart(msg)
        if tasks > place.size and not self.waits:
            msg = "it raises 'Too many connections' where there are more tasks than connections"
            raise CannotTakePart(msg)
