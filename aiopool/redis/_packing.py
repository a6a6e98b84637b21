"""Commands made into the bytes that redis-py makes of them, with less work for short ones.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis._parsers.encoders import Encoder

from ._ledger import LONGEST_NAME

# The longest argument, as in redis-py, that is copied into one chunk with the others. A command with
# a longer one is redis-py's business.
CUTOFF = 6000

# What goes with each argument, at least: $, a digit, and two ends of line.
_AROUND = 6


def packed(
    args: Sequence[object], encoder: Any, most: int = sys.maxsize, longest: int = CUTOFF
) -> bytes | None:
    """Pack a command into one chunk, or None if redis-py shall do it.

    Args:
        args: Its words; all but the first may be of any type that redis-py sends.
        encoder: The connection's.
        most: How many bytes they may have in all, with what goes round each.
        longest: How many each may have.

    Raises:
        redis.exceptions.DataError: An argument is of a type that redis-py does not send.

    """
    name = args[0]
    if (
        encoder.__class__ is not Encoder  # a user's may see to the name, too
        or (type(name) is not str and type(name) is not bytes)
        or len(name) > LONGEST_NAME
    ):
        return None
    parts = [_head(name, len(args))]
    size = 0
    for arg in args[1:]:
        if type(arg) is str:
            value = arg.encode(encoder.encoding, encoder.encoding_errors)
        else:
            value = encoder.encode(arg)  # type: ignore[no-untyped-call]  # not typed
            if not isinstance(value, bytes):
                return None
        size += (length := len(value)) + _AROUND
        if length > longest or size > most:
            return None
        parts.append(b"$%d\r\n%b\r\n" % (length, value))
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _head(name: str | bytes, count: int) -> bytes:
    """Pack the name, which may be of several words, behind the number of all words."""
    if isinstance(name, str):
        words = name.encode().split()
    else:
        words = name.split() if b" " in name else [name]
    size = b"*%d\r\n" % (len(words) + count - 1)
    return size + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
