"""redis-py's connection without a server: to measure the lending of connections and nothing else.

It is the real class with a real transport, so every pool can look at it in its own way and pays for
that look in full. But its peer is a socket of this process that never says a word, and there is no
handshake, so nothing is ever sent or received.
"""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import Connection


@contextmanager
def silent_connections() -> Generator[type[Connection]]:
    """Give a connection class whose peers are closed at the end of the block."""
    peers: list[socket.socket] = []

    class Silent(Connection):
        async def _connect(self) -> None:
            mine, peer = socket.socketpair()
            peers.append(peer)
            self._reader, self._writer = await asyncio.open_connection(sock=mine)

        async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002 - redis-py's signature
            parser: Any = self._parser  # not typed
            parser.on_connect(self)

    try:
        yield Silent
    finally:
        for peer in peers:
            peer.close()
