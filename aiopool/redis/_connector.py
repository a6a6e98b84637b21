"""How the pool opens, checks, looks at and closes connections of `redis.asyncio`."""

from collections.abc import Callable
from secrets import token_hex

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from ._connection import Accountable


class RedisConnector:
    """A `Connector` of accountable redis-py connections."""

    def __init__(self, make: Callable[[], Accountable]) -> None:
        self._make = make

    async def open(self) -> Accountable:
        """Connect and shake hands, once: trying again is the pool's business."""
        conn = self._make()
        try:
            await conn.connect_check_health(retry_socket_connect=False)
        except BaseException:
            conn.abort()
            raise
        if not conn.may_be_lent():
            conn.abort()
            msg = "the server closed the connection as soon as it was open"
            raise RedisConnectionError(msg)
        return conn

    async def check(self, conn: Accountable, /) -> None:
        """Send a PING that only its own reply can answer."""
        nonce = token_hex(8)
        try:
            await conn.send_command("PING", nonce, check_health=False)
            reply = await conn.read_response()
        except NoPermissionError:  # an answer all the same
            return
        if reply not in (nonce, nonce.encode()):
            msg = "PING was answered with another command's reply"
            raise RedisConnectionError(msg)

    def is_usable(self, conn: Accountable, /) -> bool:
        """Look whether it is connected, owes nothing, and nothing came unasked."""
        return conn.may_be_lent()

    def close(self, conn: Accountable, /) -> None:
        """Abort it."""
        conn.abort()
