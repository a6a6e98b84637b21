"""Which slot a command goes to, of those for which nobody need be asked."""

from collections.abc import Callable
from typing import Any

from redis._parsers import AsyncCommandsParser, Encoder
from redis.asyncio.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# Where the keys of a command are: the first, the last (from the end, if negative), and the step.
Positions = tuple[int, int, int]


class Commands(AsyncCommandsParser):
    """As redis-py's, which would read all commands again whenever it reads the topology."""

    primaries: Callable[[], list[ClusterNode]]  # to be asked if the first can't tell

    async def initialize(self, node: ClusterNode | None = None) -> None:
        """As redis-py's. What is known is read again only if somebody has a command that is not in it."""
        if node is not None:
            self.node = node
            if self.commands:
                return
        others = [other for other in self.primaries() if other != self.node]
        for each in [self.node, *others]:
            try:
                await super().initialize(each)
            except (RedisConnectionError, RedisTimeoutError):
                if not others or each == others[-1]:
                    raise
            else:
                return

    def knows(self, name: str) -> bool:
        """Whether nobody need be asked which keys a command has, if any."""
        name = name.lower()
        command: Any = self.commands.get(name) or self.commands.get(name.partition(" ")[0])
        return command is not None and "movablekeys" not in command["flags"]

    def key_positions(self, name: str) -> Positions | None:
        """Say where the keys are; None if there are none, or if that depends on the arguments."""
        command: Any = self.commands.get(name.lower())
        if (
            command is None
            or command["first_key_pos"] <= 0
            or not {"movablekeys", "pubsub"}.isdisjoint(command["flags"])
        ):
            return None
        return command["first_key_pos"], command["last_key_pos"], command["step_count"]


def slot_of(args: tuple[Any, ...], positions: Positions, encoder: Any) -> int | None:
    """Say which slot has the keys; None if there are no keys, or if they are in several.

    Raises:
        redis.exceptions.DataError: A key is of a type that redis-py does not send.

    """
    first, last, step = positions
    if first == last < len(args):  # nearly always
        key = args[first]
        if type(key) is str and encoder.__class__ is Encoder:  # likewise, and quicker so
            return key_slot(key.encode(encoder.encoding, encoder.encoding_errors))
        return key_slot(encoder.encode(key))
    end = last + 1 if last >= 0 else len(args) + last + 1
    slots = {key_slot(encoder.encode(key)) for key in args[first:end:step]}
    return slots.pop() if len(slots) == 1 else None
