"""Capacity: a semaphore of which only the half that never waits is needed.

Who must wait for a connection stands in the line (`_line.py`), not here: a semaphore with waiters
of its own would be a second line, and the two would disagree about whose turn it is.
"""


class Permits:
    """`total` permits, of which `taken` are out. `taken > total` only after shrinking."""

    __slots__ = ("taken", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0

    @property
    def free(self) -> bool:
        """Whether one can be taken."""
        return self.taken < self.total

    @property
    def over(self) -> bool:
        """Whether more are out than there should be: the next to come back are swallowed."""
        return self.taken > self.total

    def take(self) -> bool:
        """Take one if one is free."""
        if self.free:
            self.taken += 1
            return True
        return False

    def give(self) -> None:
        """Give one back. One too many is a bug of the pool, so it is not forgiven."""
        if self.taken == 0:
            msg = "a permit was given back that nobody had taken"
            raise RuntimeError(msg)
        self.taken -= 1
