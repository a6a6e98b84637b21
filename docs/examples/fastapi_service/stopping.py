"""How the parts of the service hear that it is to stop, and when."""

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


@contextmanager
def told_at_once(stopping: asyncio.Event) -> Iterator[None]:
    """Set the event at the signal, by which the server stops.

    The server tells an app only when the last response has ended, and some don't end by themselves.
    """
    loop = asyncio.get_running_loop()
    servers: dict[int, Any] = {}

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        servers[number](number, frame)

    if threading.current_thread() is threading.main_thread():  # others get no signals
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                servers[number] = handler
                signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in servers.items():
            signal.signal(number, handler)


async def repeat(step: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    """Do this again and again until the service stops, however often it fails."""
    while not stopping.is_set():
        try:
            await step()
        except Exception:
            logger.exception("it goes on in a second")
            await asyncio.sleep(1)
