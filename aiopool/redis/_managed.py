"""redis-py's connections that ask their pool where to connect, made accountable: a mixin."""

from collections.abc import Iterable
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.utils import str_if_bytes

from ._connection import Accountable

# What Redis says where a replica takes no writes, if it is not the reply itself, but the reason for which a
# transaction is discarded or a script has failed.
READONLY = "READONLY You can't write"


DEMOTED = "The previous master is now a slave"  # redis-py's words


class Managed(Accountable):
    """To be mixed into redis-py's `SentinelManagedConnection` and what is derived from it."""

    connection_pool: Any
    host: Any
    port: Any

    async def connect_to(self, address: tuple[str, int]) -> None:
        """As redis-py's. If it fails, the pool asks anew where to connect."""
        try:
            await super().connect_to(address)  # type: ignore[misc]  # it is redis-py's class that has it
        except RedisTimeoutError as error:
            self.connection_pool.led_astray()
            if self.connection_pool.is_master:
                raise
            # Else a replica that hangs would keep redis-py from the next one.
            msg = f"{address[0]}:{address[1]} hangs: {error}"
            raise RedisConnectionError(msg) from error
        except BaseException:
            self.connection_pool.led_astray()
            raise

    async def _write(self, command: bytes | str | Iterable[bytes], check_health: bool) -> None:
        """As redis-py's, which would connect anew to where it was before, asking nobody."""
        if not self.is_connected:
            await self._connect_retry()  # type: ignore[attr-defined]  # likewise
        await super()._write(command, check_health)

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """As redis-py's. Who should be a master is asked, for Sentinel may not know yet that it is none."""
        await super().on_connect_check_health(check_health)
        if not self.connection_pool.is_master:
            return
        try:
            await self.send_command("ROLE", check_health=False)
            reply: object = await self.read_response()
        except ResponseError:  # this user may not ask, or the server does not know
            return
        role = cast("object", reply[0]) if isinstance(reply, list) and reply else "master"
        if role not in {"master", b"master"}:
            told = str_if_bytes(cast("bytes", role))
            msg = f"{self.host}:{self.port} is no master, as Sentinel has said, but a {told}"
            raise RedisConnectionError(msg)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's, which makes another error of the one for which `told()` looks."""
        try:
            return await super().read_response(*args, **kwargs)
        except ResponseError as error:
            self.told(error)
            raise
        except RedisConnectionError as error:
            if isinstance(error.__context__, ReadOnlyError):
                self.told(error.__context__)
            raise

    def told(self, error: Exception) -> Exception:
        """As redis-py's: a master that takes no writes is none any more. The pool comes to know it."""
        is_reply = isinstance(error, ReadOnlyError)
        if not (self.connection_pool.is_master and (is_reply or READONLY in str(error))):
            return error
        self.connection_pool.demoted(self)
        return RedisConnectionError(DEMOTED) if is_reply else error
