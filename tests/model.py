"""What a pool is, in plain Python: no tasks, no timers, no loop; one thing happens after the other.

`test_model.py` does the same to this and to a real pool, and they must agree on who holds what, who
waits in which order, and on every number. Only when an opening begins is for the pool to decide; what it
may and must not decide is said in `opening_begins()` and `something_is_forgotten`.
"""

from collections import Counter
from dataclasses import dataclass
from math import inf

# What the pool has decided once and for all, in seconds; patience is counted in failures.
OPEN_LIMIT, OPENING_COUNTED_ON = 30.0, 2.0
CHECK_LIMIT, CHECK_COUNTED_ON = 1.0, 0.1
PATIENCE, LONGEST_PAUSE, SHARE_OF_OPENING = 10, 1.0, 0.2
TOGETHER = 1.0


@dataclass(eq=False)
class Connection:
    number: int
    since: float  # in this place
    place: str = "opening"
    opened_at: float = inf
    expires: float = inf
    doom: str = "max_lifetime"  # why it expires
    broken: bool = False
    doubted: bool = False  # to be checked before it is lent again
    holder: "Caller | None" = None


@dataclass(eq=False)
class Caller:
    """Who waits in line for a connection or, beside it, until there are `goal` of them."""

    name: str
    deadline: float = inf
    goal: int = 0
    outcome: str = "waits"
    conn: Connection | None = None


