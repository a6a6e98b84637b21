"""The method: contenders take turns, so that whatever disturbs the machine disturbs them all.

In each round each contender has one turn, which gives one sample; the next round begins with the next
contender. So the ratio of two samples of the same round is of the same minute, and the spread of the
ratios over the rounds tells how much to make of them. Where turns can be short, a round consists of
several laps, and a sample is the mean of as many turns: that halves the spread in the same time.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean
from time import perf_counter
from typing import TypeVar, cast

from .contender import CannotTakePart, Contender
from .results import Absence, Series, Setting

T = TypeVar("T")

CONNECTIONS = 10  # in all scenarios that do not say otherwise
PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
_LIMIT = 60.0  # seconds that a turn may take


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is to be done."""

    rounds: int
    seconds: float
    """The least that a sample should last."""
    size: str
    """full, quick, or smoke: just to see that it works."""

    def pick(self, full: T, quick: T, smoke: T) -> T:
        """Choose by size."""
        return {"full": full, "quick": quick, "smoke": smoke}[self.size]


@dataclass(slots=True)
class Sample:
    """What one turn gives."""

    value: float
    latencies: list[float] = field(default_factory=list[float])
    waits: list[float] = field(default_factory=list[float])
    counts: dict[str, float] = field(default_factory=dict[str, float])


Turn = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured of several contenders."""

    name: str
    tasks: int
    contenders: Sequence[Contender]
    opened: Callable[[Contender, str], AbstractAsyncContextManager[Turn]]
    """Opens a contender on the server with this URL for its turns."""
    unit: str = "s"
    warm_ups: int = 1
    laps: int = 1
    """How many turns each contender has in a round."""
    server: Callable[[str], AbstractContextManager[str]] = nullcontext
    """Gives the URL of the server that it takes, if it is not the one that all cases share."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Cases that belong together."""

    name: str
    """By which it is chosen."""
    title: str
    cases: Callable[[Effort], list[Case]]
    wanted: Callable[[Setting], bool] = lambda _setting: True
    """Where it is worth its time."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Instead of a sample."""

    why: str
    failed: bool


async def measure(
    scenario: str, case: Case, setting: Setting, url: str, effort: Effort, step: Callable[[], None]
) -> tuple[list[Series], list[Absence]]:
    """Measure a case; calls `step` after each round, those for warming up included."""
    turns: dict[str, Turn] = {}
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in case.contenders}
    absent: list[Absence] = []

    def leave(name: str, refusal: _Refusal) -> None:
        turns.pop(name, None)
        where = setting, scenario, case.name
        absent.append(Absence(*where, name, refusal.why, failed=refusal.failed))

    async with AsyncExitStack() as stack:
        url = stack.enter_context(case.server(url))
        for contender in case.contenders:
            try:
                turn = await stack.enter_async_context(case.opened(contender, url))
            except CannotTakePart as reason:
                leave(contender.name, _Refusal(str(reason), failed=False))
            else:
                turns[contender.name] = turn
        stack.enter_context(_frozen())
        for number in range(-case.warm_ups, effort.rounds):
            for name, outcome in (await _round(turns, case.laps, number)).items():
                match outcome:
                    case _Refusal() as refusal:
                        leave(name, refusal)
                    case sample if number >= 0:
                        samples[name].append(sample)
                    case _:
                        pass
            step()
    return [_series(setting, scenario, case, name, samples[name]) for name in turns], absent


async def _round(turns: Mapping[str, Turn], laps: int, number: int) -> dict[str, Sample | _Refusal]:
    taken: dict[str, list[Sample]] = {name: [] for name in turns}
    refused: dict[str, _Refusal] = {}
    for lap in range(laps):
        for name in rotated(list(turns), number + lap):
            if name not in refused:
                match await _sampled(turns[name]):
                    case _Refusal() as refusal:
                        refused[name] = refusal
                    case sample:
                        taken[name].append(sample)
    return {name: refused.get(name) or _mean(samples) for name, samples in taken.items()}


async def _sampled(turn: Turn) -> Sample | _Refusal:
    try:
        async with asyncio.timeout(_LIMIT):
            return await _undisturbed(turn)
    except CannotTakePart as reason:
        return _Refusal(str(reason), failed=False)
    except TimeoutError:
        return _Refusal(f"a sample took more than {_LIMIT:g} s", failed=True)
    except Exception as error:  # noqa: BLE001 - it is told, and the others go on
        return _Refusal(first_words(error), failed=True)


def _mean(samples: Sequence[Sample]) -> Sample:
    return Sample(
        fmean(sample.value for sample in samples),
        [one for sample in samples for one in sample.latencies],
        [one for sample in samples for one in sample.waits],
        _worst(samples),
    )


def _worst(samples: Sequence[Sample]) -> dict[str, float]:
    names = {name: None for sample in samples for name in sample.counts}
    return {name: max(sample.counts.get(name, 0.0) for sample in samples) for name in names}


def rotated(names: Sequence[T], number: int) -> list[T]:
    """Give the order of a round."""
    begin = number % max(1, len(names))
    return [*names[begin:], *names[:begin]]


def first_words(error: Exception) -> str:
    """Say in a line what an error is; of a group, what its first is."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def _frozen() -> Generator[None]:
    """Have no collection look at what exists already."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _undisturbed(turn: Turn) -> Sample:
    """Clear away what turns before have left, and collect nothing during this one."""
    gc.collect()
    gc.disable()
    try:
        return await turn()
    finally:
        gc.enable()


def _series(
    setting: Setting, scenario: str, case: Case, contender: str, samples: list[Sample]
) -> Series:
    return Series(
        setting=setting,
        scenario=scenario,
        case=case.name,
        tasks=case.tasks,
        contender=contender,
        unit=case.unit,
        samples=[sample.value for sample in samples],
        latencies=percentiles(one for sample in samples for one in sample.latencies),
        waits=percentiles(one for sample in samples for one in sample.waits),
        counts=_worst(samples),
    )


def percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """Give those of `PERCENTILES`, each the smallest value that so many are not above."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    return {f"{p:g}": ordered[max(0, ceil(p / 100 * len(ordered) - 1e-9) - 1)] for p in PERCENTILES}


async def together(tasks: int, job: Callable[[], Coroutine[object, object, object]]) -> float:
    """Run a job in so many tasks, and give the seconds from their common start to the end of the last.

    All tasks exist before the clock starts, so what it takes to make them is not measured.
    """
    gate = asyncio.Event()

    async def one() -> None:
        await gate.wait()
        await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(one())
        await asyncio.sleep(0)
        begin = perf_counter()
        gate.set()
    return perf_counter() - begin


def repeated(
    tasks: int,
    seconds: float,
    job: Callable[[int, list[float]], Coroutine[object, object, object]],
    least: int = 1,
) -> Turn:
    """Make a turn of a job that is done in so many tasks, by each so often that the sample lasts.

    Args:
        tasks: How many there are.
        seconds: How long a sample should last at least.
        job: Does so many operations, one after the other, and notes how long each took, if it does.
        least: How many each task does at least.

    """
    times = least

    async def turn() -> Sample:
        nonlocal times
        latencies: list[float] = []
        elapsed = await together(tasks, lambda: job(times, latencies))
        sample = Sample(elapsed / (tasks * times), latencies)
        times = max(least, ceil(1.1 * times * seconds / elapsed))  # of the next turn
        return sample

    return turn
