"""Pipelines and transactions of a cluster, which wait in the lines of its nodes."""

import asyncio
from typing import Any, cast

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode, PipelineStrategy, TransactionStrategy
from redis.asyncio.cluster import ClusterPipeline as _ClusterPipeline
from redis.asyncio.connection import Connection
from redis.exceptions import MaxConnectionsError, RedisClusterException, WatchError

from aiopool._errors import PoolError
from aiopool.redis._at_once import at_once
from aiopool.redis._lane import Final

from ._about import for_a_command
from ._queued import Queued

# As redis-py's, after which it tries again.
PAUSE = 0.25


class ClusterPipeline(_ClusterPipeline):
    """As redis-py's."""

    def __init__(self, client: RedisCluster, transaction: bool | None = None) -> None:
        """As redis-py's."""
        super().__init__(client, transaction)
        self._execution_strategy = Transaction(self) if transaction else Together(self)

    async def initialize(self) -> "ClusterPipeline":
        """As redis-py's."""
        client: Any = self.cluster_client
        with for_a_command(client.closings):
            await super().initialize()
        return self


class Together(PipelineStrategy):
    """Commands that are sent together.

    redis-py closes all connections before it tries again, also if a pool has none to lend; it sends
    again what was answered with nothing or 0; and it does not wait for what is under way to other nodes.
    """

    _command_queue: list[Any]  # `Queued`

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's."""
        self._command_queue.append(Queued(len(self._command_queue), *args, **kwargs))
        return self._pipe

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """As redis-py's."""
        client: Any = self._pipe.cluster_client  # typed in parts
        queue = self._command_queue
        retries = client.retry.get_retries()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        cancelled = task.cancelling()
        try:
            with for_a_command(client.closings):
                while to_do := [command for command in queue if not command.answered]:
                    try:
                        await client.initialize()
                        await self._execute(
                            client,
                            to_do,
                            raise_on_error=raise_on_error,
                            allow_redirections=allow_redirections,
                        )
                        break
                    except Exception as error:
                        if task.cancelling() > cancelled:  # to which gather() may prefer an error
                            raise asyncio.CancelledError from None
                        if (
                            isinstance(error, (MaxConnectionsError, PoolError))
                            or not isinstance(error, client.ERRORS_ALLOW_RETRY)
                            or retries <= 0
                        ):
                            raise
                    finally:
                        await _ended(to_do)
                    retries -= 1
                    await client.aclose()  # which only means that the topology is to be read anew
                    await asyncio.sleep(PAUSE)
                return [command.result for command in queue]
        finally:
            await self.reset()  # type: ignore[no-untyped-call]  # not typed


async def _ended(commands: list[Queued]) -> None:
    """Wait until nobody sends or reads any of these any more."""
    tasks = {command.task for command in commands if command.task is not None}
    if tasks:
        await asyncio.wait(tasks)
    for command in commands:
        command.task = None


class Transaction(TransactionStrategy):
    """Commands in `MULTI` and `EXEC`, or after `WATCH`, all on one connection.

    redis-py runs an event loop in another thread for each command that is added, to find its slot.
    """

    def __init__(self, pipe: ClusterPipeline) -> None:
        """As redis-py's."""
        super().__init__(pipe)
        self._unplaced: list[tuple[Any, ...]] = []  # commands of which the slot is not known yet
        self._watched = False  # on the connection that is held

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's: after `WATCH` it gives something to await, else the pipeline."""
        at_once_sent = self._watching or args[0] in self.IMMEDIATE_EXECUTE_COMMANDS
        if at_once_sent and not self._explicit_transaction:
            return self._execute_now(args, kwargs)
        kwargs.pop("keys", None)  # for a cache; redis-py would give it to the callback, which fails
        client: Any = self._pipe.cluster_client  # typed in parts
        if args[0] not in self.NO_SLOTS_COMMANDS:
            if client.knows_slot_of(args):
                self._pipeline_slots.add(at_once(client.find_slot(*args)))
            else:
                self._unplaced.append(args)
        return super(TransactionStrategy, self).execute_command(*args, **kwargs)

    async def _execute_now(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        client: Any = self._pipe.cluster_client
        with for_a_command(client.closings):
            return await (await self._execute_command(*args, **options))

    async def _immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        try:
            return await super()._immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]  # not typed
        except Final as wrapper:
            refused = [wrapper.error]
        raise refused.pop()

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """As redis-py's."""
        client: Any = self._pipe.cluster_client  # typed in parts
        with for_a_command(client.closings):
            if self._command_queue:
                await client.initialize()
            for args in self._unplaced:
                self._pipeline_slots.add(await client.find_slot(*args))
            try:
                return await super().execute(raise_on_error, allow_redirections)
            except Final as wrapper:
                refused = [wrapper.error]
        raise refused.pop()

    # ---- the connection ----------------------------------------------------------------------

    async def _get_connection_and_send_command(self, *args: Any, **options: Any) -> Any:
        await self._hold_a_connection()
        reply = await super()._get_connection_and_send_command(*args, **options)  # type: ignore[no-untyped-call]  # not typed
        self._watched |= args[0] == "WATCH"
        return reply

    async def _reinitialize_on_error(self, error: Exception, failure_count: int) -> None:
        """As redis-py's, which would go on on another connection, where nothing is watched."""
        if self._watching and self._watched and type(error) not in self.SLOT_REDIRECT_ERRORS:
            msg = "the connection has failed on which keys were watched"
            raise WatchError(msg) from error
        await super()._reinitialize_on_error(error, failure_count)  # type: ignore[no-untyped-call]  # not typed

    async def _execute_transaction(self, stack: list[Any], raise_on_error: bool) -> Any:
        if len(self._pipeline_slots) == 1:  # else redis-py refuses it
            await self._hold_a_connection()
        return cast("Any", await super()._execute_transaction(stack, raise_on_error))

    async def _hold_a_connection(self) -> None:
        """Wait for a connection, if there is none yet, where redis-py only takes one that is there."""
        if self._transaction_connection is None and self._pipeline_slots:
            client: Any = self._pipe.cluster_client
            try:
                await client.initialize()  # refused if the client was closed
                node = client.nodes_manager.get_node_from_slot(next(iter(self._pipeline_slots)))
                self._transaction_connection = await node.acquire()
            except (MaxConnectionsError, PoolError) as error:  # no reason to try again
                raise Final(error) from None
            self._transaction_node = node

    def _get_client_and_connection_for_transaction(self) -> tuple[ClusterNode, Connection]:
        """As redis-py's, which takes the node that has the slot now for that of the connection."""
        if self._transaction_node is None or self._transaction_connection is None:
            msg = "At least a command with a key is needed to identify a node"  # redis-py's words
            raise RedisClusterException(msg)
        return self._transaction_node, self._transaction_connection

    async def reset(self) -> None:
        """As redis-py's."""
        self._unplaced, self._watched = [], False
        await super().reset()  # type: ignore[no-untyped-call]  # not typed
