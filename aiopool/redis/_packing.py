"""Commands made into the bytes that redis-py makes of them, with less work for short ones.

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from redis._parsers.encoders import Encoder

# The longest argument, as in redis-py, that is copied into one chunk with the others. A command with
# a longer one is redis-py's business.
CUTOFF = 6000


def packed(args: Sequence[object], encoder: Any) -> bytes | None:
    """Pack a command into one chunk, or None if redis-py shall do it.

    Raises:
        redis.exceptions.DataError: An argument is of a type that redis-py does not send.

    """
    name = args[0]
    if type(name) is not str and type(name) is not bytes:
        return None
    parts = [_head(name, len(args))]
    usual = encoder.__class__ is Encoder
    for arg in args[1:]:
        if usual and type(arg) is str:
            value = arg.encode(encoder.encoding, encoder.encoding_errors)
        else:
            value = encoder.encode(arg)
        if not isinstance(value, bytes):
            return None
        if len(value) > CUTOFF:
            return None
        parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _head(name: str | bytes, count: int) -> bytes:
    """Pack the name, which may be of several words, behind the number of all words."""
    words = name.encode().split() if isinstance(name, str) else name.split()
    size = b"*%d\r\n" % (len(words) + count - 1)
    return size + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
