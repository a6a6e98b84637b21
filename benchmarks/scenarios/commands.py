"""One command after the other from many tasks: GET and SET of a small value."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter

from benchmarks.contender import Client, Contender, Place
from benchmarks.contenders import CLIENTS
from benchmarks.measure import CONNECTIONS, Case, Effort, Scenario, Turn, repeated
from benchmarks.server import SMALL, value_of

from .names import number_of_tasks

Operation = Callable[[], Awaitable[object]]

_LAPS = 5


@asynccontextmanager
async def opened(
    contender: Contender,
    url: str,
    *,
    tasks: int,
    seconds: float,
    operation: Callable[[Client], Operation],
) -> AsyncGenerator[Turn]:
    """Open a contender for turns of one operation, each timed."""
    async with contender.connect(Place(url, CONNECTIONS), tasks) as client:
        operate = operation(client)

        async def job(times: int, latencies: list[float]) -> None:
            for _ in range(times):
                begin = perf_counter()
                await operate()
                latencies.append(perf_counter() - begin)

        yield repeated(tasks, seconds, job)


def _get(client: Client) -> Operation:
    return partial(client.get, SMALL)


def _set(client: Client) -> Operation:
    return partial(client.set, SMALL, value_of(SMALL))


def _cases(
    effort: Effort, operation: Callable[[Client], Operation], quick: tuple[int, ...]
) -> list[Case]:
    return [
        _case(tasks, effort, operation)
        for tasks in effort.pick((1, 10, 100, 1000, 10_000), quick, (1, 20))
    ]


def _case(tasks: int, effort: Effort, operation: Callable[[Client], Operation]) -> Case:
    # Of more tasks a turn takes long, even if each sends one command.
    laps = _LAPS if tasks <= effort.pick(100, 100, 0) else 1
    return Case(
        number_of_tasks(tasks),
        tasks,
        CLIENTS,
        partial(opened, tasks=tasks, seconds=effort.seconds / laps, operation=operation),
        warm_ups=2,  # the first opens the connections, so it can't tell how fast it goes
        laps=laps,
    )


GET = Scenario("get", "GET of 32 bytes", partial(_cases, operation=_get, quick=(1, 100, 1000)))
SET = Scenario(
    "set",
    "SET of 32 bytes",
    partial(_cases, operation=_set, quick=(100,)),
    wanted=lambda setting: setting.hiredis,  # a reply as small as +OK costs either parser little
)
