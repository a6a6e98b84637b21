"""Where a service's master and replicas are: asked of Sentinel, and heard from it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from threading import Lock
from typing import Any, Protocol, cast
from weakref import WeakSet, WeakValueDictionary, finalize, ref

from redis.exceptions import RedisError

from aiopool.redis._later import task_of

from ._ear import listen
from ._question import Question

Address = tuple[str, int]

# How long closing waits for what it has cancelled.
LAST_WORDS = 1.0


class Follower(Protocol):
    """A pool of connections to the master."""

    def leave(self) -> None:
        """Hear that the master to which its connections lead is none any more."""
        ...


class Discovery:
    """What is known of one service on one event loop, shared by all pools of the same Sentinel object."""

    def __init__(self, sentinel: Any, service: str, loop: asyncio.AbstractEventLoop) -> None:
        """Ask this Sentinel, redis-py's or one like it."""
        self.loop = loop
        self.sentinel = sentinel
        self.service = service
        self.master_address: Address | None = None  # as it was last told
        self._all: list[Any] = list(self.sentinels)
        self._followers: WeakSet[Follower] = WeakSet()
        self._master = self._question(sentinel.discover_master, self._told)
        self._replicas = self._question(sentinel.discover_slaves, lambda _: None)
        self._ear: asyncio.Task[None] | None = None

    def _question(self, ask: Callable[[str], Any], heard: Callable[[Any], None]) -> Question[Any]:
        return Question(self.loop, lambda: self._walk(ask), heard, self._first, self.lost)

    async def _walk(self, ask: Callable[[str], Any]) -> Any:
        """Have redis-py ask one Sentinel after the other.

        It moves the one that has answered to the top, to where another was when it began. If somebody
        else has moved them meanwhile, one is there twice then, and another is missing.
        """
        try:
            return await ask(self.service)
        finally:
            there = self.sentinels
            self._all = list(dict.fromkeys([*self._all, *there]))
            if len(set(there)) < len(self._all):
                there[:] = dict.fromkeys([*there, *self._all])

    # ---- asking ------------------------------------------------------------------------------

    async def master(self) -> Address:
        """Say where the master is.

        Raises:
            redis.asyncio.sentinel.MasterNotFoundError: No Sentinel knows.
            redis.exceptions.RedisError: None could be asked.

        """
        return tuple(await self._master.answer())

    async def replicas(self) -> Sequence[Address]:
        """Say where the replicas are that Sentinel thinks well of."""
        return cast("Sequence[Address]", await self._replicas.answer())

    def forget(self) -> None:
        """Ask anew next time: somebody was where he was sent, in vain."""
        self._master.forget()
        self._replicas.forget()

    @property
    def sentinels(self) -> list[Any]:
        """redis-py's list of its clients, the one to be asked first at the top."""
        return getattr(self.sentinel, "sentinels", [])

    def _first(self) -> Any:
        return next(iter(self.sentinels), None)

    def lost(self, client: Any) -> None:
        """Have another Sentinel asked first than this one."""
        if self.sentinels[:1] == [client]:
            self.sentinels.append(self.sentinels.pop(0))

    async def catch_up(self) -> None:
        """Ask anew, to come to know of a switch of which nobody has heard."""
        self.forget()
        with suppress(RedisError):
            await self.master()

    # ---- switches ----------------------------------------------------------------------------

    def _told(self, address: Sequence[Any]) -> None:
        if self.master_address != tuple(address):
            self._move(tuple(address))

    def heard_of(self, address: Address) -> None:
        """Hear from Sentinel that the master is there now."""
        if address != self.master_address:
            self.abandon()

    def abandon(self) -> None:
        """Not lead to the present master any more, which is none."""
        self._master.forget()
        self._move(None)

    def _move(self, address: Address | None) -> None:
        old, self.master_address = self.master_address, address
        if old is not None:
            for follower in list(self._followers):
                follower.leave()

    # ---- followers ---------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """Tell it of switches, those heard from Sentinel as well; it is not kept alive."""
        self._followers.add(follower)
        if (self._ear is None or self._ear.cancelled()) and self.sentinels:
            self._ear = task_of(listen(ref(self)), "aiopool-sentinel", Context())
            self._end = finalize(self, _end, self.loop, self._ear)
            self._end.atexit = False

    async def unfollow(self, follower: Follower) -> None:
        """Tell it no more; with the last one ends the listening."""
        self._followers.discard(follower)
        if not self._followers and self._ear is not None:
            ear, self._ear = self._ear, None
            self._end.detach()
            ear.cancel()
            await asyncio.wait([ear], timeout=LAST_WORDS)


def _end(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    """Cancel a task, from wherever a finaliser happens to run."""
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(task.cancel)


# By id() of the Sentinel object, which need not be hashable, and of the loop. As long as there is a value,
# it keeps both.
_known: WeakValueDictionary[tuple[int, str, int], Discovery] = WeakValueDictionary()
_lock = Lock()  # other threads may have loops, too


def discovery_of(sentinel: Any, service: str) -> Discovery:
    """Give what is known of a service on the loop that runs now."""
    loop = asyncio.get_running_loop()
    key = id(sentinel), service, id(loop)
    with _lock:
        found = _known.get(key)
        if found is None:
            loops = {other.loop for other in _known.values() if other.sentinel is sentinel}
            found = _known[key] = Discovery(sentinel, service, loop)
            if loops and loop not in loops and all(other.is_closed() for other in loops):
                # redis-py would ask on connections of those loops.
                for client in found.sentinels:
                    with suppress(AttributeError):  # it is no real one
                        client.connection_pool.reset()
    return found
