"""How long a newcomer will have to wait, by what those before it have taken."""

from ._events import Listener

# The weight of the latest use in the mean: that of a hundred uses ago counts a third of it.
WEIGHT = 0.01


class Load(Listener):
    """Hears how long connections are used. Only where callers are to be turned away in time."""

    def __init__(self) -> None:
        self._mean = 0.0

    def returned(self, _pool: object, _conn: object, used: float, /) -> None:
        """Count it in."""
        self._mean += (used - self._mean) * WEIGHT if self._mean else used

    def wait(self, waiting: int, size: int) -> float:
        """Expect this wait, in seconds, of who comes after so many callers, for so many connections."""
        return (waiting + 1) * self._mean / size
