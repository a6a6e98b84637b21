"""A proxy of a process of its own that makes a server seem far away, and counts its connections."""

import asyncio
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class DelayingProxy:
    """The proxy as its user sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.url = f"redis://127.0.0.1:{self._ask()}"

    def connections(self) -> int:
        """How many were made to it so far."""
        return self._ask()

    def _ask(self) -> int:
        assert self._process.stdin is not None  # noqa: S101 - for the type checkers
        assert self._process.stdout is not None  # noqa: S101 - likewise
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def delaying_proxy(url: str, connect: float, reply: float) -> Generator[DelayingProxy]:
    """Run one in front of a server.

    Args:
        url: Of the server.
        connect: Seconds until it lets the first byte of a connection through.
        reply: Seconds by which it holds back what the server says.

    """
    address = urlsplit(url)
    words = [sys.executable, __file__, address.hostname, address.port, connect, reply]
    with subprocess.Popen(  # noqa: S603 - this very file
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield DelayingProxy(process)
        finally:
            assert process.stdin is not None  # noqa: S101 - for the type checkers
            process.stdin.close()  # which ends it, as our own end would


async def _serve(host: str, there: int, connect: float, reply: float) -> None:
    """Be the other side: answer the first line with the port, and all others with the count."""
    connections = 0

    async def link(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.CancelledError):  # the end, of which CPython 3.11 would complain
            await asyncio.sleep(connect)
            replies, requests = await asyncio.open_connection(host, there)
            await asyncio.gather(_pass_on(reader, requests, 0), _pass_on(replies, writer, reply))

    server = await asyncio.start_server(link, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    while await asyncio.to_thread(sys.stdin.readline):
        print(connections if port is None else port, flush=True)  # noqa: T201 - the other side reads it
        port = None


async def _pass_on(reader: StreamReader, writer: StreamWriter, delay: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while data := await reader.read(65536):
            loop.call_later(delay, writer.write, data)
    loop.call_later(delay, writer.close)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
