"""`aiopool demo`: the main job, seen. Many requests, few connections, and nothing gets lost."""

import asyncio
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from redis.exceptions import RedisError
from rich.console import Console

from ._display import conclusion, live, show_nothing, table
from ._play import play
from ._pool import make_pool
from ._report import Report
from ._server import fake_server
from ._url import BadUrl, without_password


def run(*, url: str | None, seed: int, seconds: float, quiet: bool, json_file: str | None) -> int:
    """Play, tell how it ended, and return the exit code."""
    console = Console(stderr=json_file == "-")  # so that stdout is nothing but JSON
    try:
        with ExitStack() as stack:
            output = sys.stdout
            if json_file not in {None, "-"}:  # now, so that no run is in vain
                output = stack.enter_context(Path(str(json_file)).open("w", encoding="utf-8"))
            report = _play(url, seed, seconds, None if quiet else console)
            if not quiet:
                console.print(table(report))
            console.print(conclusion(report), soft_wrap=True)
            if json_file is not None:
                print(json.dumps(asdict(report), indent=2), file=output)
    except (RedisError, OSError, BadUrl) as error:
        print(f"aiopool demo: {without_password(str(error), url)}", file=sys.stderr)  # noqa: T201 - a command talks
        return 2
    except KeyboardInterrupt:
        print("aiopool demo: interrupted", file=sys.stderr)  # noqa: T201 - a command talks
        return 130
    return 1 if report.lost else 0


def _play(url: str | None, seed: int, seconds: float, console: Console | None) -> Report:
    with ExitStack() as stack:
        pool = make_pool(stack.enter_context(fake_server()) if url is None else url)
        show = show_nothing
        if console is not None and console.is_terminal:
            show = stack.enter_context(live(console))
        return asyncio.run(play(pool, seed=seed, seconds=seconds, fake=url is None, show=show))
