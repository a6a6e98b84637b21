"""A Redis server in this process, for those who have none at hand."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from fakeredis import FakeServer, TcpFakeServer


class Server(TcpFakeServer):
    """fakeredis on a free port of the loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        """The address."""
        return f"redis://127.0.0.1:{self.server_address[1]}"

    def forget(self) -> None:
        """Show who connects from now on no data, and keep what they write from those who are there."""
        self.fake_server = FakeServer(version=(8, 0))  # as it has made its first

    def handle_error(
        self,
        request: Any,  # noqa: ANN401 - typeshed has no public name for it
        client_address: Any,  # noqa: ANN401 - likewise
    ) -> None:
        """Say nothing of a client that was gone before it was greeted."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def serving(server: Server) -> Generator[Server]:
    """Run it as long as the block does."""
    with server:  # its end waits for the threads of the connections, unless they are daemons
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def fake_server() -> Generator[str]:
    """Run fakeredis as long as the block does; gives its URL."""
    with serving(Server()) as server:
        yield server.url
