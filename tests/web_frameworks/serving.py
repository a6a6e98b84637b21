"""An app on the air for the length of a block, and somebody who asks it."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from aiohttp import ClientSession, ClientTimeout, web
from servers import eventually

TOLD = {"detail": "Service Unavailable"}  # and nothing else


class Numbers:
    """Lends what is no connection."""

    async def open(self):
        return 7

    async def check(self, number): ...

    def is_usable(self, number):
        return number == 7

    def close(self, number): ...


class Service:
    """What a test knows of an app that is on the air: whom to ask, and what its server complains about."""

    def __init__(self, port, complaints):
        self.port = port
        self.complaints = complaints
        limit = ClientTimeout(total=10)  # what never ends shall fail
        self.session = ClientSession(f"http://127.0.0.1:{port}", timeout=limit)

    async def get(self, path="/"):
        """Ask, and give the status, what is in Retry-After, and the body."""
        async with self.session.get(path) as answer:
            body = answer.json() if answer.content_type == "application/json" else answer.text()
            return answer.status, answer.headers.get("Retry-After"), await body

    @asynccontextmanager
    async def asking(self, path="/"):
        """Have somebody ask who does not wait for the answer to the end of the block."""
        task = asyncio.create_task(self.get(path))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@contextmanager
def complaints(*names) -> Iterator[list[str]]:
    """Collect what is logged as an error."""
    found = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: found.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    for logger in loggers:
        logger.removeHandler(handler)


class Server(uvicorn.Server):
    """uvicorn, which learns at once that it is to end, and not with its next look at the clock."""

    def __init__(self, config):
        super().__init__(config)
        self.ending = asyncio.Event()

    async def main_loop(self):
        await self.ending.wait()

    async def serve_on(self, sock):
        with suppress(SystemExit):  # with which it says that it could not start
            await self.serve(sockets=[sock])


@asynccontextmanager
async def silent_redis():
    """Have a server that hears what it is told, and says nothing: what connects to it goes on connecting."""
    heard = asyncio.Event()

    async def hear(reader, writer):
        while await reader.read(1000):
            heard.set()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"redis://127.0.0.1:{port}", heard
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def uvicorn_serving(app) -> AsyncIterator[Service]:
    """Serve an ASGI app. It ends as a signal would have it: with what is under way."""
    with (
        socket.create_server(("127.0.0.1", 0)) as sock,
        complaints("uvicorn.error", "asyncio") as found,
    ):
        server = Server(uvicorn.Config(app, lifespan="on", ws="wsproto", log_config=None))
        task = asyncio.create_task(server.serve_on(sock))
        await eventually(lambda: server.started or task.done(), "uvicorn has started")
        assert server.started, found
        service = Service(sock.getsockname()[1], found)
        service.stop = server.ending.set
        service.stopped = task
        service.connections = lambda: server.server_state.connections
        try:
            yield service
        finally:
            await service.session.close()
            if not server.ending.is_set():
                await eventually(lambda: not service.connections(), "all connections are closed")
            service.stop()
            await task


@asynccontextmanager
async def aiohttp_serving(app, **options) -> AsyncIterator[Service]:
    """Serve an app of aiohttp's."""
    with complaints("aiohttp.server", "asyncio") as found:
        runner = web.AppRunner(app, **options)
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            service = Service(runner.addresses[0][1], found)
            service.stop = runner.cleanup
            service.listening = lambda: any(site._server.is_serving() for site in runner.sites)
            try:
                yield service
            finally:
                await service.session.close()
        finally:
            await runner.cleanup()
