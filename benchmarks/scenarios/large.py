"""Large values, where bytes count for more than calls."""

from collections.abc import Callable
from functools import partial

from benchmarks.contender import Client
from benchmarks.contenders import CLIENTS
from benchmarks.measure import CONNECTIONS, Case, Effort, Scenario
from benchmarks.server import LARGE, MIDDLING, value_of

from .commands import Operation, opened
from .names import number_of_tasks


def _get(client: Client, key: str) -> Operation:
    return partial(client.get, key)


def _set(client: Client, key: str) -> Operation:
    return partial(client.set, key, value_of(key))


_OPERATIONS: dict[str, Callable[[Client], Operation]] = {
    "GET 16 KiB": partial(_get, key=MIDDLING),
    "SET 16 KiB": partial(_set, key=MIDDLING),
    "GET 1 MiB": partial(_get, key=LARGE),
    "SET 1 MiB": partial(_set, key=LARGE),
}
# Clients that share one connection have all these come on it, one after the other. (1 MiB is sent by
# `pool.pipelined()` on a connection of its own, as by a pool.)
_MANY = 100
_MORE_TASKS_THAN_CONNECTIONS = ("GET 16 KiB", "SET 16 KiB", "GET 1 MiB")
_QUICK = ("GET 16 KiB", "SET 1 MiB")


def _cases(effort: Effort) -> list[Case]:
    return [
        Case(
            name if tasks == CONNECTIONS else f"{name}, {number_of_tasks(tasks)}",
            tasks,
            CLIENTS,
            partial(opened, tasks=tasks, seconds=effort.seconds, operation=_OPERATIONS[name]),
        )
        for tasks, names in (
            (CONNECTIONS, effort.pick(tuple(_OPERATIONS), _QUICK, _QUICK)),
            (_MANY, effort.pick(_MORE_TASKS_THAN_CONNECTIONS, (), ())),
        )
        for name in names
    ]


LARGE_VALUES = Scenario(
    "large",
    "large values",
    _cases,
    wanted=lambda setting: setting.hiredis or setting.loop == "asyncio",  # one is enough without
)
