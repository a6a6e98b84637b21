"""One connection on which the commands of many tasks are under way at once."""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from math import inf
from typing import Any, Protocol, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from aiopool._errors import likeness
from aiopool._idle import Entry

from ._connection import Accountable
from ._decoding import decoded
from ._later import task_of
from ._lean import PLAIN, Lean
from ._ledger import Ledger
from ._sharing import alone
from ._wire import INCOMPLETE, TimeIsUp

# What the transport holds back before the lane takes no more: asyncio's own high-water mark.
HIGH_WATER = 65536

# While a connection is a lane's, its ledger is this one. If the lane ends in any other way than with the
# last reply, the connection is closed.
_A_LANES = Ledger()
_A_LANES.stain()
_A_LANES.listens = True

Reply = asyncio.Future[Any]


class Final(Exception):
    """Wraps an error after which no other try is due.

    The pool could lend no connection, for which it has done all it can; or it has closed the one that
    was lent.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Owner(Protocol):
    """What a lane tells of itself."""

    def ring_at(self, when: float, /) -> None:
        """Hear that it wants to be asked by then whether it `is_dead()`."""
        ...

    def has_room(self) -> None:
        """Hear that replies have come, or that the peer takes bytes again."""
        ...

    def ended(self, lane: "Lane", /) -> None:
        """Hear that it is over with the connection, which may be given back."""
        ...


class Lane:
    """Writes commands, and gives each reply, which come in the same order, to who waits for it.

    It has the connection from the first command until none is under way. Meanwhile it reads what
    arrives on the wire; where there is none, a task of its own reads in redis-py's way. It decodes
    nothing: a reply that can't be decoded shall be an error of its caller alone.
    """

    __slots__ = (
        "_conn",
        "_context",
        "_doubted",
        "_ledger",
        "_owner",
        "_task",
        "_total",
        "_transport",
        "_wire",
        "_written",
        "entry",
        "sent",
        "since",
    )

    def __init__(
        self, owner: Owner, entry: Entry[Accountable], context: Context, now: float
    ) -> None:
        """Take over a connection that was lent and is connected."""
        conn = cast("Lean", entry.conn)
        self.entry = entry
        self.since = now
        self.sent: deque[Reply] = deque()  # of the commands under way
        self._conn = conn
        self._owner = owner
        self._context = context
        self._transport = conn.transport
        self._written: deque[tuple[float, int]] = deque()  # when, and how many there were by then
        self._total = 0
        self._doubted = -1  # so many had been answered when it last looked dead
        # Reads where there is no wire; else handles a push message, for which replies wait.
        self._task: asyncio.Task[None] | None = None
        self._ledger, conn.ledger = conn.ledger, _A_LANES
        self._wire = conn.wire
        if self._wire is not None:
            conn.read_by(self)
        entry.task = self

    def get_name(self) -> str:
        """Tell who has the connection, as a task would."""
        return f"(lane: {len(self.sent)} commands under way)"

    @property
    def full(self) -> bool:
        """Whether it takes no commands for now."""
        transport, wire = self._transport, self._wire
        return (
            transport.is_closing()
            or (wire is not None and wire.over)  # of which the transport may say nothing yet
            or transport.get_write_buffer_size() > HIGH_WATER
        )

    def is_wanted_back(self, now: float) -> bool:
        """Whether the connection is to be given back soon, to be closed or checked."""
        return now >= self.entry.fresh_until or bool(self._conn.should_reconnect())  # type: ignore[no-untyped-call]  # not typed

    # ---- writing -----------------------------------------------------------------------------

    def send(self, replies: Iterable[Reply], commands: bytes, now: float) -> None:
        """Write commands, for the replies to which these wait."""
        sent = self.sent
        self._forget_answered()
        before = len(sent)
        sent.extend(replies)
        self._total += len(sent) - before
        self._written.append((now, self._total))
        try:
            self._transport.write(commands)
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            self.fail(error)
            return
        if self._wire is None and self._task is None:
            self._task = task_of(self._read(), "aiopool-lane", self._context)
        if (timeout := self._conn.socket_timeout) is not None:
            self._owner.ring_at(now + timeout)

    # ---- the time limit ----------------------------------------------------------------------

    def due(self) -> float:
        """Say by when the oldest command under way must have been answered."""
        timeout = self._conn.socket_timeout
        if timeout is None or not self.sent:
            return inf
        self._forget_answered()
        return self._written[0][0] + timeout

    def _forget_answered(self) -> None:
        answered = self._total - len(self.sent)
        written = self._written
        while written and written[0][1] <= answered:
            written.popleft()

    def is_dead(self, now: float) -> bool:
        """Whether it is overdue, and was so when it was last asked, without any progress since.

        It is to be asked again a turn of the loop later: if the loop was late, the replies may be
        here, but not be read yet.
        """
        if now < self.due():
            return False
        doubted, self._doubted = self._doubted, self._total - len(self.sent)
        return doubted == self._doubted

    def reschedule(self, when: float | None) -> None:
        """Look at the time limit anew, which redis-py has changed, as `asyncio.Timeout` does."""
        if when is not None:
            self._owner.ring_at(when)

    # ---- reading -----------------------------------------------------------------------------

    def read(self, data: bytes) -> None:
        """Take in bytes."""
        assert self._wire is not None  # noqa: S101 - for the type checkers
        try:
            self._wire.hiredis.feed(data)
            if self._task is None:
                self._take_replies()
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            self.fail(error)
        else:
            self._go_on()

    def _take_replies(self) -> None:
        """Give out replies, up to the next push message."""
        wire = self._wire
        assert wire is not None  # noqa: S101 - likewise
        sent, gets = self.sent, wire.hiredis.gets
        while (reply := gets(False)) is not INCOMPLETE:  # noqa: FBT003 - hiredis names no argument
            if type(reply) in PLAIN or self._is_plain(reply):
                waiting = sent.popleft()
                if not waiting.done():  # else who waited was cancelled
                    waiting.set_result(reply)
            elif not isinstance(reply, wire.push_type):
                self._answer_with(cast("Exception", reply[0] if type(reply) is list else reply))
            else:
                self._task = task_of(self._handle(reply), "aiopool-push", self._context.copy())
                break

    def _go_on(self) -> None:
        if self.sent:
            self._owner.has_room()
        elif self._task is None:
            self.end()

    def _is_plain(self, reply: Any) -> bool:
        """Whether a reply of an unusual type is to be passed on as it is."""
        if type(reply) is list:
            return not (reply and isinstance(reply[0], RedisConnectionError))
        assert self._wire is not None  # noqa: S101 - for the type checkers
        return not isinstance(reply, (Exception, self._wire.push_type))

    def _answer_with(self, error: Exception) -> None:
        error = self._conn.told(error)
        if isinstance(error, RedisConnectionError):
            self.entry.condemn("unusable")  # by redis-py's ways a connection ends with such a reply
        waiting = self.sent.popleft()
        if not waiting.done():
            waiting.set_exception(error)

    async def _handle(self, push: list[Any]) -> None:
        """Handle a push message before what came after it."""
        alone.set(True)  # a command of the handler's must not wait for it here
        try:
            conn = self._conn
            if conn.encoder.decode_responses:
                with suppress(UnicodeError):  # then the handler gets the bytes
                    push = decoded(push, conn.encoder)
            await conn.handle_push(push)
            if self.entry.task is not self:
                return  # the lane has failed meanwhile
            self._task = None
            self._take_replies()
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            self.fail(error)
        except BaseException:
            self._cancelled("handled a push message")
            raise
        else:
            self._go_on()

    async def _read(self) -> None:
        """Read replies as redis-py does."""
        try:
            while self.sent:
                await self._read_one()
                if self.sent:
                    self._owner.has_room()
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            self.fail(error)
        except BaseException:
            self._cancelled("read the replies")
            raise
        else:
            if self.entry.task is self:  # else it has failed in writing
                self.end()

    async def _read_one(self) -> None:
        try:
            reply = await self._conn.read_response(disable_decoding=True)
        except ResponseError as error:
            self._answer_with(error)
        else:
            waiting = self.sent.popleft()
            if not waiting.done():
                waiting.set_result(reply)

    # ---- the end -----------------------------------------------------------------------------

    def end(self) -> None:
        """Leave a connection on which nothing is under way."""
        self._leave()
        conn = self._conn
        conn.ledger = self._ledger
        if conn.health_check_interval:
            now = asyncio.get_running_loop().time()
            conn.next_health_check = now + conn.health_check_interval
        self._owner.ended(self)

    def _cancelled(self, task: str) -> None:
        self.entry.condemn("unusable")
        self.fail(RedisConnectionError(f"the task that {task} was cancelled"))

    def fail(self, error: Exception) -> None:
        """Close the connection; all who wait get redis-py's word for the error."""
        self._leave()
        sent, self.sent = self.sent, deque()
        conn = self._conn
        error = conn.in_redis_pys_words(error)
        by_the_pool = conn.discarded
        conn.abort()
        self._owner.ended(self)
        for waiting in sent:
            if not waiting.done():
                own = likeness(error)
                waiting.set_exception(Final(own) if by_the_pool else own)

    def _leave(self) -> None:
        self._task = None
        if self._wire is not None:
            self._conn.read_by(None)

    def give_up(self) -> None:
        """End it for its silence."""
        self.fail(TimeIsUp())

    def may_write(self) -> None:
        """Go on with what waits for the peer to take bytes again."""
        self._owner.has_room()
