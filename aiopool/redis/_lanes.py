"""The commands of one client: the line in which they wait, and the lanes on which they are under way."""

import asyncio
from collections import deque
from contextvars import Context
from functools import partial
from math import inf

from aiopool._alarm import Alarm, weakly
from aiopool._errors import likeness
from aiopool._idle import Entry
from aiopool._places import Places

from ._connection import Accountable
from ._core import RedisCore
from ._lane import Final, Lane, Reply
from ._later import task_of

# Of what waits, so many bytes are written at a time, and then it is seen which lane takes the next.
AT_ONCE = 65536

# For how many seconds a lane that is never idle may go on while others wait for a connection of the pool.
TURN = 1.0

_DONE = Reply.done


class Lanes:
    """Up to so many lanes, during one life of the pool.

    A command is in the line until it is written, then on a lane until it is answered. Who is first in
    the line is written first. What is there at the end of a turn of the loop goes out together.

    A lane has a connection lent by the pool only while commands are under way on it. So what the pool
    does to its connections it does to lanes, between two uses; and one that is always in use is given
    back when the pool wants it back, or after a `TURN` if somebody waits for a connection.
    """

    def __init__(
        self,
        core: RedisCore,
        places: Places[Accountable],
        most: int,
        max_in_flight: int,
    ) -> None:
        """Make up to `most` lanes, with so many commands under way at once in all."""
        self.places = places
        self._core = core
        self._loop = places.loop
        self._time = places.time
        self._most = most
        self._max_in_flight = max_in_flight
        timeout = places.limits.timeout
        self._patience = inf if timeout is None else timeout
        self._context = Context()  # not that of whoever happens to be first
        # What was asked for in this turn of the loop.
        self._replies: list[Reply] = []
        self._commands: list[bytes] = []
        # What could not be written at its end: the reply, the command, and until when it may wait.
        self._line: deque[tuple[Reply, bytes, float]] = deque()
        self._withdrawn = 0  # at most so many in the line are of callers that were cancelled
        self._open: list[Lane] = []  # that take commands
        self._leaving: list[Lane] = []  # that only wait for replies
        self._waiter: asyncio.Future[Entry[Accountable] | None] | None = None  # in the pool's line
        self._check: asyncio.Task[None] | None = None  # of a connection, before it becomes a lane's
        self._alarm = Alarm(self._loop, weakly(self._ring))
        # What asyncio's loop is still to run in this turn, of which there is no public look; True where
        # it can't be told.
        ready = getattr(self._loop, "_ready", None)
        self._ready: deque[object] | bool = ready if isinstance(ready, deque) else True
        places.lines.add(self)

    @property
    def in_flight(self) -> int:
        """How many commands were written and not answered yet."""
        return sum([len(lane.sent) for lane in self._open + self._leaving])

    def get_name(self) -> str:
        """Say who waits in the pool's line."""
        return "aiopool-lane"

    # ---- what the client asks ----------------------------------------------------------------

    def ask(self, command: bytes) -> Reply:
        """Have a command written at the end of this turn of the loop, or when its turn comes."""
        reply: Reply = self._loop.create_future()
        replies = self._replies
        replies.append(reply)
        self._commands.append(command)
        if len(replies) == 1:
            if self._ready or self._open:
                self._loop.call_soon(self._end_turn, context=self._context)
            else:  # nothing else is to run in this turn, so it is at its end
                self._end_turn()
        return reply

    def withdraw(self) -> None:
        """Note that who waited for a reply was cancelled, whose command may be in the line."""
        self._withdrawn += 1
        if self._withdrawn * 2 > len(self._line) + 64:
            self._withdrawn = 0
            waiting = [item for item in self._line if not item[0].done()]
            self._line.clear()
            self._line.extend(waiting)
        self._leave_the_pools_line()

    # ---- from the line to the lanes ----------------------------------------------------------

    def _end_turn(self) -> None:
        """Write what was asked for in this turn, or put it into the line."""
        replies, self._replies = self._replies, []
        commands, self._commands = self._commands, []
        now = self._time()
        together = b"".join(commands)
        lane = None
        try:
            if (
                not self._line
                and len(together) <= AT_ONCE
                and True not in map(_DONE, replies)  # else who waited was cancelled
                and self.in_flight + len(replies) <= self._max_in_flight
            ):
                lane = self._lane(now)
        finally:
            if lane is None:
                until = now + self._patience
                self._line.extend([(*item, until) for item in zip(replies, commands, strict=True)])
        if lane is None:
            self._flush()
        else:  # nearly always
            lane.send(replies, together, now)

    @property
    def _wanted(self) -> bool:
        """Whether somebody is in the line who was not cancelled."""
        line = self._line
        while line and line[0][0].done():
            line.popleft()
        return bool(line)

    def _flush(self) -> None:
        line = self._line
        now = self._time()
        try:
            while self._wanted:
                room = self._max_in_flight - self.in_flight
                lane = self._lane(now) if room > 0 else None
                if lane is None:
                    break
                replies: list[Reply] = []
                commands: list[bytes] = []
                size = 0
                while line and size < AT_ONCE and len(replies) < room:
                    reply, command, _ = line.popleft()
                    if not reply.done():  # else who waited was cancelled
                        replies.append(reply)
                        commands.append(command)
                        size += len(command)
                lane.send(replies, b"".join(commands), now)
        finally:
            if line:
                self.ring_at(line[0][2])

    def _lane(self, now: float) -> Lane | None:
        """Find the lane with the least to do, and see to another if all have something to do."""
        if not (self._open or self._leaving or self._waiter or self._check):
            return self._another(now)
        least: Lane | None = None
        for lane in self._open.copy():
            if self._must_leave(lane, now):
                self._open.remove(lane)
                self._leaving.append(lane)
            elif not lane.full and (least is None or len(lane.sent) < len(least.sent)):
                least = lane
        if least is not None and not least.sent:
            return least
        if not (self._waiter or self._check):
            # What is condemned may be answered late or never, and does not take another's place.
            leaving = [lane for lane in self._leaving if now < lane.entry.expires]
            if len(self._open) + len(leaving) < self._most:
                return self._another(now) or least
        return least

    def _must_leave(self, lane: Lane, now: float) -> bool:
        places = self.places
        others_wait = places.line.outnumbers(0 if self._waiter is None else 1)
        return (
            lane.is_wanted_back(now)
            or places.permits.over
            or (others_wait and now - lane.since > TURN)
        )

    def _another(self, now: float) -> Lane | None:
        """Lend one more connection, at once if one is idle."""
        places = self.places
        if places.closing:
            self._refuse(self._core.closed_error())
            return None
        entry = places.lend_idle(now)
        if entry is not None:
            return self._begin(entry, 0.0)
        self._waiter = places.line.join(inf, self, now)
        if places.events.waiting:
            places.events.tell("waiting")
        self._waiter.add_done_callback(partial(self._handed, now), context=self._context)
        places.stir()
        return None

    def _handed(self, since: float, waiter: "asyncio.Future[Entry[Accountable] | None]") -> None:
        if waiter.cancelled():
            return
        self._waiter = None
        if (error := waiter.exception()) is not None:
            assert isinstance(error, Exception)  # noqa: S101 - for the type checkers
            self._tell_that_it_has_left()
            self._refuse(error)
        elif (entry := waiter.result()) is not None:
            if not self._wanted or not entry.conn.is_connected:  # any more
                self.places.take_back(entry.conn, taken=False)
                self._tell_that_it_has_left()
                if self._wanted:
                    self._flush()
            elif (lane := self._begin(entry, self._time() - since)) is not None:
                self._use(lane)

    def _leave_the_pools_line(self) -> None:
        """Wait for a connection no longer, if nobody needs it."""
        waiter = self._waiter
        if waiter is not None and not waiter.done() and not self._wanted:
            self._waiter = None
            self.places.line.leave(waiter)
            waiter.cancel()
            self._tell_that_it_has_left()

    def _tell_that_it_has_left(self) -> None:
        if self.places.events.left:
            self.places.events.tell("left")

    def _begin(self, entry: Entry[Accountable], waited: float) -> Lane | None:
        """Make a lane of a connection, at once unless redis-py would check its health first."""
        conn = entry.conn
        entry.task = self
        self._core.lent_to_a_lane(self.places, conn, waited)
        if conn.health_check_interval and self._loop.time() > conn.next_health_check:
            self._check = task_of(self._check_health(entry), "aiopool-lane-check", self._context)
            return None
        return self._open_lane(entry)

    def _open_lane(self, entry: Entry[Accountable]) -> Lane:
        lane = Lane(self, entry, self._context, self._time())
        self._open.append(lane)
        return lane

    async def _check_health(self, entry: Entry[Accountable]) -> None:
        try:
            await entry.conn.check_health()  # type: ignore[no-untyped-call]  # not typed
        except Exception as error:  # noqa: BLE001 - it is for those who wait
            self._check = None
            self._core.back_from_a_lane(self.places, entry.conn)
            if self._open or self._leaving:
                self._flush()
            else:
                self._refuse(error)
        except BaseException:  # from outside
            self._check = None
            self._core.back_from_a_lane(self.places, entry.conn)
            self._flush()
            raise
        else:
            self._check = None
            if self._wanted and entry.conn.is_connected:
                self._use(self._open_lane(entry))
            else:
                self._core.back_from_a_lane(self.places, entry.conn)
                self._flush()

    def _use(self, lane: Lane) -> None:
        """Go on with the line on a new lane, unless the pool wants the connection back by now."""
        self._flush()
        if not lane.sent and lane in self._open + self._leaving:
            lane.end()

    def fail(self, error: Exception) -> None:
        """Send away all of whom the command was not written yet: the pool is closing."""
        now = self._time()
        self._line.extend((reply, b"", now) for reply in self._replies)
        self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Send away all who are in the line."""
        replies = [reply for reply, _, _ in self._line]
        self._line.clear()
        for reply in replies:
            if not reply.done():
                reply.set_exception(Final(likeness(error)))

    # ---- what lanes tell ---------------------------------------------------------------------

    def has_room(self) -> None:
        """Go on with the line."""
        if self._line:
            self._flush()

    def ended(self, lane: Lane) -> None:
        """Give its connection back."""
        lanes = self._open if lane in self._open else self._leaving
        if lane in lanes:  # else it has failed once more
            lanes.remove(lane)
            self._core.back_from_a_lane(self.places, lane.entry.conn)
            self.has_room()

    # ---- time limits -------------------------------------------------------------------------

    def ring_at(self, when: float) -> None:
        """Look at the time limits then."""
        if when < self._alarm.when:
            self._alarm.at(when)

    def _ring(self) -> None:
        now = self._time()
        for lane in self._open + self._leaving:
            if lane.is_dead(now):
                lane.give_up()
        line = self._line
        late: list[Reply] = []
        while self._wanted and line[0][2] <= now:
            late.append(line.popleft()[0])
        if late:
            error = self._time_is_up(len(late))
            for reply in late:
                reply.set_exception(Final(likeness(error)))
            self._leave_the_pools_line()
        when = min(
            [lane.due() for lane in self._open + self._leaving] + [line[0][2] if line else inf]
        )
        if when < inf:
            self.ring_at(when)

    def _time_is_up(self, times: int) -> Exception:
        """Tell so many that there was no room for their commands, or no connection."""
        lanes = len(self._open) + len(self._leaving)
        what = f"no room for a command on {lanes} of {self._most} lanes"
        return self._core.time_is_up(
            times,
            f"{what if lanes else 'no connection for a command'} within {self._patience:g} s,"
            f" {self.in_flight} in flight, {len(self._line)} others waiting",
            self._patience,
        )
