"""`PipelinedRedis`: a client whose commands share connections with those of other tasks."""

import asyncio
import logging
from asyncio import CancelledError
from contextvars import Context
from copy import deepcopy
from typing import Any

from redis import __version__ as version
from redis.asyncio import ConnectionPool, Redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.observability.providers import get_observability_instance

from aiopool._errors import PoolError, likeness
from aiopool._limits import flag, whole

from ._client import USUAL, Client, called, theirs
from ._core import RedisCore
from ._decoding import decoded
from ._lane import Final
from ._lanes import AT_ONCE, Lanes
from ._later import task_of
from ._lean import KNOWN, Lean, accountable
from ._packing import packed
from ._sharing import Sharing, alone

logger = logging.getLogger("aiopool")

_COMMAND = b"*1\r\n$7\r\nCOMMAND\r\n"


class PipelinedRedis(Client):
    """A `Redis` whose commands share few connections with those of all other tasks.

    ::

        redis = pool.pipelined()
        await redis.get("key")  # from as many tasks as you like

    What tasks ask for in one turn of the event loop is written at once, and replies are handed out in
    the order of the commands. Commands that block, change the connection or belong to a transaction
    get a connection of their own from the pool, as do pipelines, pub/sub and monitors.

    Make one for each pool and keep it: only commands of the same client share. It has connections
    only while commands are under way, so there is nothing to close.
    """

    def __init__(
        self,
        connection_pool: ConnectionPool,
        *,
        lanes: int = 1,
        max_in_flight: int = 10_000,
        share_scripts: bool = True,
        **kwargs: Any,
    ) -> None:
        """Make a client of a `RedisPool`.

        Args:
            connection_pool: It lends the connections, and is not closed with the client.
            lanes: How many connections may be shared at once. A reply waits for those before it on
                the same connection, so more than one helps where some replies are huge; each command
                takes the one with the fewest commands under way.
            max_in_flight: How many commands may be under way at once on all lanes. Others wait in
                line, for the pool's `timeout` at most, before they are written.
            share_scripts: Whether scripts and functions (`EVAL`, `FCALL`, ...) share connections too.
                Others wait for a long one either way, since the server runs one at a time.
            kwargs: Other keywords of `redis.asyncio.Redis` that do not concern connections:
                `event_dispatcher`, `credential_provider`.

        Raises:
            ValueError: An option is out of range.
            TypeError: The pool is no `RedisPool`, an option has the wrong type, or a keyword is another.

        """
        core = getattr(connection_pool, "_core", None)
        if not isinstance(core, RedisCore):
            msg = f"PipelinedRedis needs a RedisPool, not {type(connection_pool).__name__}"
            raise TypeError(msg)
        whole("lanes", lanes, 1, core.stats().max_size)
        whole("max_in_flight", max_in_flight, 1)
        flag("share_scripts", share_scripts)
        for name in kwargs:
            if name not in {"event_dispatcher", "credential_provider"}:
                msg = f"PipelinedRedis takes no {name!r}: its connections are the pool's"
                raise TypeError(msg)
        super().__init__(connection_pool=connection_pool, **kwargs)  # pyright: ignore[reportUnknownMemberType] - typed in parts
        pool: Any = connection_pool  # typed in parts
        self._core = core
        self._most = lanes
        self._max_in_flight = max_in_flight
        self._lanes: Lanes | None = None  # in the present life of the pool
        self._encoder = pool.get_encoder()
        self._decodes = bool(self._encoder.decode_responses)
        self._share_scripts = share_scripts
        self._sharing: Sharing | None = None  # until the server has told
        self._learning: asyncio.Task[Sharing] | None = None
        kind = accountable(pool.connection_class)
        self._undecided = _Undecided(core, kind(**pool.connection_kwargs))
        if version.startswith(KNOWN) and issubclass(kind, Lean):
            # What redis-py's own execute_command() takes for the connection.
            self.connection: Any = self._undecided
        else:  # no command shares where not all is as it is known here
            self._sharing = Sharing(scripts=False)

    # ---- commands ----------------------------------------------------------------------------

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's, on a connection that is shared or not; see the class."""
        if theirs.execute_command is not USUAL or get_observability_instance().is_enabled():
            return await theirs.execute_command(self, *args, **options)
        command = self._shareable(self._sharing or await self._learn(), args, options)
        if command is None:
            return await super().execute_command(*args, **options)
        lanes = self._lanes
        try:
            if lanes is None or not self._core.is_here(lanes.places):
                lanes = self._lanes_here()
            reply = await lanes.ask(command)
            # Written out here, as it is below: a coroutine more would be felt in every command.
            if self._decodes:
                reply = decoded(reply, self._encoder)
            callback = self.response_callbacks.get(args[0])
            return reply if callback is None else await called(callback, reply, options)
        except Final as wrapper:
            refused = [wrapper.error]
        except Exception as error:  # noqa: BLE001 - redis-py decides what becomes of it
            return await self._after(error, self._undecided, args, options)
        except CancelledError:
            if lanes is not None:
                lanes.withdraw()
            raise
        raise refused.pop()  # here, where no wrapper becomes its context

    async def _send_command_parse_response(
        self, conn: Any, command_name: Any, *args: Any, **options: Any
    ) -> Any:
        """As redis-py's, for which here only the place of a connection was found as yet."""
        if conn is not self._undecided:
            return await super()._send_command_parse_response(conn, command_name, *args, **options)  # type: ignore[no-untyped-call]  # not typed
        return await self.unobserved(args, options)

    async def unobserved(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Send a command of which tracers and telemetry know already, once.

        Raises:
            Final: Wraps an error after which it is not to be sent again.

        """
        command = self._shareable(self._sharing or await self._learn(), args, options)
        if command is not None:
            lanes = self._lanes
            if lanes is None or not self._core.is_here(lanes.places):
                lanes = self._lanes_here()
            try:
                reply = await lanes.ask(command)
            except CancelledError:
                lanes.withdraw()
                raise
            if self._decodes:
                reply = decoded(reply, self._encoder)
            callback = self.response_callbacks.get(args[0])
            return reply if callback is None else await called(callback, reply, options)
        pool: Any = self.connection_pool  # typed in parts
        try:
            own = await pool.get_connection()
        except Exception as error:  # noqa: BLE001 - whichever it is
            raise Final(error) from None
        try:
            return await super()._send_command_parse_response(own, args[0], *args, **options)  # type: ignore[no-untyped-call]  # not typed
        finally:
            await pool.release(own)

    def _shareable(
        self, sharing: Sharing, args: tuple[Any, ...], options: dict[str, Any]
    ) -> bytes | None:
        """Pack a command that may share a connection; None if it may not."""
        if NEVER_DECODE in options or EMPTY_RESPONSE in options or alone.get():
            return None
        try:
            shares = sharing.known[args[0]]
        except (KeyError, TypeError, ValueError):  # the others if it can't be looked up
            shares = sharing.may_share(args)
        return packed(args, self._encoder, AT_ONCE, AT_ONCE) if shares else None

    def _lanes_here(self) -> Lanes:
        """Give the lanes in the present life of the pool."""
        try:
            places = self._core.places()
        except PoolError as error:
            raise Final(error) from None
        if self._lanes is None or self._lanes.places is not places:
            self._lanes = Lanes(self._core, places, self._most, self._max_in_flight)
        return self._lanes

    # ---- the rest of redis-py's client ---------------------------------------------------------

    def client(self) -> Redis:
        """Make a client of one connection, as redis-py's does."""
        return Client(connection_pool=self.connection_pool, single_connection_client=True)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the pool if asked to. The client itself has nothing to close."""
        if close_connection_pool or (
            close_connection_pool is None and self.auto_close_connection_pool
        ):
            await self.connection_pool.aclose()

    def __del__(self, *_: Any) -> None:
        """Have nothing to close."""

    # ---- what the server tells ---------------------------------------------------------------

    async def _learn(self) -> Sharing:
        """Have the server asked about its commands, once for all who want to know."""
        task = self._learning
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            self._learning = task = task_of(self._ask_the_server(), "aiopool-commands", Context())
            task.add_done_callback(self._learnt)
        await asyncio.wait([task])
        if task.cancelled():
            msg = "the task that asked for the server's commands was cancelled"
            raise RedisConnectionError(msg)
        if isinstance(error := task.exception(), Exception):
            raise likeness(error) from error.__cause__
        return task.result()

    def _learnt(self, task: asyncio.Task[Sharing]) -> None:
        """Note what was told; if that was an error, the next command asks again."""
        self._learning = None
        if not task.cancelled() and task.exception() is None:
            self._sharing = task.result()

    async def _ask_the_server(self) -> Sharing:
        async def try_again(_error: Exception, _failures: int) -> None:
            pass

        try:
            commands = await self._undecided.call_with_retry(
                lambda: self._lanes_here().ask(_COMMAND), try_again, with_failure_count=True
            )
        except ResponseError as refusal:
            if str(refusal).startswith("BUSY "):  # with a script: nobody is answered now
                raise
            return self._nothing_shares(refusal)
        sharing = Sharing(scripts=self._share_scripts)
        try:
            sharing.learn(commands)
        except (AttributeError, TypeError, ValueError) as error:  # it is no table of commands
            return self._nothing_shares(error)
        return sharing

    def _nothing_shares(self, reason: Exception) -> Sharing:
        logger.warning(
            "%r: no command shares a connection, since the server does not tell its commands: %s",
            self.connection_pool,
            reason,
        )
        return Sharing(scripts=False)


class _Undecided:
    """Stands where redis-py's `execute_command()` has the connection, before it is known which.

    It is also the `Retry` of that connection.
    """

    def __init__(self, core: RedisCore, like: Any) -> None:
        """Stand for connections like this one."""
        self._core = core
        self._retried: list[type[RedisError]] = like.retry_on_error
        self.host = getattr(like, "host", None)
        self.port = getattr(like, "port", None)
        self.db = like.db
        self.retry = self

    def get_retries(self) -> int:
        return self._core.retry.get_retries()

    async def call_with_retry(self, do: Any, fail: Any, **options: Any) -> Any:
        """As redis-py's, but what was not sent is not tried again: the pool has done that."""
        try:
            return await do()
        except Exception as error:  # noqa: BLE001 - the policy decides what becomes of it
            first = [error]
        retry = deepcopy(self._core.retry)  # it counts, and is to count for this command only
        retry.update_supported_errors(self._retried)  # as each connection does

        def attempt() -> Any:
            if first:
                raise first.pop()
            return do()

        try:
            return await retry.call_with_retry(attempt, fail, **options)
        except Final as wrapper:
            refused = [wrapper.error]
        raise refused.pop()  # here, where no wrapper becomes its context

    async def disconnect(self, *_: Any, **__: Any) -> None:
        """Do nothing: a connection that has failed is closed where it is given back."""
