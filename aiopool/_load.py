"""How long a newcomer would have to wait, by how long connections have been used of late.

The numbers are what a simulation has found: docs/guides/overload.md.
"""

from ._events import Listener
from ._limits import Limits

# The mean is that of about so many uses of each connection there may be. Of fewer it would be the long
# ones for a while after each burst, which are the last to come back.
REMEMBERED = 10

# A use has to fit in as well, however short the pool's users say it was: who gets a connection so late
# that the use is cut off makes uses look short. With room for one mean use only, the more are cut off
# the later callers are let in, and it stays so. With room for three it mends itself.
ROOM = 3


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

    def fits(self, wait: float, timeout: float) -> bool:
        """Whether who waits for so long has room for a use, or half of the time, within `timeout`."""
        return wait + min(ROOM * self._mean, timeout / 2) <= timeout
