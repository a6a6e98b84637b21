"""redis-py's connections, made accountable: a mixin over any connection class of `redis.asyncio`.

This is the one place that touches redis-py's and asyncio's private parts; each has its reason.
"""

import os
import select
import socket
import warnings
from asyncio import StreamWriter
from collections.abc import Callable, Iterable
from types import CoroutineType
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.observability.recorder import record_connection_closed
from redis.auth.token import TokenInterface
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ExecAbortError, ResponseError
from redis.observability.metrics import CloseReason

from ._at_once import at_once
from ._ledger import Ledger, Words, noteworthy
from ._push import only_pushes

# redis-py has no word for it.
CLOSED = "Connection closed while a command was to be written."

# More unread bytes than these are not looked at: they can't be told to be push messages only.
PEEK_LIMIT = 65536

READABLE: int = getattr(select, "POLLIN", 1)  # Windows has no poll, and so no name for it


class Accountable(AbstractConnection):
    """Keeps the ledger, and tells from it and from a look at the socket whether it may be lent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledger: Ledger = Ledger()
        self.token: TokenInterface | None = None  # what it has authenticated with, or better
        self.released = False  # and nobody was told yet
        self._lost = False  # the peer has ended the last session, or could not be reached
        self.discarded: bool = False  # by the pool, for good
        self._pid = os.getpid()
        self._packed: list[Words | None] = []  # made into bytes, but not sent yet
        self._look = _blind
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType] - typed in parts

    # ---- the account -------------------------------------------------------------------------

    def pack_command(self, *args: Any) -> list[bytes]:
        """As redis-py's; every command passes here, also those of pipelines."""
        packed: list[bytes] = super().pack_command(*args)
        self._packed.append(noteworthy(args))
        return packed

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """As redis-py's. If one of them can't be packed, none is sent."""
        try:
            packed: list[bytes] = super().pack_commands(commands)
        except BaseException:
            self._packed = []
            raise
        return packed

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """As redis-py's, which may reconnect or check the health before it writes.

        So the command is noted when it is written: it belongs to the session of that time. (If it
        was written in part only, redis-py disconnects.)
        """
        packed, self._packed = self._packed, []
        await self._write(command, check_health)
        self._note(packed)

    async def _write(self, command: bytes | str | Iterable[bytes], check_health: bool) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RedisConnectionError:
            self._lost = True
            raise
        except (AttributeError, RuntimeError, TypeError) as error:
            if self._writer is not None or not _says_closed(error):
                raise
            self._lost = True
            raise RedisConnectionError(CLOSED) from error

    def _note(self, packed: list[Words | None]) -> None:
        if not packed:  # bytes that were packed elsewhere
            self.ledger.stain()
        for words in packed:
            self.ledger.sent(words, self.db)

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
        except ResponseError as error:
            # An EXEC that was refused for a command queued before it has ended the transaction.
            self.ledger.answered(well=isinstance(error, ExecAbortError))
            raise
        except RedisConnectionError as error:
            self._lost = error.status_code is None  # else it is what the server has replied
            raise
        # With these arguments it may have been no reply, but a push message or a timeout.
        if not push_request and (timeout is None or response is not None):
            self.ledger.answered(well=True)
        return response

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """As redis-py's. The handshake leaves no debt, and half of one no connection."""
        if self.is_connected:
            return
        packed, self._packed = self._packed, []
        try:
            self._refuse_if_discarded()
            await super().connect_check_health(check_health, retry_socket_connect)
            self._refuse_if_discarded()  # meanwhile
        except BaseException:
            # redis-py disconnects after errors of its own only. Without what has failed the session
            # may belong to another user or database.
            self.abort()
            raise
        self._packed = packed
        self._lost = False
        self.ledger = Ledger()
        if self._connect_callbacks:  # they subscribe
            self.ledger.stain()
            self.ledger.listens = True
        if self._writer is not None:
            self._look = _lookout(_fileno(self._writer))

    def disconnect(self, *args: Any, **kwargs: Any) -> "CoroutineType[Any, Any, None]":
        """As redis-py's. With the session its debts are gone."""
        self.ledger = Ledger()
        return super().disconnect(*args, **kwargs)  # type: ignore[return-value]  # mypy calls it a Coroutine

    def told(self, error: Exception) -> Exception:
        """Give what a caller gets for an error that the server has replied: another, or the same."""
        return error

    # ---- the pool's part ---------------------------------------------------------------------

    async def authenticate(self, token: TokenInterface) -> None:
        """Show the server a new token of the user that it knows already, which leaves no debt."""
        self.set_re_auth_token(token)
        await self.re_auth()  # type: ignore[no-untyped-call]  # not typed
        self.ledger = Ledger()
        self.token = token

    def may_be_lent(self) -> bool:
        """Whether it is connected, owes nothing, and nothing but push messages came unasked."""
        return self.ledger.clean and not self._should_reconnect and self.is_sound()

    def may_be_put_aside(self) -> bool:
        """Whether it may be lent, as far as can be seen without a look at the socket."""
        return self.may_be_lent()

    def is_sound(self) -> bool:
        """Whether it is connected, and nothing but push messages waits to be read."""
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            return False
        try:
            # True for bytes in the buffers of reader or parser, and for an EOF that the loop saw.
            parser: Any = self._get_parser()  # the base class of parsers does not declare can_read
            unread = at_once(parser.can_read())
        except OSError:
            return False
        # The event loop may not have run since the peer wrote or closed.
        events = self._events()
        return not (unread or events) or self._only_pushes_came(writer, events)

    def is_alive(self) -> bool:
        """Whether it is connected, and nobody knows of its end yet."""
        reader: Any = self._reader  # asyncio has no public look for an end behind unread bytes
        writer = self._writer
        return not (writer is None or writer.transport.is_closing() or reader._eof)  # noqa: SLF001 - see above

    def is_lost(self) -> bool:
        """Whether its end is the peer's doing."""
        if self._writer is None:
            return self._lost
        return not self.is_alive() or bool(self._events() & ~READABLE)

    def _events(self) -> int:
        found = self._look(0)
        return found[0][1] if found else 0

    def _only_pushes_came(self, writer: StreamWriter, events: int) -> bool:
        hiredis: Any = getattr(self._get_parser(), "_reader", None)
        if hiredis is not None and hiredis.has_data():  # and lets nobody see what
            return False
        reader: Any = self._reader  # asyncio has no public look at what it has buffered
        if int(self.protocol) != 3 or reader._eof or events & ~READABLE:  # noqa: PLR2004, SLF001 - see above
            return False
        if writer.get_extra_info("ssl_object") is not None:  # what TLS hides is taken for the worst
            return False
        unread = bytes(reader._buffer)  # noqa: SLF001 - see above
        if events:
            peeked = _peek(_fileno(writer))
            if not 0 < len(peeked) < PEEK_LIMIT:
                return False
            unread += peeked
        return only_pushes(unread)

    def _close(self) -> None:
        """As redis-py's, which finalisers call; in a forked child the connection is the parent's."""
        if self._pid == os.getpid():
            super()._close()  # type: ignore[no-untyped-call]  # not typed

    def discard(self) -> None:
        """Abort it for good: a holder under whom it is closed must not connect it again."""
        self.discarded = True
        self.retry.update_retries(0)  # they would be in vain
        self.abort()

    def _refuse_if_discarded(self) -> None:
        if self.discarded:
            msg = "The pool has closed this connection."
            raise RedisConnectionError(msg)

    def abort(self) -> None:
        """Close at once, without a word to the peer and without waiting."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is None:
            return
        parser: Any = self._get_parser()
        parser.on_disconnect()
        self.ledger = Ledger()
        self._look = _blind
        at_once(record_connection_closed(CloseReason.APPLICATION_CLOSE))
        try:
            writer.transport.abort()
        except RuntimeError:  # the event loop is closed
            _bury(writer.transport)
        if not writer.transport.is_closing():
            # uvloop has closed the socket with the loop, but the transport does not say so, for
            # which the writer's finaliser would complain.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                del writer


def _says_closed(error: Exception) -> bool:
    """Whether an error is how a transport that was closed, or is gone, says so.

    uvloop's has a word for it. What is `None` is the writer, or a part of asyncio's transport
    (https://github.com/python/cpython/issues/136234).
    """
    words = str(error)
    return words.startswith("'NoneType' object") or words.endswith("the handler is closed")


Events = list[tuple[int, int]]  # as `select.poll` gives them, of one descriptor


def _blind(_timeout: int, /) -> Events:
    return []


def _lookout(fileno: int) -> Callable[[int], Events]:
    """Return a function that says which of these events there are: bytes to read, the peer's end.

    It is to be called with 0, to wait for none. Where it can't see the peer's end behind unread bytes,
    that end is found when these have been read.
    """
    if not hasattr(select, "poll"):  # Windows

        def look(timeout: int, /) -> Events:
            return [(fileno, READABLE)] if select.select([fileno], [], [], timeout)[0] else []

        return look
    poll = select.poll()
    poll.register(fileno, READABLE | getattr(select, "POLLRDHUP", 0))
    return poll.poll


def _fileno(writer: StreamWriter) -> int:
    return int(writer.get_extra_info("socket").fileno())


def _peek(fileno: int) -> bytes:
    """Look at the bytes to read without taking them; empty at the end and after an error."""
    sock = socket.socket(fileno=fileno)
    try:
        sock.setblocking(False)  # noqa: FBT003 - as it is anyway
        return sock.recv(PEEK_LIMIT, socket.MSG_PEEK)
    except OSError:
        return b""
    finally:
        sock.detach()


def _bury(transport: Any) -> None:
    """Close the socket of a transport whose event loop is closed.

    The loop would do it in its next turn, which there is not; without it the socket stays open until
    the transport is collected, with a `ResourceWarning`. (uvloop closes its sockets with the loop.)
    """
    ssl_protocol = getattr(transport, "_ssl_protocol", None)
    if ssl_protocol is not None:
        transport = ssl_protocol._transport  # noqa: SLF001 - TLS lies over the transport with the socket
    sock = getattr(transport, "_sock", None)
    if sock is not None:
        transport._sock = None  # noqa: SLF001 - as after a closing that the loop has done
        sock.close()
