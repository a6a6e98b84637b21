"""What a connection owes: replies not read yet, and state that the next user must not inherit."""

from collections.abc import Sequence
from functools import lru_cache

# Commands after which the session is not what the handshake made it, and no command undoes that for
# certain: other subscriptions, user, protocol or database, a stream instead of replies.
_STAINS = frozenset(
    [
        "ASKING",
        "AUTH",
        "HELLO",
        "MONITOR",
        "PSUBSCRIBE",
        "PSYNC",
        "QUIT",
        "READONLY",
        "READWRITE",
        "RESET",
        "SSUBSCRIBE",
        "SUBSCRIBE",
        "SYNC",
    ]
)
_CLIENT_STAINS = frozenset(["CAPA", "IMPORT-SOURCE", "NO-EVICT", "NO-TOUCH", "REPLY", "TRACKING"])
_NOTEWORTHY = _STAINS | frozenset(
    ["CLIENT", "DISCARD", "EXEC", "MULTI", "SELECT", "UNWATCH", "WATCH"]
)


class Ledger:
    """The account of one session, from the handshake to the disconnect.

    It errs on the safe side: what it does not understand makes the connection one to be closed, not
    one to be lent.
    """

    __slots__ = ("in_multi", "owed", "packed", "stained", "watching")

    def __init__(self) -> None:
        self.packed = 0  # commands made into bytes, but not sent yet
        self.owed = 0  # replies to commands sent, but not read yet
        self.in_multi = False
        self.watching = False
        self.stained = False

    @property
    def clean(self) -> bool:
        """Whether the next user gets what a new connection would give."""
        return not (self.owed or self.stained or self.in_multi or self.watching)

    def note_packed(self, args: Sequence[object], db: object) -> None:
        """A command was made into bytes. `db` is the database that the connection belongs to."""
        self.packed += 1
        if _noteworthy(args[0]):
            words = [*_text(args[0]).split(), *(_text(arg) for arg in args[1:3])]
            self._note(words[0].upper(), words[1:], str(db))

    def note_sent(self) -> None:
        """What was packed is being sent. Bytes that nobody packed here can't be accounted for."""
        if self.packed:
            self.owed += self.packed
            self.packed = 0
        else:
            self.stained = True

    def note_reply(self) -> None:
        """A reply was read, be it an error. One that nobody waited for is a bad sign."""
        if self.owed:
            self.owed -= 1
        else:
            self.stained = True

    def _note(self, name: str, rest: list[str], db: str) -> None:
        if name in _STAINS:
            self.stained = True
        elif name == "CLIENT":
            self.stained |= bool(rest) and rest[0].upper() in _CLIENT_STAINS
        elif name == "SELECT":
            self.stained |= rest[:1] != [db]
        elif name == "MULTI":
            self.in_multi = True
        elif name == "WATCH":
            self.watching = True
        elif name == "UNWATCH":
            self.watching &= self.in_multi  # inside MULTI it is only queued
        elif self.in_multi and not rest:  # EXEC or DISCARD; with arguments they are refused
            self.in_multi = self.watching = False


@lru_cache(maxsize=1024)
def _noteworthy(name: object) -> bool:
    words = _text(name).split(maxsplit=1)
    return not words or words[0].upper() in _NOTEWORTHY


def _text(arg: object) -> str:
    return arg.decode("latin-1") if isinstance(arg, bytes) else str(arg)
