"""What a connection owes: replies not read yet, and state that the next user must not inherit."""

from collections import deque
from collections.abc import Sequence
from functools import lru_cache

# Commands after which the server talks unasked, and who has sent them listens for as long as that goes on.
_LISTENING = frozenset(["MONITOR", "PSUBSCRIBE", "PSYNC", "SSUBSCRIBE", "SUBSCRIBE", "SYNC"])
# Commands after which the session is not what the handshake made it, and no command undoes that for
# certain: other subscriptions, user, protocol or database, a stream instead of replies.
_STAINS = _LISTENING | {"ASKING", "AUTH", "HELLO", "QUIT", "READONLY", "READWRITE", "RESET"}
_STAINS_OF_TWO_WORDS = frozenset(
    [
        ("CLIENT", "CAPA"),
        ("CLIENT", "IMPORT-SOURCE"),
        ("CLIENT", "NO-EVICT"),
        ("CLIENT", "NO-TOUCH"),
        ("CLIENT", "REPLY"),
        ("CLIENT", "TRACKING"),
        ("SCRIPT", "DEBUG"),
    ]
)
_OF_TRANSACTIONS = frozenset(["DISCARD", "EXEC", "MULTI", "UNWATCH", "WATCH"])
_NOTEWORTHY = (
    _STAINS | _OF_TRANSACTIONS | {"SELECT"} | frozenset(first for first, _ in _STAINS_OF_TWO_WORDS)
)

# Names of commands are remembered up to this length. What is longer is no name, but a command in one
# string, perhaps with a password in it.
LONGEST_NAME = 64

Words = tuple[str, ...]  # the first three words of a noteworthy command


def noteworthy(args: Sequence[object]) -> Words | None:
    """Give what of this command the ledger wants to know, or None: a reply is to come, no more."""
    name = args[0]
    usual = isinstance(name, (str, bytes)) and len(name) <= LONGEST_NAME
    if not (may_matter(name) if usual else may_matter.__wrapped__(name)):
        return None
    words = [*_text(args[0]).split(), *(_text(arg) for arg in args[1:3])]
    first, *others = words or [""]
    return first.upper(), *others[:2]


class Ledger:
    """The account of one session, from the handshake to the disconnect.

    It errs on the safe side: what it does not understand makes the connection one to be closed, not
    one to be lent. What a command does to transactions is noted when its reply comes, and only if
    that is no error; as replies come in order, the account is right whenever nothing is owed.
    """

    __slots__ = ("_in_multi", "_owed", "_stained", "_watching", "listens")

    def __init__(self) -> None:
        self._owed: deque[Words | None] = deque()  # commands sent, whose replies were not read yet
        self._in_multi = False
        self._watching = False
        self._stained = False
        self.listens: bool = False  # so whoever has it keeps it, on purpose

    @property
    def clean(self) -> bool:
        """Whether the next user gets what a new connection would give."""
        return not (self._owed or self._stained or self._in_multi or self._watching)

    def stain(self) -> None:
        """Something happened that can't be accounted for."""
        self._stained = True

    def sent(self, words: Words | None, db: object) -> None:
        """Note a command sent on a connection that belongs to the database `db`."""
        self._owed.append(words)
        if words is not None:
            name, *rest = words
            self._stained |= (
                name in _STAINS
                or (name, rest[0].upper() if rest else "") in _STAINS_OF_TWO_WORDS
                or (name == "SELECT" and rest != [str(db)])
            )
            self.listens |= name in _LISTENING

    def answered(self, *, well: bool) -> None:
        """Note a reply, `well` unless it was an error. One that nobody waited for is a bad sign."""
        if not self._owed:
            self._stained = True
        elif (words := self._owed.popleft()) is not None and well:
            name = words[0]
            if name == "MULTI":
                self._in_multi = True
            elif name == "WATCH":
                self._watching = True
            elif name == "UNWATCH":
                self._watching &= self._in_multi  # inside MULTI it was only queued
            elif name in _OF_TRANSACTIONS:
                self._in_multi = self._watching = False


@lru_cache(maxsize=1024)
def may_matter(name: object) -> bool:
    """Whether a command of this name may be noteworthy."""
    words = _text(name).split(maxsplit=1)
    return not words or words[0].upper() in _NOTEWORTHY


def _text(arg: object) -> str:
    if isinstance(arg, (bytes, bytearray)):
        return arg.decode("latin-1")
    return arg.tobytes().decode("latin-1") if isinstance(arg, memoryview) else str(arg)
