"""What aiopool raises. Each class answers one question: who has to do something about it?"""


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
