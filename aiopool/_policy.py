"""What a pool that stands behind another library's interface decides, or tells, in its own way."""

from errno import EMFILE, ENFILE
from typing import Generic

from ._connector import C
from ._errors import PoolClosed, PoolDeadlock, PoolTimeout, TooManyWaiters
from ._events import Events

# While nothing else could serve the line, so many failed openings in a row are tried again before the
# callers are told. As many as by redis-py's default retry, which makes 2 to 4.3 s of trying.
PATIENCE = 10

# The fault of a connection that its peer has ended, in `Stats.closed`.
LOST = "lost"


# Where Python has its errors of the network.
_OF_THE_NETWORK = {"builtins", "socket", "ssl"}


class Policy(Generic[C]):
    """The policy of a plain pool."""

    kind = "Pool"
    # Raised at the source in these classes, so that they can be another library's errors as well.
    closed_error: type[PoolClosed] = PoolClosed
    timeout_error: type[PoolTimeout] = PoolTimeout
    deadlock_error: type[PoolDeadlock] = PoolDeadlock
    rejected_error: type[TooManyWaiters] = TooManyWaiters
    # That of an opening which has none of its own.
    aborted_error: type[Exception] = ConnectionAbortedError

    def worth_retrying(self, error: Exception, failures: int) -> bool:
        """Whether trying again may mend a failed opening, the last of so many in a row."""
        return isinstance(error, (OSError, EOFError)) and failures <= PATIENCE

    def says_full(self, error: Exception) -> bool:
        """Whether an opening failed because there can be no more for now, here or at the server."""
        return isinstance(error, OSError) and error.errno in {EMFILE, ENFILE}

    def may_come_back(self, conn: C, /) -> bool:  # noqa: ARG002 - for others to look at
        """Whether a lent connection may serve the next caller, as far as can be seen from outside."""
        return True

    def is_kept(self, conn: C, /) -> bool:  # noqa: ARG002 - for others to look at
        """Whether a lent connection is one that its holder keeps on purpose, which is no leak."""
        return False

    def name_error(self, error: Exception) -> str:
        """Say what an opening raised. In full only if it is the network's, which knows no secrets.

        Other libraries' errors may be OSErrors as well (those of `requests` are, and have the URL).
        """
        network = isinstance(error, OSError) and type(error).__module__ in _OF_THE_NETWORK
        return f"{type(error).__name__}: {error}" if network else type(error).__name__

    def name_fault(self, conn: C, /, *, idle: bool) -> str:  # noqa: ARG002 - for others to look at
        """Say why a connection is of no use any more, in a word for `Stats.closed`."""
        return LOST if idle else "unusable"  # nobody but its peer had to do with an idle one

    def attend(self, events: Events) -> None:
        """Have whoever else is to listen put on, or off again; asked when a life on an event loop begins."""
