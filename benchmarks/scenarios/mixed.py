"""What a request of a web service may do: a GET, then a pipeline of 20, then a MULTI."""

from functools import partial

from benchmarks.contender import Client
from benchmarks.contenders import CLIENTS
from benchmarks.measure import Case, Effort, Scenario
from benchmarks.server import SMALL

from .commands import Operation, opened
from .names import number_of_tasks

_PIPELINED = 20


def _mixed(client: Client) -> Operation:
    async def operate() -> None:
        await client.get(SMALL)
        await client.pipeline(SMALL, _PIPELINED)
        await client.transaction("count")

    return operate


def _cases(effort: Effort) -> list[Case]:
    return [
        Case(
            number_of_tasks(tasks),
            tasks,
            CLIENTS,
            partial(opened, tasks=tasks, seconds=effort.seconds, operation=_mixed),
        )
        for tasks in effort.pick((10, 100), (100,), (20,))
    ]


MIXED = Scenario("mixed", f"GET, pipeline of {_PIPELINED}, MULTI", _cases)