@dataclass
class Model:
    """A pool, closed until `open()`. Where its option would be None, it is infinity."""

    now: float
    max_size: int
    min_size: int
    max_opening: int
    max_waiting: float
    max_idle: float
    max_lifetime: float
    check_after: float
    fault: str  # why a connection that comes back broken is closed

    def __post_init__(self):
        self.conns = []  # in the order of their last moves
        self.line = []
        self.goals = []
        self.severed = []  # connections closed under their holders
        self.closing = True
        self.outcomes, self.closed = Counter(), Counter()
        self.begun = self.opened = self.open_failed = 0

    def at(self, *places):
        return [conn for conn in self.conns if conn.place in places]

    @property
    def existing(self):
        return len(self.at("idle", "lent", "checking"))

    # ---- what callers do ---------------------------------------------------------------------

    def acquire(self, caller):
        """Lend the idle connection on top, or let the caller wait."""
        top = self.top()
        if self.closing:
            self.end(caller, "PoolClosed")
        elif top and self.fresh(top):
            self.lend(top, caller)
        elif len(self.line) >= self.max_waiting + max(0, self.max_size - len(self.at("lent"))):
            self.end(caller, "TooManyWaiters")
        else:
            self.line.append(caller)
            self.serve()

    def release(self, conn):
        """Take it back, also if it has been closed meanwhile."""
        if conn in self.severed:
            self.severed.remove(conn)
        else:
            self.come_back(conn)

    def cancel(self, caller):
        """Let a caller go; what it has been handed, but has not seen yet, goes to the next."""
        if caller.conn:
            self.outcomes["acquired"] -= 1
            self.release(caller.conn)
        else:
            (self.goals if caller in self.goals else self.line).remove(caller)
        self.end(caller, "CancelledError")

    def reach(self, caller):
        """Let a caller wait until as many connections exist as it wants."""
        if self.closing:
            self.end(caller, "PoolClosed")
        else:
            self.goals.append(caller)
            self.settle_goals()

    def settle_goals(self, error=None):
        for caller in list(self.goals):
            if error or self.existing >= min(caller.goal, self.max_size):
                self.goals.remove(caller)
                self.end(caller, error or "reached")

    def end(self, caller, outcome):
        caller.outcome = outcome
        self.outcomes[outcome] += 1

    # ---- where connections go ----------------------------------------------------------------

    def move(self, conn, place):
        self.conns.remove(conn)
        self.conns.append(conn)
        conn.place, conn.since, conn.doubted = place, self.now, False

    def lend(self, conn, caller):
        self.move(conn, "lent")
        conn.holder, caller.conn = caller, conn
        self.end(caller, "acquired")

    def close(self, conn, reason):
        self.conns.remove(conn)
        conn.place = "closed"
        self.closed[reason] += 1

    def come_back(self, conn):
        """Put it into the hands of the head of the line or on top of the idle, if it is of use."""
        if self.now >= conn.expires:
            self.close(conn, conn.doom)
        elif len(self.conns) > self.max_size:
            self.close(conn, "resized")
        elif conn.broken:
            self.lose(conn, self.fault)
        elif conn.doubted:
            self.move(conn, "checking")
        elif self.line:
            self.lend(conn, self.line.pop(0))
        else:
            self.move(conn, "idle")
        self.serve()

    def serve(self):
        """Have the idle on top checked, until there is a check to count on for each in line."""
        while len(self.line) > self.counted_on("checking") and (conn := self.top()):
            self.move(conn, "checking")

    def top(self):
        """Give the idle connection that was returned last; broken ones are closed on the way."""
        while idle := self.at("idle"):
            if not idle[-1].broken:
                return idle[-1]
            self.lose(idle[-1], "lost")
        return None

    def fresh(self, conn):
        return self.now < conn.since + min(self.check_after, self.max_idle)

    def counted_on(self, place):
        return sum(self.now < conn.since + self.patience[place] for conn in self.at(place))

    def lose(self, conn, reason):
        """Where a second one is lost at about the same time, all that are as old are lost."""
        self.close(conn, reason)
        if reason != "lost" or conn.opened_at <= self.gone:
            return
        if conn.opened_at > self.lost_at or self.now - self.lost_at > TOGETHER:
            self.lost_at = self.now
            if not any(other.broken for other in self.at("idle")):
                return
        self.gone = self.lost_at
        for other in [other for other in self.conns if other.opened_at <= self.gone]:
            other.doubted = other.place == "lent"
            if other.place == "idle":
                self.close(other, "lost")

    # ---- what openings and checks bring ------------------------------------------------------

    @property
    def wants_more(self):
        goal = max([self.min_size, *(caller.goal for caller in self.goals)])
        coming = self.counted_on("checking") + self.counted_on("opening")
        return not self.closing and (len(self.conns) < goal or len(self.line) > coming)

    def opening_begins(self):
        """It may if it is wanted, and neither makes too many connections nor too many openings."""
        assert self.wants_more
        assert len(self.conns) < self.max_size
        assert len(self.at("opening")) < self.max_opening
        self.begun += 1
        self.conns.append(Connection(self.begun, self.now))

    def open_succeeds(self, conn):
        if conn.doom == "drained":
            self.conns.remove(conn)
            return
        self.opened += 1
        self.failures = 0
        took = self.now - conn.since
        self.pause_ends = self.now + took * SHARE_OF_OPENING
        conn.opened_at, conn.expires = self.now, self.now + self.max_lifetime
        self.come_back(conn)
        self.settle_goals()
        self.reap()
        self.patience["checking"] = max(CHECK_COUNTED_ON, took)
        self.serve()

    def open_fails(self, conn, error):
        """Tell callers, if neither another try nor another connection could help them."""
        self.conns.remove(conn)
        if conn.doom == "drained":
            return
        self.open_failed += 1
        self.failures += 1
        self.pause_ends = self.now + LONGEST_PAUSE
        if error == "Hopeless" or self.failures > PATIENCE:
            self.settle_goals(error)
            while self.line and not self.conns:
                self.end(self.line.pop(0), error)

    def check_ends(self, conn, good):
        """What has befallen one has befallen all that are idle for longer."""
        if good and not conn.broken:
            conn.opened_at = conn.since  # as good as new
            self.come_back(conn)
            return
        for other in [conn, *(idle for idle in self.at("idle") if not self.fresh(idle))]:
            self.close(other, "check_failed")
        self.serve()

    # ---- what time brings --------------------------------------------------------------------

    def time_is(self, now):
        self.now = now
        self.reap()
        for conn in self.at("opening"):
            if now >= conn.since + OPEN_LIMIT:
                self.open_fails(conn, "TimeoutError")
        for conn in self.at("checking"):
            if now >= conn.since + CHECK_LIMIT:
                self.check_ends(conn, good=False)
        if self.closing and now >= self.grace_ends:
            self.severed += self.at("lent")
            self.retire("pool_closed", "lent")
        self.serve()

    def reap(self):
        """Close the idle whose life has ended and, above `min_size`, those idle for too long."""
        for conn in self.at("idle"):
            if self.now >= conn.expires:
                self.close(conn, conn.doom)
            elif self.now >= conn.since + self.max_idle and self.existing > self.min_size:
                self.close(conn, "max_idle")

    # ---- what operators do -------------------------------------------------------------------

    def open(self, caller):
        """Begin a life, if none goes on or is still ending."""
        if self.closing and not self.conns:
            self.closing, self.grace_ends, self.failures = False, inf, 0
            self.pause_ends = self.lost_at = self.gone = -inf
            self.patience = {"opening": OPENING_COUNTED_ON, "checking": CHECK_COUNTED_ON}
        self.reach(caller)

    def resize(self, max_size, min_size):
        self.max_size, self.min_size = max_size, min_size
        if not self.closing:
            while len(self.conns) > max_size and (idle := self.at("idle")):
                self.close(idle[0], "resized")
            self.settle_goals()
            self.reap()

    def drain(self):
        if not self.closing:
            self.retire("drained", "idle")

    def aclose(self, grace):
        """Send everybody away, and close all but what is lent, which has some grace."""
        if not self.closing:
            self.closing = True
            while waiting := self.line or self.goals:
                self.end(waiting.pop(), "PoolClosed")
            self.retire("pool_closed", "idle", "checking")
            self.conns = self.at("lent")
        self.grace_ends = min(self.grace_ends, self.now + grace)
        self.time_is(self.now)

    def retire(self, reason, *places):
        """Close those in these places now, and the others when they come back."""
        for conn in list(self.conns):
            conn.expires, conn.doom = -inf, reason
            if conn.place in places:
                self.close(conn, reason)

    # ---- what is so when all is quiet --------------------------------------------------------

    def come_to_rest(self):
        """Let those go who have waited long enough."""
        for caller in [caller for caller in self.line if self.now >= caller.deadline]:
            self.line.remove(caller)
            self.end(caller, "PoolTimeout")

    @property
    def something_is_forgotten(self):
        """What is wanted and possible is being opened, or will be after a pause."""
        possible = len(self.conns) < self.max_size and self.now >= self.pause_ends
        return self.wants_more and possible and not self.at("opening")

    def stats(self):
        return {
            "max_size": self.max_size,
            "min_size": self.min_size,
            "size": len(self.conns),
            **{place: len(self.at(place)) for place in ("idle", "lent", "opening", "checking")},
            "waiting": len(self.line),
            "acquired": self.outcomes["acquired"],
            "timed_out": self.outcomes["PoolTimeout"],
            "rejected": self.outcomes["TooManyWaiters"],
            "opened": self.opened,
            "open_failed": self.open_failed,
            "closed": dict(self.closed),
        }
