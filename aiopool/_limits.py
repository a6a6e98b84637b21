"""The options: what they may be, and the errors that say so."""

from dataclasses import dataclass
from math import inf, isfinite
from random import uniform

# Connections that were opened together must not be closed together: their lifetime is cut by up to
# this share, at random. (HikariCP cuts 2.5 %, psycopg_pool 5 %; ten spread an hour over 6 minutes.)
LIFETIME_JITTER = 0.1


def whole(option: str, value: object, least: int, most: int | None = None) -> int:
    """Check a whole number; the error names the option, the value and the allowed range."""
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{option} must be an int, not {_kind(value)}"
        raise TypeError(msg)
    if value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"from {least} to {most}"
        msg = f"{option}={value} is out of range: it must be {span}"
        raise ValueError(msg)
    return value


def seconds(option: str, value: object, *, positive: bool = False) -> float | None:
    """Check a duration in seconds, where None means no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{option} must be a number of seconds or None (no limit), not {_kind(value)}"
        raise TypeError(msg)
    try:
        fits = isfinite(value) and value >= 0 and not (positive and value == 0)
    except OverflowError:  # an int beyond all floats
        fits = False
    if not fits:
        span = "above 0" if positive else "0 or more"
        msg = f"{option}={value} is out of range: it must be {span} seconds, or None (no limit)"
        raise ValueError(msg)
    return float(value)


def flag(option: str, value: object) -> bool:
    """Check a switch."""
    if not isinstance(value, bool):
        msg = f"{option} must be a bool, not {_kind(value)}"
        raise TypeError(msg)
    return value


def text(option: str, value: object) -> str | None:
    """Check a string, where None means none."""
    if value is not None and not isinstance(value, str):
        msg = f"{option} must be a str or None, not {_kind(value)}"
        raise TypeError(msg)
    return value


def _kind(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


@dataclass(frozen=True, slots=True)
class Limits:
    """The options of one pool, checked. `Pool` says what each of them means."""

    max_size: int
    min_size: int
    timeout: float | None
    max_waiting: int | None
    max_idle: float | None
    max_lifetime: float | None
    check_after: float | None
    max_opening: int
    leak_after: float | None
    reclaim: bool
    shed: bool

    def __post_init__(self) -> None:
        """Check everything, here and so for `dataclasses.replace` too."""
        whole("max_size", self.max_size, 1)
        whole("min_size", self.min_size, 0, self.max_size)
        seconds("timeout", self.timeout)
        if self.max_waiting is not None:
            whole("max_waiting", self.max_waiting, 0)
        seconds("max_idle", self.max_idle, positive=True)
        seconds("max_lifetime", self.max_lifetime, positive=True)
        seconds("check_after", self.check_after)
        whole("max_opening", self.max_opening, 1)
        seconds("leak_after", self.leak_after, positive=True)
        if flag("reclaim", self.reclaim) and self.leak_after is None:
            msg = "reclaim=True needs leak_after: only what is looked after can be reclaimed"
            raise ValueError(msg)
        flag("shed", self.shed)

    @property
    def fresh_for(self) -> float:
        """How long after its return an idle connection is lent after a mere look."""
        return min(
            inf if self.check_after is None else self.check_after,
            inf if self.max_idle is None else self.max_idle,
        )

    def expiry(self, opened_at: float) -> float:
        """When a connection opened at that time has lived long enough."""
        if self.max_lifetime is None:
            return inf
        return opened_at + self.max_lifetime * uniform(1 - LIFETIME_JITTER, 1)  # noqa: S311 - no secret
