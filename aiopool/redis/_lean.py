"""redis-py's connections without what most of a command's time goes to.

redis-py takes a task for each write (on CPython 3.11), and a timeout context and four coroutines for each
read. Here a command is written straight to the transport, and its reply comes straight from hiredis.
What is not the usual case goes redis-py's own way, and so does all where redis-py, or a connection
class, is not as it is known here: see `is_known()` and `Wire.of()`.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from types import CoroutineType, FunctionType
from typing import Any, cast

import redis.asyncio.connection
import redis.asyncio.sentinel
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ExecAbortError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ._connection import CLOSED, Accountable
from ._ledger import noteworthy
from ._managed import Managed
from ._packing import packed
from ._wire import INCOMPLETE, Reader, TimeIsUp, Wire

# Commands longer than this may not be sent in one go, and then there is something to wait for.
SHORT = 32768

# The versions of redis-py whose ways are known here. A test has digests of all that is replaced.
KNOWN = "8.1."

# What is replaced here. A class that has its own of any of these is left as it is.
REPLACED = (
    "_read_response_from_parser",
    "_send_packed_command",
    "can_read",
    "check_health",
    "pack_command",
    "read_response",
    "send_command",
    "send_packed_command",
)

# hiredis gives errors among its values, to be raised, and pushes, to be handled: in types that it makes
# of none of these.
PLAIN = frozenset([bytes, str, int, float, bool, type(None), dict, set])


def is_redis_pys(function: object, file: str | None) -> bool:
    """Whether it is a function out of this file of redis-py's, of a known version, and nothing round it."""
    return (
        redis.__version__.startswith(KNOWN)
        and isinstance(function, FunctionType)
        and function.__code__.co_filename == file
    )


def is_known(connection_class: type[AbstractConnection]) -> bool:
    """Whether connections of this class do in redis-py's way what is replaced here."""
    return all(
        is_redis_pys(function := getattr(connection_class, name, None), file)
        and function is vars(owner).get(name)
        for owner, file, names in _owners(connection_class)
        for name in names
    )


def _owners(
    connection_class: type[AbstractConnection],
) -> Iterator[tuple[type[AbstractConnection], str | None, Collection[str]]]:
    """Give the classes of redis-py's that are to have what is replaced: each, its file, and what."""
    own: set[str] = set()
    if issubclass(connection_class, SentinelManagedConnection):
        own = {"read_response"}  # it looks for one error, as `Managed` does
        yield SentinelManagedConnection, redis.asyncio.sentinel.__file__, own
    yield AbstractConnection, redis.asyncio.connection.__file__, set(REPLACED) - own


