"""Redis connections without a network: redis-py's own class, whose other end a test plays by hand."""

import asyncio
import socket
from typing import Any

from redis._parsers import _AsyncHiredisParser
from redis.asyncio import Connection

# What the other end says to COMMAND: name, arity, flags and the like.
COMMANDS = b"*3\r\n" + b"".join(
    b"*6\r\n$%d\r\n%b\r\n:-2\r\n*1\r\n+%b\r\n:1\r\n:1\r\n:1\r\n" % (len(name), name, flag)
    for name, flag in {b"get": b"readonly", b"echo": b"fast", b"blpop": b"blocking"}.items()
)


class Peer(asyncio.Transport):
    """A transport, and the other end of it."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        mine, self._theirs = socket.socketpair()  # for who looks at it
        super().__init__({"socket": mine})
        self._mine = mine
        self._protocol = protocol
        self._closing = False
        self.writes: list[bytes] = []
        self.reads = True  # else what is written stays in the buffer
        self._buffered = 0
        self._paused = False
        self._answered = 0

    # ---- the transport -----------------------------------------------------------------------

    def write(self, data: Any) -> None:
        assert not self._closing
        self.writes.append(bytes(data))
        self._buffered += 0 if self.reads else len(data)
        if self._buffered > 65536 and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._lost, None)

    def _lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
        self._mine.close()
        self._theirs.close()

    # ---- the other end -----------------------------------------------------------------------

    @property
    def heard(self) -> list[bytes]:
        """The last word of each command: what is to be got or echoed."""
        lines = b"".join(self.writes).split(b"\r\n")
        commands, at = [], 0
        while lines[at]:
            words = int(lines[at][1:])
            commands.append(lines[at + 2 * words])
            at += 1 + 2 * words
        return commands

    @property
    def unanswered(self) -> list[bytes]:
        return self.heard[self._answered :]

    def answer(self, number: int = 1) -> None:
        """Answer so many commands, each with its last word, in one packet."""
        self.say(b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in self.unanswered[:number]))
        self._answered += number

    def answer_all(self) -> None:
        self.answer(len(self.unanswered))

    def answer_by(self, reply: bytes) -> None:
        """Answer one command in these bytes."""
        self._answered += 1
        self.say(reply)

    def say(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def take_all(self) -> None:
        """Read what was written."""
        self.reads = True
        self._buffered = 0
        self._paused = False
        self._protocol.resume_writing()

    def hang_up(self) -> None:
        self._protocol.eof_received()

    def fail(self, error: Exception) -> None:
        self._closing = True
        asyncio.get_running_loop().call_soon(self._lost, error)


class Network:
    """Where the peers of one test are, in the order in which they were connected."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.error: Exception | None = None  # of those that connect
        self.attempts = 0
        network = self

        class ByHand(Connection):
            """Connects to a peer in this process, without a handshake."""

            async def _connect(self) -> None:
                network.attempts += 1
                if network.error is not None:
                    raise network.error
                loop = asyncio.get_running_loop()
                self._reader = asyncio.StreamReader(loop=loop)
                protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
                peer = Peer(protocol)
                network.peers.append(peer)
                protocol.connection_made(peer)
                self._writer = asyncio.StreamWriter(peer, protocol, self._reader, loop)

            async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: ARG002 - redis-py's signature
                self._parser.on_connect(self)
                # As after the replies of a handshake.
                now = asyncio.get_running_loop().time()
                self.next_health_check = now + self.health_check_interval

        self.connection_class = ByHand
        self.parser_class = _AsyncHiredisParser

    @property
    def peer(self) -> Peer:
        """The one that was connected last."""
        return self.peers[-1]
