"""Large values, where bytes count for more than calls."""

from collections.abc import Callable
from functools import partial

from benchmarks.contender import Client
from benchmarks.contenders import CLIENTS
from benchmarks.measure import CONNECTIONS, Case, Effort, Scenario
from benchmarks.server import LARGE, MIDDLING, value_of

from .commands import Operation, opened


def _get(client: Client, key: str) -> Operation:
    return partial(client.get, key)


def _set(client: Client, key: str) -> Operation:
    return partial(client.set, key, value_of(key))


_CASES: dict[str, Callable[[Client], Operation]] = {
    "GET 16 KiB": partial(_get, key=MIDDLING),
    "SET 16 KiB": partial(_set, key=MIDDLING),
    "GET 1 MiB": partial(_get, key=LARGE),
    "SET 1 MiB": partial(_set, key=LARGE),
}
_QUICK = {"GET 16 KiB", "SET 1 MiB"}


def _cases(effort: Effort) -> list[Case]:
    return [
        Case(
            name,
            CONNECTIONS,
            CLIENTS,
            partial(opened, tasks=CONNECTIONS, effort=effort, operation=operation),
        )
        for name, operation in _CASES.items()
        if name in effort.pick(_CASES.keys(), _QUICK, _QUICK)
    ]


LARGE_VALUES = Scenario(
    "large",
    "large values",
    _cases,
    wanted=lambda setting: setting.hiredis or setting.loop == "asyncio",  # one is enough without
)
