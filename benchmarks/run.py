"""A whole run: a server, a child process for each setting, and what they tell."""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from aiopool._cli._redis_server import redis_server

from . import server
from .measure import Effort, Scenario
from .results import Absence, Run, Series, Setting, absence_of, series_of

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("aiopool", "redis", "hiredis", "uvloop", "coredis", "valkey-glide")


class CannotRun(Exception):
    """There is nothing to measure, or a process that measures has failed; the message says why."""


def run(
    settings: Sequence[Setting],
    scenarios: Sequence[Scenario],
    effort: Effort,
    command: str,
    console: Console,
) -> Run:
    """Measure these scenarios in each of these settings where they are worth it.

    Raises:
        NoRedisServer: There is none here.
        CannotRun: There is nothing to measure, or a process that measures has failed.

    """
    plan = [
        (setting, wanted)
        for setting in settings
        if _installed(setting, console)
        and (wanted := [scenario for scenario in scenarios if scenario.wanted(setting)])
    ]
    if not plan:
        msg = "nothing of what was asked for is measured in any of these settings"
        raise CannotRun(msg)
    rounds = sum(
        effort.rounds + case.warm_ups
        for _, wanted in plan
        for scenario in wanted
        for case in scenario.cases(effort)
    )
    # As it is before there is anything to do.
    made, measured, where = datetime.now(UTC).isoformat(timespec="seconds"), commit(), machine()
    series: list[Series] = []
    missing: list[Absence] = []
    with redis_server() as url, _progress(console) as progress:
        installed = versions(url)
        server.store(url)
        bar = progress.add_task("", total=rounds)
        for setting, wanted in plan:
            order = {
                "setting": asdict(setting),
                "scenarios": [scenario.name for scenario in wanted],
                "effort": asdict(effort),
                "url": url,
            }
            with closing(_child(order)) as child:
                for kind, told in child:
                    match kind:
                        case "Case":
                            words = f"{setting}: {told['scenario']}, {told['case']}"
                            progress.update(bar, description=words)
                            if not console.is_terminal:
                                console.print(words, soft_wrap=True)
                        case "Round":
                            progress.advance(bar)
                        case "Series":
                            series.append(series_of(told))
                        case _:
                            missing.append(absence_of(told))
    return Run(command, made, measured, installed, where, missing, series)


def _installed(setting: Setting, console: Console) -> bool:
    needs = {"uvloop": setting.loop == "uvloop", "hiredis": setting.hiredis}
    for module, needed in needs.items():
        if needed and find_spec(module) is None:
            console.print(f"left out: {setting}, for {module} is not installed", style="yellow")
            return False
    return True


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _child(order: dict[str, Any]) -> Generator[tuple[str, dict[str, Any]]]:
    """Give what a child tells. Whatever happens here, it ends."""
    words = [sys.executable, "-m", f"{__package__}.child", json.dumps(order)]
    path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(  # noqa: S603 - this very package
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                yield json.loads(line)
            if process.wait() != 0:
                errors.seek(0)
                raise CannotRun(errors.read().strip() or f"exit code {process.returncode}")
        finally:
            process.kill()  # which does nothing if it has ended


def versions(url: str, packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Say which are here: Python, those of these packages that are installed, and the server at this URL."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"redis-server": server.version(url)}


def machine() -> dict[str, str]:
    """Say what this is, and how busy it was in the last minute."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": _load(),
    }


def _processor() -> str:
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _load() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def commit() -> str | None:
    """Name the commit that was measured, if it is known; with a + if there were changes."""
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}+" if _git("status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words: str) -> str:
    return subprocess.run(  # noqa: S603 - the words are ours
        ["git", "-C", str(_ROOT), *words],  # noqa: S607 - whichever there is
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