class Lean(Accountable):
    """As `Accountable`, to be mixed into classes that are known."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.wire: Wire | None = None  # of a session of which the parts are known
        super().__init__(*args, **kwargs)

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """As redis-py's, whose handshake goes its own way."""
        if not self.is_connected:
            self.wire = None
            await super().connect_check_health(check_health, retry_socket_connect)
            self.wire = Wire.of(self._writer, self._reader, self._parser)

    def disconnect(self, *args: Any, **kwargs: Any) -> "CoroutineType[Any, Any, None]":
        """As redis-py's."""
        self._cut()
        return super().disconnect(*args, **kwargs)

    def abort(self) -> None:
        """Close at once."""
        self._cut()
        super().abort()

    def _cut(self) -> None:
        """Forget the wire, which may hold an error that holds the connection."""
        self.wire = self._active_read_timeout = None

    # ---- lanes -------------------------------------------------------------------------------

    @property
    def transport(self) -> asyncio.WriteTransport:
        """That of the present session; there must be one."""
        assert self._writer is not None  # noqa: S101 - for the type checkers
        return self._writer.transport

    def read_by(self, reader: Reader | None) -> None:
        """Have another read all that arrives, in its own time, until this is called with None."""
        self._active_read_timeout = reader  # type: ignore[assignment]  # for redis-py to change it
        if self.wire is not None:
            self.wire.read_by(reader)

    async def handle_push(self, push: list[Any]) -> None:
        """Handle a push message in redis-py's way."""
        parser: Any = self._parser
        await parser.handle_push_response(push)

    # ---- writing -----------------------------------------------------------------------------

    def pack_command(self, *args: Any) -> list[bytes]:
        """As redis-py's."""
        command = packed(args, self.encoder)
        if command is None:
            return super().pack_command(*args)
        self._packed.append(noteworthy(args))
        return [command]

    def send_now(self, args: tuple[Any, ...], /) -> bool:
        """Write a command at once; false if that can't be done, and nothing has been done.

        Raises:
            redis.exceptions.DataError: An argument is of a type that redis-py does not send.

        """
        writer = self._writer
        if (
            writer is None
            or self.wire is None
            or self.health_check_interval
            or (transport := writer.transport).is_closing()
            or (command := packed(args, self.encoder, SHORT)) is None
        ):
            return False
        try:
            transport.write(command)
        except Exception:  # noqa: BLE001 - redis-py will come to know it in its own way
            return False
        self.ledger.sent(noteworthy(args), self.db)
        return True

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """As redis-py's."""
        writer = self._writer
        if (
            writer is None
            or self.wire is None
            or not isinstance(command, list)
            or (check_health and self.health_check_interval)
        ):
            await super().send_packed_command(command, check_health)
            return
        transport = writer.transport
        if transport.is_closing():
            self._packed = []
            await self._write([], check_health=False)  # in which redis-py finds the words
            await self.disconnect(nowait=True)
            raise RedisConnectionError(CLOSED)
        try:
            # Not writelines(): before CPython 3.12.9 and 3.13.2 that knows no high-water mark, and
            # before 3.13.10 it breaks the event loop on a connection that has failed.
            transport.write(command[0] if len(command) == 1 else b"".join(command))
        except Exception:  # noqa: BLE001 - redis-py will come to know it in its own way
            await super().send_packed_command(command, check_health)
            return
        names, self._packed = self._packed, []
        self._note(names)
        if transport.is_closing() or transport.get_write_buffer_size():
            # It has failed; or not all is sent, as the peer is slow, or since uvloop before 0.23 sends
            # in the next turn only. redis-py waits, or finds the words.
            await self._write([], check_health=False)

    # ---- reading -----------------------------------------------------------------------------

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """As redis-py's."""
        wire = self.wire
        if (
            wire is None
            or disable_decoding
            or push_request
            or timeout is not None
            or not disconnect_on_error  # a reply that is given to who is cancelled then would be lost
        ):
            return await super().read_response(
                disable_decoding,
                timeout,
                disconnect_on_error=disconnect_on_error,
                push_request=push_request,
            )
        try:
            reply = wire.arrived()
            if reply is INCOMPLETE and not wire.over:
                self._active_read_timeout = wire  # type: ignore[assignment]  # for redis-py to change it
                reply = await wire.reply(self.socket_timeout)
            if type(reply) not in PLAIN:
                reply = await self._handled(reply, wire)
        except BaseException as error:
            reply = None  # it may be the error, which would refer to itself by way of this frame
            await self.disconnect(nowait=True)
            if isinstance(error, Exception):
                told = self.in_redis_pys_words(error)
                try:
                    if told is not error:
                        raise told from told.__cause__
                finally:
                    del told  # likewise
            raise
        if reply is INCOMPLETE:  # for it is over, of which redis-py tells
            return await super().read_response()
        if self.health_check_interval:
            now = asyncio.get_running_loop().time()
            self.next_health_check = now + self.health_check_interval
        if isinstance(reply, ResponseError):
            told = await self._answered_by(reply)
            try:
                raise told from None
            finally:
                del told, reply  # or it would refer to itself by way of this frame
        self.ledger.answered(well=True)
        return reply

    async def _answered_by(self, error: ResponseError) -> Exception:
        """Give what is to be raised for an error that was replied; another one ends the connection."""
        self.ledger.answered(well=isinstance(error, ExecAbortError))
        told = self.told(error)
        if told is not error:
            await self.disconnect(nowait=True)
        return told

    async def _handled(self, reply: Any, wire: Wire) -> Any:
        """Handle the push messages before a reply, and raise an error that ends the connection."""
        while isinstance(reply, wire.push_type):
            await self.handle_push(reply)
            reply = wire.arrived()
            if reply is INCOMPLETE and not wire.over:
                reply = await wire.reply_in_the_same_time()
        first = cast("object", reply[0] if reply and type(reply) is list else reply)
        if isinstance(first, RedisConnectionError):
            try:
                raise first
            finally:
                del first, reply  # as above
        return cast("Any", reply)

    def in_redis_pys_words(self, error: Exception) -> Exception:
        """Give the error that redis-py makes of one that ended a read, often the same."""
        if isinstance(error, (TimeIsUp, TimeoutError)):  # the latter if it is TCP that gave up
            return RedisTimeoutError(f"Timeout reading from {self._host_error()}")
        if isinstance(error, OSError):
            self._lost = True
            made = RedisConnectionError(
                f"Error while reading from {self._host_error()} : {error.args}"
            )
            made.__cause__ = error
            return made
        if isinstance(error, RedisConnectionError):
            self._lost = error.status_code is None  # else it is what the server has replied
        return error

    # ---- looking -----------------------------------------------------------------------------

    def may_be_lent(self) -> bool:
        """As `Accountable`, which is asked where something is not as it should be."""
        return (self._is_in_order() and not self._look(0)) or super().may_be_lent()

    def may_be_put_aside(self) -> bool:
        """As `Accountable`."""
        return self._is_in_order() or super().may_be_put_aside()

    def _is_in_order(self) -> bool:
        writer, wire = self._writer, self.wire
        return (
            writer is not None
            and wire is not None
            and wire.quiet
            and self.ledger.clean
            and not self._should_reconnect
            and not writer.transport.is_closing()
        )


@lru_cache(maxsize=128)
def accountable(connection_class: type[AbstractConnection]) -> type[Accountable]:
    """Give the accountable version of a connection class, redis-py's own or a user's.

    It is lean if the class is known.
    """
    if issubclass(connection_class, Accountable):
        return connection_class
    mixins: list[type] = [Lean] if is_known(connection_class) else []
    if issubclass(connection_class, SentinelManagedConnection):
        mixins.append(Managed)
    made = type(connection_class.__name__, (*mixins, Accountable, connection_class), {})
    made.__module__ = connection_class.__module__
    return cast("type[Accountable]", made)
