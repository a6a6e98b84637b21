"""Which commands may share a connection with those of other tasks."""

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from redis.utils import str_if_bytes

from ._ledger import LONGEST_NAME, may_matter

# What the server says of commands that keep a connection waiting or change what it is to others, and of
# those of administrators, some of which take long (https://redis.io/docs/latest/commands/command/).
_TELLING = frozenset(["admin", "blocking", "no_auth", "no_multi", "noscript", "pubsub"])

# To subscribers these are pub/sub; to all others they are commands like any other.
_PUBLISHING = frozenset(["PUBLISH", "SPUBLISH"])

# They may block, or not, depending on an argument.
_READING_STREAMS = frozenset(["XREAD", "XREADGROUP"])

# WAIT and WAITAOF wait for what was written before on the same connection; before HIMPORT, redis-py
# prepares the connection.
_OTHERS = frozenset(["HIMPORT", "WAIT", "WAITAOF"])

_SCRIPTS = frozenset(["EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"])

# So many names are remembered with what was found.
_MOST_NAMES = 1024


# True in tasks of which the commands share nothing.
alone: ContextVar[bool] = ContextVar("alone", default=False)


class Sharing:
    """Decides it by what the server tells of its commands. What is not known for certain shares nothing."""

    def __init__(self, *, scripts: bool) -> None:
        """Know nothing yet; `scripts` says whether scripts and functions share."""
        self._scripts = scripts
        self._flags: dict[str, frozenset[str]] = {}  # also by "NAME|SUBCOMMAND"
        self._containers: set[str] = set()
        self.known: dict[object, bool] = {}  # by name, of those of which nothing else matters

    def learn(self, commands: Iterable[Sequence[Any]]) -> None:
        """Take in the reply to `COMMAND`."""
        for name, _, flags, *others in commands:
            full = str_if_bytes(name).upper()
            self._flags[full] = frozenset(str_if_bytes(flag) for flag in flags)
            subcommands = others[-1] if len(others) > 6 else ()  # noqa: PLR2004 - since Redis 7
            if subcommands:
                self._containers.add(full)
                self.learn(subcommands)

    def may_share(self, args: Sequence[object]) -> bool:
        """Whether this command shares."""
        name = args[0]
        if not isinstance(name, (str, bytes)) or len(name) > LONGEST_NAME:
            return False
        first, *others = str_if_bytes(name).upper().split() or [""]
        if first in _READING_STREAMS:
            # A stream or a group may have that name: then it does not share, and nothing is lost.
            words = [*others, *map(_upper, args[1:])]
            return first in self._flags and "BLOCK" not in words
        if first in self._containers:
            if not others:
                return len(args) > 1 and self._shares(f"{first}|{_upper(args[1])}")
            first = f"{first}|{others.pop(0)}"
        shares = self._shares(first)
        if not others and len(self.known) < _MOST_NAMES:  # else it is a command, perhaps a secret
            self.known[name] = shares
        return shares

    def _shares(self, name: str) -> bool:
        if name in _SCRIPTS:
            return self._scripts and name in self._flags
        flags = self._flags.get(name)
        return (
            flags is not None
            and (name in _PUBLISHING or not flags & _TELLING)
            and name not in _OTHERS
            and not may_matter(name.partition("|")[0])
        )


def _upper(arg: object) -> str:
    return str_if_bytes(arg).upper() if isinstance(arg, (str, bytes)) else ""
