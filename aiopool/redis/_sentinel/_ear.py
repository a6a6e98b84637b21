"""Listens for a Sentinel's word that a master was replaced."""

import asyncio
from random import uniform
from typing import Any, NamedTuple, Protocol
from weakref import ref

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.utils import str_if_bytes

from aiopool.redis._connection import Accountable
from aiopool.redis._lean import accountable

CHANNEL = "+switch-master"

# After so many seconds of silence a Sentinel is asked for a sign of life, and after as many given up.
SILENCE = 5.0

# Before the next Sentinel is tried there is a pause that doubles, from half to all of it at random.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0


class Switch(NamedTuple):
    """The words of a message."""

    service: str
    old_host: str
    old_port: str
    host: str
    port: str


class Listener(Protocol):
    """Who wants to hear of a service."""

    service: str

    @property
    def sentinels(self) -> list[Any]:
        """redis-py's clients of the Sentinels, the one to listen to at the top."""
        ...

    def lost(self, client: Any, /) -> None:
        """Hear that this Sentinel can't be reached."""
        ...

    def heard_of(self, address: tuple[str, int], /) -> None:
        """Hear that the master is there now."""
        ...

    async def catch_up(self) -> None:
        """Ask what may have been missed."""
        ...


async def listen(listener: "ref[Listener]") -> None:
    """Listen to one Sentinel after the other, each until it is lost."""
    lost = 0  # so many, since the last that was listened to
    deaf = False  # there was a time in which nobody was
    while (alive := listener()) is not None:
        client = next(iter(alive.sentinels), None)
        del alive
        conn: Accountable | None = None
        try:
            conn = _connection(client)
            await conn.connect()  # type: ignore[no-untyped-call]  # not typed
            await _send(conn, "SUBSCRIBE", CHANNEL)
            await _next(conn)
            lost = 0
            if deaf and (alive := listener()) is not None:
                await alive.catch_up()
                del alive
            while True:
                _tell(listener, await _next(conn))
        except (RedisConnectionError, RedisTimeoutError, OSError):
            deaf = True
        except Exception:  # noqa: BLE001 - this user may not, or it is no real client: do without
            return
        finally:
            if conn is not None:
                conn.abort()
        if (alive := listener()) is not None:
            alive.lost(client)
            del alive
        pause = min(FIRST_PAUSE * 2.0 ** min(lost, 32), LONGEST_PAUSE)
        lost += 1
        await asyncio.sleep(pause * uniform(0.5, 1))  # noqa: S311 - no secret


def _connection(client: Any) -> Accountable:
    """Make one that is not of the client's pool, which may be closed, and does not try again by itself."""
    pool = client.connection_pool
    conn = accountable(pool.connection_class)(**pool.connection_kwargs)
    conn.retry = Retry(NoBackoff(), 0)
    return conn


async def _send(conn: Accountable, *command: str) -> None:
    """Send a command, in which redis-py may lose a cancellation: it uses `wait_for()` of CPython 3.11."""
    await conn.send_command(*command, check_health=False)
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError


async def _next(conn: Accountable) -> Any:
    """Read what comes next."""
    for command in ("PING", None):
        reply = await conn.read_response(
            timeout=SILENCE, disconnect_on_error=False, push_request=True
        )
        if reply is not None:
            return reply
        if command is not None:
            await _send(conn, command)
    raise RedisTimeoutError


def _tell(listener: "ref[Listener]", reply: Any) -> None:
    """Tell of a message, if it is about the service."""
    match [str_if_bytes(word) for word in reply if isinstance(word, (bytes, str))]:
        case ["message", _, words] if len(told := words.rsplit(" ", 4)) == len(Switch._fields):
            switch = Switch(*told)
            if (
                (alive := listener()) is not None
                and switch.service == alive.service
                and switch.port.isdecimal()
            ):
                alive.heard_of((switch.host, int(switch.port)))
        case _:
            pass
