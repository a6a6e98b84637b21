"""redis-py's connections, made accountable: a mixin over any connection class of `redis.asyncio`.

This is the one place that touches redis-py's and asyncio's private parts; each has its reason.
"""

import select
import socket
from collections.abc import Callable, Coroutine, Iterable
from types import CoroutineType
from typing import Any, TypeVar, cast

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from ._ledger import Ledger

T = TypeVar("T")


class Accountable(AbstractConnection):
    """Keeps the ledger, and tells from it and from a look at the socket whether it may be lent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledger = Ledger()
        self._readable: Callable[[], object] = _never
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]

    # ---- the account -------------------------------------------------------------------------

    def pack_command(self, *args: Any) -> list[bytes]:
        """As redis-py's; every command passes here, also those of pipelines."""
        packed: list[bytes] = super().pack_command(*args)
        self.ledger.note_packed(args, self.db)
        return packed

    def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> "CoroutineType[Any, Any, None]":
        """As redis-py's."""
        self.ledger.note_sent()
        return super().send_packed_command(command, check_health)  # type: ignore[return-value]  # mypy calls it a Coroutine

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """As redis-py's."""
        try:
            response = cast(
                "Any",
                await super().read_response(
                    disable_decoding,
                    timeout,
                    disconnect_on_error=disconnect_on_error,
                    push_request=push_request,
                ),
            )
        except ResponseError:
            self.ledger.note_reply()
            raise
        # With these arguments it may have been no reply, but a push message or a timeout.
        if not push_request and (timeout is None or response is not None):
            self.ledger.note_reply()
        return response

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """As redis-py's. The handshake is no debt, but the command is that led to a reconnect."""
        if self.is_connected:
            return
        ledger, self.ledger = self.ledger, Ledger()
        await super().connect_check_health(check_health, retry_socket_connect)
        ledger.stained |= bool(self._connect_callbacks)  # they subscribe
        self.ledger = ledger
        self._readable = _poll(self._fileno())

    def disconnect(self, *args: Any, **kwargs: Any) -> "CoroutineType[Any, Any, None]":
        """As redis-py's. With the session its debts are gone."""
        self.ledger = Ledger()
        return super().disconnect(*args, **kwargs)  # type: ignore[return-value]  # mypy calls it a Coroutine

    # ---- the pool's part ---------------------------------------------------------------------

    def may_be_lent(self) -> bool:
        """Whether it is connected, owes nothing, and nothing but push messages came unasked."""
        writer = self._writer
        if writer is None or not self.ledger.clean or self._should_reconnect:
            return False
        if writer.transport.is_closing():
            return False
        parser: Any = self._get_parser()  # the base class of parsers does not declare can_read
        try:
            # True for bytes in the buffers of reader or parser, and for an EOF that the loop saw.
            if _at_once(parser.can_read()):
                reader: Any = self._reader  # asyncio has no public look at what it has buffered
                return self._is_push(bytes(reader._buffer[:1]))  # noqa: SLF001
        except OSError:
            return False
        # The event loop may not have run since the peer closed or wrote.
        return not self._readable() or self._is_push(_peek(self._fileno()))

    def abort(self) -> None:
        """Close at once, without a word to the peer and without waiting."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is None:
            return
        parser: Any = self._get_parser()
        parser.on_disconnect()
        self.ledger = Ledger()
        self._readable = _never
        try:
            writer.transport.abort()
        except RuntimeError:  # the event loop is closed
            _bury(writer.transport)

    def _fileno(self) -> int:
        writer = self._writer
        return -1 if writer is None else int(writer.get_extra_info("socket").fileno())

    def _is_push(self, start: bytes) -> bool:
        """Whether unread bytes are a push message of RESP3. What TLS hides is taken for the worst."""
        return (
            start == b">"
            and int(self.protocol) == 3  # noqa: PLR2004 - the protocol's name
            and self._writer is not None
            and self._writer.get_extra_info("ssl_object") is None
        )


def accountable(connection_class: type[AbstractConnection]) -> type[Accountable]:
    """Give the accountable version of a connection class: redis-py's own, or a user's."""
    if issubclass(connection_class, Accountable):
        return connection_class
    made = type(connection_class.__name__, (Accountable, connection_class), {})
    made.__module__ = connection_class.__module__
    return cast("type[Accountable]", made)


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    coroutine.close()
    msg = f"{coroutine!r} suspended"
    raise RuntimeError(msg)


def _never() -> object:
    return None


def _poll(fileno: int) -> Callable[[], object]:
    """Return a function that says whether the descriptor is readable, or at its end."""
    if not hasattr(select, "poll"):  # Windows
        return lambda: select.select([fileno], [], [], 0)[0]
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return lambda: poll.poll(0)


def _peek(fileno: int) -> bytes:
    """Look at the first byte to read without taking it; empty at the end and after an error."""
    sock = socket.socket(fileno=fileno)
    try:
        sock.setblocking(False)  # noqa: FBT003 - as it is anyway
        return sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""
    finally:
        sock.detach()


def _bury(transport: Any) -> None:
    """Close the socket of a transport whose event loop is closed.

    The loop would call `_call_connection_lost` in its next turn, which there is not; without it the
    socket stays open until it is collected, with a `ResourceWarning`. (uvloop closes its sockets with
    the loop.)
    """
    ssl_protocol = getattr(transport, "_ssl_protocol", None)
    if ssl_protocol is not None:
        transport = ssl_protocol._transport  # noqa: SLF001 - TLS lies over the transport with the socket
    if getattr(transport, "_sock", None) is not None:
        transport._call_connection_lost(None)  # noqa: SLF001 - see above
