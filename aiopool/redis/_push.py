"""Are these unread bytes nothing but push messages?

RESP3 lets a server send such messages at any time, so they say nothing bad of a connection, while
any other byte that nobody asked for is, or will be, taken for the reply to a later command. The
protocol: https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md
"""

_SIZED = b"$=!"  # bulk and verbatim strings, bulk errors: so many bytes and an end of line
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}  # values for each unit of their size


def only_pushes(data: bytes) -> bool:
    """Whether the bytes are one or more complete push messages, and nothing else."""
    position = 0
    try:
        while position < len(data):
            if data[position : position + 1] != b">":
                return False
            position = _skip(data, position)
    except (ValueError, RecursionError):  # incomplete, or no RESP3
        return False
    return 0 < position == len(data)


def _skip(data: bytes, position: int) -> int:
    """Find the end of the value that begins there; ValueError if there is none."""
    end = data.index(b"\r\n", position)
    kind, size = data[position : position + 1], data[position + 1 : end]
    position = end + 2
    if kind in _AGGREGATES:
        # An attribute comes before the value that it belongs to.
        for _ in range(_AGGREGATES[kind] * int(size) + (kind == b"|")):
            position = _skip(data, position)
    elif kind in _SIZED:
        position += int(size) + 2
    return position
