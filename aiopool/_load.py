"""How long a newcomer would have to wait, by how long connections have been used of late.

The numbers are what a simulation has found: docs/guides/overload.md.
"""

from collections.abc import Iterable
from itertools import takewhile

from ._connector import C
from ._events import Listener
from ._idle import Entry
from ._limits import Limits

# The mean is that of about so many uses of each connection there may be. Of fewer it would be the long
# ones for a while after each burst, which are the last to come back.
REMEMBERED = 10

# A use has to fit in as well, however short the pool's users say it was: who gets a connection so late
# that the use is cut off makes uses look short. With room for one mean use only, the more are cut off
# the later callers are let in, and it stays so. With room for three it mends itself.
ROOM = 3


def lent_before(entries: Iterable[Entry[C]], then: float) -> int:
    """Count those lent by then, of entries in the order of their lending."""
    return sum(1 for _ in takewhile(lambda entry: entry.lent_at < then, entries))


class Load(Listener):
    """Hears how long connections are used. Only where callers are to be turned away in time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._mean = 0.0
        self._uses = 0  # that are in the mean, more or less

    def returned(self, _pool: object, _conn: object, used: float, /) -> None:
        """Count a use in.

        One longer than the pool's `timeout` counts as that long: nobody waits for more of it, and a
        blocking read of a minute among uses of milliseconds would be all of the mean.
        """
        limits = self.limits
        if limits.timeout is not None:
            used = min(used, limits.timeout)
        self._uses = min(self._uses + 1, REMEMBERED * limits.max_size)
        self._mean += (used - self._mean) / self._uses

    def wait(self, returns: int, size: int) -> float:
        """Expect this wait, in seconds, for so many returns of so many connections."""
        return returns * self._mean / size

    def objection(self, before: int, coming_back: int, timeout: float | None) -> str | None:
        """Say why a caller after so many others can't be served in time, if so many connections come back.

        Nobody is turned away before whom nobody waits, nor before there is a mean to speak of. Who takes
        only what is there (`timeout=0`) has its own error at once.
        """
        if not timeout or before <= 0 or self._uses < REMEMBERED:
            return None
        wait = self.wait(before + 1, max(1, coming_back))
        room = min(ROOM * self._mean, timeout / 2)
        if wait + room <= timeout:
            return None
        return (
            f"a wait of {wait:.3g} s is expected, which leaves less than the {room:.3g} s that a use may"
            f" take of a timeout of {timeout:.4g} s"
        )
