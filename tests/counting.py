"""Counts what code does, where a clock would only tell how busy the machine is."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from aiopool._alarm import Alarm


@contextmanager
def calls_of(*packages: str) -> Iterator[Counter[str]]:
    """Count the calls of Python functions of these packages; to resume a coroutine is one more.

    What an alarm does when it goes off is not counted: whether it does meanwhile depends on the machine.
    """
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if event == "call" and package in packages and not rung(frame):
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def rung(frame: FrameType | None) -> bool:
    """Whether an alarm has led here."""
    while frame is not None:
        if frame.f_code is Alarm._ring.__code__:
            return True
        frame = frame.f_back
    return False


@contextmanager
def asked_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the futures that are made, and what the running loop is asked for."""
    asked: Counter[str] = Counter()
    loop = asyncio.get_running_loop()

    def counting(name: str, function):
        def counted(*args, **kwargs):
            asked[name] += 1
            return function(*args, **kwargs)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "Future", counting("futures", asyncio.Future))
        for name in ("create_future", "create_task", "call_at", "call_soon"):
            patch.setattr(loop, name, counting(name, getattr(loop, name)))
        yield asked
