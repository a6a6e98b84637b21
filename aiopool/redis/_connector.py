"""How the pool opens, checks, looks at and closes connections of `redis.asyncio`."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from secrets import token_hex
from typing import cast

from redis.asyncio.retry import Retry
from redis.auth.token import TokenInterface
from redis.backoff import NoBackoff
from redis.event import AsyncAfterConnectionReleasedEvent, EventDispatcherInterface
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from ._connection import Accountable
from ._sharing import alone

logger = logging.getLogger("aiopool")

# True in the tasks of listeners to releases, and in those that they begin.
announcing: ContextVar[bool] = ContextVar("announcing", default=False)


class RedisConnector:
    """A `Connector` of accountable redis-py connections."""

    def __init__(
        self, make: Callable[[], Accountable], dispatcher: EventDispatcherInterface | None
    ) -> None:
        """Open what `make` makes; releases are announced by the dispatcher, if there is one."""
        self._make = make
        self._dispatcher = dispatcher
        self.token: TokenInterface | None = None  # to be shown on all connections

    def knows(self, token: TokenInterface) -> bool:
        """Whether it is the one that connections are shown already."""
        words = _words(token)
        return self.token is not None and _words(self.token) == words

    async def open(self) -> Accountable:
        """Connect and shake hands, once: trying again is the pool's business."""
        conn = self._make()
        if not isinstance(cast("object", conn), Accountable):  # a subclass may make anything
            msg = "make_connection() must return what RedisPool.make_connection() makes"
            raise TypeError(msg)
        conn.token = self.token  # what the credential provider gives now is no older
        retry, conn.retry = conn.retry, Retry(NoBackoff(), 0)
        try:
            await conn.connect()  # type: ignore[no-untyped-call]  # not typed
            conn.retry = retry
        except BaseException:
            conn.abort()
            raise
        if not conn.may_be_lent():
            conn.abort()
            msg = "as soon as it was open the server closed the connection, or sent what nobody asked for"
            raise RedisConnectionError(msg)
        return conn

    async def check(self, conn: Accountable, /) -> None:
        """Do what is to be done on a connection that nobody else uses now, else see if it works."""
        told = await self._announce(conn)
        if told and not conn.may_be_lent():
            return  # and is closed where it comes back
        if not (await self._authenticate(conn) or told):
            await _ping(conn)

    async def _announce(self, conn: Accountable) -> bool:
        if self._dispatcher is None or not conn.released:
            return False
        conn.released = False
        announcing.set(True)
        alone.set(True)  # what a listener sends belongs to no lane that is announced itself
        event: object = AsyncAfterConnectionReleasedEvent(conn)  # type: ignore[no-untyped-call]  # not typed
        try:
            await self._dispatcher.dispatch_async(event)
        except Exception:
            logger.exception("a listener to the release of connections failed")
        return True

    async def _authenticate(self, conn: Accountable) -> bool:
        token = self.token
        if token is None or conn.token is token:
            return False
        await conn.authenticate(token)
        return True

    def is_usable(self, conn: Accountable, /) -> bool:
        """Look whether it is connected, owes nothing, and nothing came unasked."""
        return conn.may_be_lent()

    def is_clean(self, conn: Accountable, /) -> bool:
        """Look at all of that but the socket."""
        return conn.may_be_put_aside()

    def close(self, conn: Accountable, /) -> None:
        """Abort it for good."""
        conn.discard()


async def _ping(conn: Accountable) -> None:
    """Send a PING that only its own reply can answer."""
    nonce = token_hex(8)
    try:
        await conn.send_command("PING", nonce, check_health=False)
        reply = await conn.read_response()
    except NoPermissionError:  # an answer all the same
        return
    except ResponseError as error:
        if str(error).startswith("BUSY "):  # with a script: likewise
            return
        raise
    if reply not in (nonce, nonce.encode()):
        msg = "PING was answered with another command's reply"
        raise RedisConnectionError(msg)


def _words(token: TokenInterface) -> tuple[str, str]:
    return token.try_get("oid"), token.get_value()
