"""What aiopool raises. Each class answers one question: who has to do something about it?"""

from copy import copy


class PoolError(Exception):
    """The base of all errors that a pool raises itself (a failed connect raises its own)."""


class PoolClosed(PoolError):
    """The pool was closed with `aclose()`; `open()` would start it again."""


class PoolTimeout(PoolError, TimeoutError):
    """No connection came free in time. `__cause__` is the last failed opening, if any failed."""


class TooManyWaiters(PoolError):
    """`max_waiting` callers wait already; this one was turned away at once."""


class NotLent(PoolError, ValueError):
    """The connection given back is not lent by this pool: a double or a foreign release."""


class WrongLoop(PoolError):
    """The pool belongs to another event loop, which is still open."""


def likeness(error: Exception) -> Exception:
    """Copy an error if its class lets itself be copied.

    Tasks that raise the same object would find their tracebacks and contexts mixed up in it.
    """
    try:
        made = copy(error)
    except Exception:  # noqa: BLE001 - it runs a constructor of somebody else's
        return error
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    return made.with_traceback(error.__traceback__)
