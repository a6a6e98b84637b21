"""Who comes when: the requests of one run, decided beforehand from a seed."""

from dataclasses import dataclass
from math import pi, sin
from random import Random
from typing import Literal

Way = Literal["connection", "client", "pipeline"]

_TRICKLE = 15  # requests per second between the waves
_WAVES = (60, 140, 320)  # what the crest of each adds; ten connections can't serve the last in time
_WAYS: tuple[tuple[Way, ...], tuple[float, ...]] = (
    ("connection", "client", "pipeline"),
    (0.6, 0.25, 0.15),
)
_CANCELLED = 0.15


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come. All times are seconds."""

    at: float
    """After the start of the run."""
    way: Way
    """By which part of the API it talks to Redis."""
    slow: float
    """How long its slow command takes the server, if its way has one."""
    cancel_after: float | None
    """After its arrival. It may have finished by then."""


def plan(seed: int, seconds: float) -> list[Arrival]:
    """Make up the requests that arrive in so many seconds."""
    random = Random(seed)  # noqa: S311 - a seed shall give the same requests again
    arrivals: list[Arrival] = []
    at = 0.0
    while (at := at + random.expovariate(_rate(at / seconds))) < seconds:
        (way,) = random.choices(*_WAYS)
        slow = random.uniform(0.05, 0.2)
        cancel_after = random.uniform(0, 0.3) if random.random() < _CANCELLED else None
        arrivals.append(Arrival(at, way, slow, cancel_after))
    return arrivals


def _rate(progress: float) -> float:
    """Tell how many requests per second arrive after this part of the run, from 0 to 1."""
    wave, position = divmod(min(progress, 0.999) * len(_WAVES), 1)
    return _TRICKLE + _WAVES[int(wave)] * sin(pi * position) ** 2
