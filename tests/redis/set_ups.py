"""Servers in states that take some preparation."""

import contextlib
import socket
from collections.abc import Iterator

from servers import Listener, Server


def has_ipv6() -> bool:
    """Whether this machine has the IPv6 address of itself; many containers have not."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def loading_server() -> Iterator[Server]:
    """A server that is loading its data, for about a second."""
    server = Server(appendonly="yes", key_load_delay="1")  # microseconds, and what sleeping costs
    try:
        server.stop()
        # An append-only file of one part is what all versions can read. They look at their clients
        # after every thousand commands of it.
        for part in server.folder.glob("appendonly*/*"):
            part.unlink()
        command = b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"
        (server.folder / "appendonly.aof").write_bytes(command * 15_000)
        server.start(loaded=False)
        yield server
    finally:
        server.destroy()


class HangingUp(Listener):
    """Closes after the first words, like a proxy that can't reach its server."""

    def __init__(self, answer: bytes = b"") -> None:
        self._answer = answer
        super().__init__()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.recv(65536)
            # Where that is possible, in one packet with the end.
            sock.sendall(self._answer, getattr(socket, "MSG_MORE", 0))
