"""A command in a pipeline of a cluster."""

import asyncio
from typing import Any

from redis.asyncio.cluster import PipelineCommand


class Queued(PipelineCommand):
    """As redis-py's; it knows whether it was answered, which nothing and 0 don't tell."""

    def __init__(self, position: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(position, *args, **kwargs)
        self.task: asyncio.Task[Any] | None = None  # that has sent it
        self.answered = False  # and not with an error

    @property
    def result(self) -> Any:
        """What it was answered with, or how it has failed."""
        return self._result

    @result.setter
    def result(self, result: Any) -> None:
        self._result = result
        self.answered = not isinstance(result, Exception)
