"""The process that measures: one setting, all its scenarios. It tells the parent in lines of JSON."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .results import Setting

Tell = Callable[[str, dict[str, Any]], None]


def main() -> None:
    """Do what the argument says."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    setting = Setting(**order["setting"])
    if not setting.hiredis:
        # Nobody has imported it yet, and now nobody can.
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # that is how to forbid an import
    with asyncio.Runner(loop_factory=_loop_factory(setting.loop)) as runner:
        runner.run(_measure(setting, order))


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        from uvloop import new_event_loop  # noqa: PLC0415 - it need not be installed

        return new_event_loop
    return asyncio.new_event_loop


def _tell(kind: str, what: dict[str, Any]) -> None:
    print(json.dumps([kind, what]), flush=True)  # noqa: T201 - the parent reads it


async def _measure(setting: Setting, order: dict[str, Any]) -> None:
    from .measure import Effort, measure  # noqa: PLC0415 - only now is it decided what they import
    from .scenarios import ALL  # noqa: PLC0415 - likewise

    effort = Effort(**order["effort"])
    for scenario in ALL:
        if scenario.name not in order["scenarios"]:
            continue
        for case in scenario.cases(effort):
            _tell("Case", {"scenario": scenario.title, "case": case.name})
            series, absent = await measure(
                scenario.name, case, setting, order["url"], effort, lambda: _tell("Round", {})
            )
            for one in series:
                _tell("Series", asdict(one))
            for absence in absent:
                _tell("Absence", asdict(absence))


if __name__ == "__main__":
    main()
