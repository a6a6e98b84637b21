"""The seam between the pool and what it lends: the pool knows nothing else of a connection."""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Protocol, TypeVar

C = TypeVar("C")


class Connector(Protocol[C]):
    """How to open, check, look at and close connections of one kind.

    `open` and `check` are awaited in tasks that the pool owns, never in a caller's. They are
    cancelled when the pool is closed, or after 30 seconds (`open`) or one (`check`), in case they
    have no limits of their own; `open` must then leave nothing behind.

    One for which `is_usable` takes long may have a method `is_clean` with the same signature as well. It
    is asked instead where a connection is given back that nobody waits for: is it fit to be put aside,
    and looked at with `is_usable` before it is lent?
    """

    async def open(self) -> C:
        """Make one connection that is ready for use. Whatever it raises counts as a failure."""
        ...

    async def check(self, conn: C, /) -> None:
        """Make sure that a long-idle connection still works, with I/O; raise if it does not."""
        ...

    def is_usable(self, conn: C, /) -> bool:
        """Look at a connection without waiting for I/O: at every lending and every release."""
        ...

    def close(self, conn: C, /) -> None:
        """Close at once, without waiting for the peer. Must work on a broken connection too."""
        ...


def cheaper_look(connector: Connector[C]) -> Callable[[C], bool]:
    """Give the connector's `is_clean`, if it has one, else its `is_usable`."""
    look: Callable[[C], bool] = getattr(connector, "is_clean", connector.is_usable)
    return look


def checked(connector: Connector[C]) -> Connector[C]:
    """Refuse what can be no connector now, rather than at the first use."""
    for name in ("open", "check", "is_usable", "close"):
        method: object = getattr(connector, name, None)
        if not callable(method) or isinstance(connector, type):
            msg = f"connector must be an object with a method {name}(), not {type(connector)!r}"
            raise TypeError(msg)
        if name in {"is_usable", "close"} and iscoroutinefunction(method):
            msg = f"connector.{name}() must be a plain function: nobody would await it"
            raise TypeError(msg)
    if not callable(getattr(connector, "is_clean", connector.is_usable)):
        msg = f"connector.is_clean must be a method, not {getattr(connector, 'is_clean')!r}"  # noqa: B009 - it need not be there
        raise TypeError(msg)
    return connector
