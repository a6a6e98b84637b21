"""Those who wait until so many connections exist: callers of `open()` and `warm()`."""

import asyncio


class Goals:
    """Sizes that are to be reached, each with the future of who waits for it."""

    __slots__ = ("_loop", "_sizes")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._sizes: dict[asyncio.Future[Exception | None], int] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._sizes)

    @property
    def size(self) -> int:
        """The highest of them."""
        return max(self._sizes.values(), default=0)

    def add(self, size: int) -> "asyncio.Future[Exception | None]":
        """Wait for this size; the result is what prevents it, if anything does."""
        goal: asyncio.Future[Exception | None] = self._loop.create_future()
        goal.add_done_callback(self._sizes.pop)
        self._sizes[goal] = size
        return goal

    def settle(self, existing: int, most: int, error: Exception | None) -> None:
        """Tell those whose size is reached, or can't be; with an error, everybody."""
        for goal, size in self._sizes.items():
            if not goal.done() and (error or existing >= min(size, most)):
                goal.set_result(error)
