"""Where the bytes of a connection arrive.

Of asyncio's and redis-py's private parts it touches those that `Wire.of()` asks for.
"""

import asyncio
from math import inf
from typing import Any, Protocol, Self, cast

from redis._parsers import _AsyncHiredisParser
from redis._parsers.base import BaseParser
from redis._parsers.hiredis import NOT_ENOUGH_DATA as INCOMPLETE
from redis.exceptions import ConnectionError as RedisConnectionError

from aiopool._alarm import Alarm, weakly

from ._at_once import at_once

# How much of what has arrived is taken at a time: all, as good as always.
MOST = 1 << 24

# redis-py's words.
_ENDED = "Connection closed by server."

__all__ = ["INCOMPLETE", "Reader", "TimeIsUp", "Wire"]


class TimeIsUp(Exception):
    """No reply came in time."""


class Reader(Protocol):
    """Reads many replies, with the wire's parser."""

    def read(self, data: bytes, /) -> None:
        """Take in bytes."""
        ...

    def may_write(self) -> None:
        """Hear that the peer takes bytes again."""
        ...

    def reschedule(self, when: float | None, /) -> None:
        """Hear that the time limit is another now."""
        ...

    def fail(self, error: Exception, /) -> None:
        """Take in the end."""
        ...


class Wire(asyncio.Protocol):
    """Gives what arrives to hiredis for whoever waits for a reply, else to asyncio's stream.

    It stands before the stream's own protocol: a reply need not go through the stream then, and one
    timer does for all replies, which is set anew when it rings.
    """

    def __init__(
        self, writer: asyncio.StreamWriter, stream: asyncio.StreamReader, parser: BaseParser
    ) -> None:
        """Stand before the protocol that the transport has."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._time = loop.time
        self._protocol = cast("asyncio.StreamReaderProtocol", writer.transport.get_protocol())
        self._stream: Any = stream  # asyncio has no public look at what it has buffered
        self.hiredis: Any = getattr(parser, "_reader")  # noqa: B009 - redis-py's parser would wait for the stream
        # redis-py's name for the class of push messages, which hiredis has had since 3.2.
        self.push_type: Any = getattr(parser, "_hiredis_PushNotificationType", None) or ()
        self._alarm = Alarm(loop, weakly(self._ring))
        self._deadline = inf
        self._waiting: asyncio.Future[Any] | None = None
        self._reader: Reader | None = None  # instead of those who wait for one reply
        self.over = False  # nothing more will arrive
        writer.transport.set_protocol(self)

    @classmethod
    def of(
        cls,
        writer: asyncio.StreamWriter | None,
        stream: asyncio.StreamReader | None,
        parser: BaseParser,
    ) -> Self | None:
        """Wire up a new session; None if its parts are not those of redis-py as it is known here."""
        known = (
            type(writer) is asyncio.StreamWriter
            and type(stream) is asyncio.StreamReader
            and type(parser) is _AsyncHiredisParser
            and type(writer.transport.get_protocol()) is asyncio.StreamReaderProtocol
            and isinstance(getattr(stream, "_buffer", None), bytearray)
            and hasattr(getattr(parser, "_reader", None), "has_data")
        )
        return cls(writer, stream, parser) if known and writer and stream else None

    @property
    def quiet(self) -> bool:
        """Whether nothing has arrived that was not read, neither bytes nor the end."""
        return not (self.over or self._stream._buffer or self.hiredis.has_data())  # noqa: SLF001 - see above

    def read_by(self, reader: Reader | None) -> None:
        """Have another read all that arrives, until this is called with None."""
        if reader is not None and self._stream._buffer:  # noqa: SLF001 - see above
            self.hiredis.feed(at_once(self._stream.read(MOST)))
        self._reader = reader

    def arrived(self) -> Any:
        """Take a reply that is here, else `INCOMPLETE`.

        Raises:
            Exception: What hiredis raises: these bytes are no reply.

        """
        reply = self.hiredis.gets()
        if reply is INCOMPLETE and self._stream._buffer:  # noqa: SLF001 - see above
            # What arrived while nobody waited. There is something, so it does not suspend.
            self.hiredis.feed(at_once(self._stream.read(MOST)))
            reply = self.hiredis.gets()
        return reply

    def reply(self, timeout: float | None) -> "asyncio.Future[Any]":
        """Wait for the next reply, where none is here and there will be one.

        Args:
            timeout: For so many seconds; None waits for ever.

        Raises:
            TimeIsUp: It did not come in time.
            redis.exceptions.ConnectionError: The peer has ended the connection.
            OSError: The connection has failed.
            Exception: What hiredis raises: these bytes are no reply.

        """
        self.reschedule(None if timeout is None else self._time() + timeout)
        return self._wait()

    def reply_in_the_same_time(self) -> "asyncio.Future[Any]":
        """Wait for another reply, before the deadline of the one before, which may have passed."""
        self.reschedule(self._deadline)
        return self._wait()

    def _wait(self) -> "asyncio.Future[Any]":
        if (before := self._waiting) is not None and not before.done():
            msg = "another task waits for a reply on this connection already"
            raise RuntimeError(msg)
        waiting: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        self._waiting = waiting
        return waiting

    def reschedule(self, when: float | None) -> None:
        """Set the deadline on the loop's clock, or none, as `asyncio.Timeout` does."""
        self._deadline = deadline = inf if when is None else when
        if deadline < self._alarm.when:
            self._alarm.at(deadline)

    def _ring(self) -> None:
        if self._waiting is None:
            return
        if self._deadline <= self._time():
            self._fail(TimeIsUp())
        else:
            self._alarm.at(self._deadline)

    def _fail(self, error: Exception) -> None:
        if (reader := self._reader) is not None:
            reader.fail(error)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    # ---- what the transport calls ------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        if (reader := self._reader) is not None:
            reader.read(data)
            return
        waiting = self._waiting
        if waiting is None or waiting.done():  # done: who waited was cancelled
            self._waiting = None
            self._protocol.data_received(data)
            return
        try:
            self.hiredis.feed(data)
            reply = self.hiredis.gets()
        except Exception as error:  # noqa: BLE001 - it is for who waits
            del waiting  # or the error would refer to itself by way of this frame
            self._fail(error)
            return
        if reply is not INCOMPLETE:
            self._waiting = None
            waiting.set_result(reply)

    def eof_received(self) -> bool | None:
        """Take in that the peer will send nothing more."""
        self.over = True
        keep_open = self._protocol.eof_received()
        self._fail(RedisConnectionError(_ENDED))
        return keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Take in the end."""
        self.over = True
        self._protocol.connection_lost(exc)
        self._fail(exc or RedisConnectionError(_ENDED))

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()
        if (reader := self._reader) is not None:
            reader.may_write()
