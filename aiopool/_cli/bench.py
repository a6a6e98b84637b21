"""`aiopool bench`: how large should a pool be? Every size is loaded in turn, and compared."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from redis.asyncio.connection import parse_url
from redis.exceptions import RedisError
from rich.console import Console

from ._advice import Advice, advise, explain
from ._load import CannotMeasure, Load
from ._measurement import Measurement, Row, rows
from ._redis_server import NoRedisServer, find_redis_server, redis_server
from ._report import fakeredis, versions
from ._rounds import measure_all
from ._table import failures, progress, table
from ._url import BadUrl, reading_url, without_password


@dataclass(frozen=True, slots=True)
class Report:
    """What it all comes to. All durations are seconds."""

    advice: Advice | None
    explanation: Sequence[str]
    """The answer in words, and the reasons."""
    sizes: Sequence[Row]
    measurements: Sequence[Measurement]
    parameters: Mapping[str, object]
    address: str
    versions: Mapping[str, str]
    took: float


@dataclass(frozen=True, slots=True)
class _Server:
    """What is to be loaded."""

    url: str
    remark: str | None = None
    """What whoever did not ask for this server should know."""
    name: str | None = None
    """What it is, if it does not say so itself."""


def run(  # noqa: PLR0913 - each is an option of the command
    *,
    url: str | None,
    sizes: Sequence[int],
    tasks: int,
    mix: Mapping[str, int],
    value_size: int,
    slow: float,
    think: float,
    seconds: float,
    rounds: int,
    loop: str,
    plot_file: str | None,
    json_file: str | None,
) -> int:
    """Measure, tell the answer, and return the exit code."""
    console = Console(stderr=json_file == "-")  # so that stdout is nothing but JSON
    load = Load(tasks, mix, value_size, slow, think, seconds)
    try:
        with ExitStack() as stack:
            # What may go wrong at the end is tried now, so that no run is in vain.
            json_output = sys.stdout
            if json_file not in {None, "-"}:
                json_output = stack.enter_context(Path(str(json_file)).open("w", encoding="utf-8"))
            draw = None if plot_file is None else _drawer(Path(plot_file))
            report = _measure(url, sizes, rounds, load, loop, console)
            chosen = None if report.advice is None else report.advice.max_size
            console.print(table(report.sizes, chosen))
            answer, *reasons = report.explanation
            console.print(answer, style=_style(report.advice))
            for sentence in [*reasons, *failures(report.sizes)]:
                console.print(sentence, highlight=False)
            if json_file is not None:
                print(json.dumps(asdict(report), indent=2), file=json_output)
            if draw is not None:
                draw(report)
    except (RedisError, OSError, BadUrl, NoRedisServer, CannotMeasure) as error:
        print(f"aiopool bench: {without_password(str(error), url)}", file=sys.stderr)  # noqa: T201 - a command talks
        return 2
    except KeyboardInterrupt:
        print("aiopool bench: interrupted", file=sys.stderr)  # noqa: T201 - a command talks
        return 130
    return 1 if report.advice is None else 0


def _measure(
    url: str | None, sizes: Sequence[int], rounds: int, load: Load, loop: str, console: Console
) -> Report:
    with ExitStack() as stack:
        new_loop = _new_loop(loop)
        server = stack.enter_context(_server(url))
        if server.remark is not None:
            console.print(server.remark)
        began = time.monotonic()
        show = stack.enter_context(progress(console, len(sizes), rounds))
        runner = stack.enter_context(asyncio.Runner(loop_factory=new_loop))
        outcome = runner.run(measure_all(server.url, sizes, rounds, load, show))
    compared = rows(outcome.measurements)
    advice = advise(compared)
    return Report(
        advice=advice,
        explanation=explain(compared, advice, rounds),
        sizes=compared,
        measurements=outcome.measurements,
        parameters={"sizes": sizes, "rounds": rounds, "loop": loop, **asdict(load)},
        address=outcome.address,
        versions=versions(server.name or outcome.server),
        took=time.monotonic() - began,
    )


def _style(advice: Advice | None) -> str:
    if advice is None:
        return "bold red"
    return "bold green" if advice.at_least == advice.at_most else "bold yellow"


def _new_loop(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        import uvloop  # noqa: PLC0415 - optional

        return uvloop.new_event_loop
    return asyncio.new_event_loop


@contextmanager
def _server(url: str | None) -> Generator[_Server]:
    """Find something to load."""
    if url is not None:
        with reading_url():
            options = parse_url(url)
        if "max_connections" in options:
            msg = "--url has max_connections, which contradicts --sizes: leave one of them out"
            raise BadUrl(msg)
        yield _Server(url)
    elif find_redis_server() is not None:
        with redis_server() as own:
            yield _Server(
                own,
                "No --url: this is a redis-server of its own, with no network in between. "
                "Yours may need another size.",
            )
    else:
        from ._server import fake_server  # noqa: PLC0415 - optional

        with fake_server() as fake:
            yield _Server(
                fake,
                "No --url, and no redis-server here: this is fakeredis, in this very process. "
                "It shows what the command does, but its figures say nothing about Redis.",
                fakeredis(),
            )


def _drawer(path: Path) -> Callable[[Report], None]:
    from ._plot import plot  # noqa: PLC0415 - optional

    with path.open("ab"):  # it can be written
        pass

    def draw(report: Report) -> None:
        chosen = None if report.advice is None else report.advice.max_size
        title = f"{report.parameters['tasks']} tasks on {report.versions['server']}"
        plot(report.sizes, chosen, title, path)

    return draw
