"""A Redis server in this process, for those who have none at hand."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from fakeredis import TcpFakeServer


class _Server(TcpFakeServer):
    def handle_error(
        self,
        request: Any,  # noqa: ANN401 - typeshed has no public name for it
        client_address: Any,  # noqa: ANN401 - likewise
    ) -> None:
        """Say nothing of a client that was gone before it was greeted."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextmanager
def fake_server() -> Generator[str]:
    """Run fakeredis as long as the block does; gives its URL."""
    with _Server(("127.0.0.1", 0)) as server:  # its end waits for the threads of the connections
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
