"""Something to be asked of Sentinel: by one at a time, whoever wants to know."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from math import inf
from typing import Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

from aiopool._errors import likeness
from aiopool.redis._later import task_of

T = TypeVar("T")

# How long an answer holds, in seconds.
KEPT_FOR = 1.0

# How long to wait for an answer. redis-py asks one Sentinel after the other, each as often and as long as
# its own options say: of one that is gone, that is seconds. So after this time another is asked first;
# and in case that all are slow, the time doubles up to the other limit.
PATIENCE, MOST_PATIENCE = 1.0, 30.0


class Question(Generic[T]):
    """Asks when somebody wants to know and the last answer is too old."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Callable[[], Awaitable[T]],
        heard: Callable[[T], None],
        asked_first: Callable[[], object],
        hung: Callable[[object], None],
    ) -> None:
        """Ask by `ask()`. `heard` is told the answer before all others, `hung` that none came in time.

        The latter is told who was asked first then, too.
        """
        self._loop = loop
        self._ask = ask
        self._heard = heard
        self._asked_first = asked_first
        self._hung = hung
        self._patience = PATIENCE
        self._answer: T | None = None
        self._until = -inf  # so long the answer holds
        self._task: asyncio.Task[T] | None = None  # asks now
        self._outdated: asyncio.Task[T] | None = None  # asks, but has begun too early
        self._waiting = 0

    def forget(self) -> None:
        """Not use what was answered, or is just being answered."""
        self._until = -inf
        self._outdated = self._task

    async def answer(self) -> T:
        """Give an answer that is no older than `KEPT_FOR` and than the last `forget()`."""
        while self._loop.time() >= self._until:
            task = self._task or self._begin()
            outdated = task is self._outdated
            self._waiting += 1
            try:
                await asyncio.wait([task])
            finally:
                self._waiting -= 1
                if not self._waiting and not task.done():
                    self._task = None  # nobody wants to know any more
                    task.cancel()
            if not outdated:
                return self._result(task)
        return self._answer  # type: ignore[return-value]  # there is one until then

    def _begin(self) -> "asyncio.Task[T]":
        self._task = task = task_of(self._asked(), "aiopool-discovery", Context())
        task.add_done_callback(self._answered)
        return task

    async def _asked(self) -> T:
        first = self._asked_first()
        try:
            async with asyncio.timeout(self._patience):
                return await self._ask()
        except TimeoutError as error:
            msg = f"no Sentinel has answered within {self._patience:g} s"
            self._patience = min(2 * self._patience, MOST_PATIENCE)
            self._hung(first)
            raise RedisConnectionError(msg) from error

    def _answered(self, task: "asyncio.Task[T]") -> None:
        if task is self._task:
            self._task = None
        if task.cancelled() or task.exception() is not None:
            return
        self._patience = PATIENCE
        if task is not self._outdated:
            self._answer = task.result()
            self._until = self._loop.time() + KEPT_FOR
            self._heard(self._answer)

    def _result(self, task: "asyncio.Task[T]") -> T:
        if task.cancelled():
            msg = "the task that asked Sentinel was cancelled"
            raise RedisConnectionError(msg)
        if isinstance(error := task.exception(), Exception):
            raise likeness(error) from error.__cause__
        return task.result()
