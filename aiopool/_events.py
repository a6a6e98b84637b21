"""What happens in a pool, told to those who listen, at the price of nothing to those who don't."""

import logging
import os
from asyncio import CancelledError
from collections.abc import Callable
from inspect import iscoroutinefunction
from threading import RLock
from typing import Any
from weakref import WeakSet, ref

from ._errors import PoolTimeout, TooManyWaiters
from ._stats import Holder

logger = logging.getLogger("aiopool")


class Listener:
    """Hears what happens in the pools that it was put `on`; override the methods that are of interest.

    Each is called in one step with what it tells, after that has happened, and should return soon: the
    event loop waits. An exception is logged and breaks nothing. A method may ask the pool (`stats()`,
    `holders()`), drain and resize it. `pool` is the `Pool`, or the view, that it was put on; that of a
    `RedisPool` is its inner one, of the same name. Connections are those that the pool lends.
    """

    def opened(self, pool: Any, conn: Any, took: float, /) -> None:
        """Hear that one was opened, in `took` seconds."""

    def open_failed(self, pool: Any, error: Exception, failures: int, /) -> None:
        """Hear that an opening failed, the last of `failures` in a row."""

    def lent(self, pool: Any, conn: Any, waited: float, /) -> None:
        """Hear, in the caller's task, that it gets one, `waited` seconds after it asked; 0 if at once."""

    def returned(self, pool: Any, conn: Any, used: float, /) -> None:
        """Hear that one was given back, after `used` seconds; it may be closed, or lent again, by now."""

    def checked(self, pool: Any, conn: Any, /) -> None:
        """Hear that a long-idle one has proved good."""

    def closed(self, pool: Any, conn: Any, reason: str, /) -> None:
        """Hear that one was closed, for a reason that is a key of `Stats.closed`."""

    def waiting(self, pool: Any, /) -> None:
        """Hear, in the caller's task, that it has joined the line."""

    def left(self, pool: Any, /) -> None:
        """Hear that a caller has left the line before its time: it was cancelled, or sent away."""

    def timed_out(self, pool: Any, error: PoolTimeout, /) -> None:
        """Hear, in the caller's task, that it has waited in vain; `error` is what it gets."""

    def rejected(self, pool: Any, error: TooManyWaiters, /) -> None:
        """Hear, in the caller's task, that it was turned away; `error` is what it gets."""

    def drained(self, pool: Any, /) -> None:
        """Hear that all connections were retired."""

    def leaked(self, pool: Any, holder: Holder, /) -> None:
        """Hear of one lent for longer than `leak_after` or, if `holder.ended`, to a task that has ended."""

    def leak_returned(self, pool: Any, holder: Holder, /) -> None:
        """Hear that one of which `leaked` has told was given back."""


def checked(listener: object) -> Listener:
    """Refuse what is no listener."""
    if not isinstance(listener, Listener):
        msg = f"listener must be an aiopool.Listener, not {listener!r}"
        raise TypeError(msg)
    for name in NAMES:
        if iscoroutinefunction(getattr(listener, name)):
            msg = (
                f"{type(listener).__name__}.{name} must be a plain function: nobody would await it"
            )
            raise TypeError(msg)
    return listener


NAMES = tuple(name for name in vars(Listener) if not name.startswith("_"))
Callbacks = tuple[Callable[..., None], ...]


class Events:
    """For each event the methods to call, usually none.

    Who has something to tell looks first: `if events.lent: events.tell("lent", conn, waited)`.
    """

    opened: Callbacks
    open_failed: Callbacks
    lent: Callbacks
    returned: Callbacks
    checked: Callbacks
    closed: Callbacks
    waiting: Callbacks
    left: Callbacks
    timed_out: Callbacks
    rejected: Callbacks
    drained: Callbacks
    leaked: Callbacks
    leak_returned: Callbacks
    __slots__ = ("__weakref__", "_listeners", "_pool", *NAMES)

    def __init__(self, pool: object) -> None:
        self._pool = ref(pool)  # which is to be collected when its users have dropped it
        self._listeners: list[Listener] = []
        self._sort()

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell this one too, unless it is told already; the result is what ends that."""
        with _registry:
            if not any(known is listener for known in self._listeners):
                self._listeners.append(listener)
                self._sort()
        return lambda: self.remove(listener)

    def remove(self, listener: Listener) -> None:
        """Tell this one nothing any more."""
        with _registry:
            self._listeners = [known for known in self._listeners if known is not listener]
            self._sort()

    def _sort(self) -> None:
        """Find who overrides what."""
        for name in NAMES:
            usual = getattr(Listener, name)
            methods = [getattr(listener, name) for listener in self._listeners]
            told = [method for method in methods if getattr(method, "__func__", None) is not usual]
            setattr(self, name, tuple(told))

    def tell(self, name: str, *what: object) -> None:
        """Tell what has happened."""
        pool = self._pool()
        if pool is None:
            return
        for method in getattr(self, name):
            try:
                method(pool, *what)
            # A cancellation as well: it is nobody's who waits here.
            except (Exception, CancelledError):
                logger.exception("a listener has failed at %r of %r", name, pool)


# Of all pools, for who is to hear of those that others make: see `everywhere`.
_all: WeakSet[Events] = WeakSet()
_everywhere: list[Listener] = []
# Who listens to what: a listener to all pools, to those of other threads as well.
_registry = RLock()


def _make_anew() -> None:
    """In a forked child: who had the lock is not there."""
    global _registry  # noqa: PLW0603 - it is the process' own
    _registry = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_make_anew)


def everywhere(listener: Listener) -> Callable[[], None]:
    """Have a listener told of all pools, those to come included; the result is what ends that."""
    with _registry:
        _everywhere.append(listener)
        for events in list(_all):
            events.add(listener)

    def stop() -> None:
        with _registry:
            _everywhere.remove(listener)
            for events in list(_all):
                events.remove(listener)

    return stop


def events_of(pool: object) -> Events:
    """Make what tells of a pool."""
    events = Events(pool)
    with _registry:
        _all.add(events)
        for listener in _everywhere:
            events.add(listener)
    return events
