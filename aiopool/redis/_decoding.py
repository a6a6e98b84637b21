"""Replies in bytes made into those in text that redis-py would give."""

from typing import Any, cast


def decoded(reply: object, encoder: Any) -> Any:
    """Decode a reply, and what is in it, as redis-py's parsers do."""
    if isinstance(reply, bytes):
        return reply.decode(encoder.encoding, encoder.encoding_errors)
    if isinstance(reply, list):
        return [decoded(item, encoder) for item in cast("list[object]", reply)]
    if isinstance(reply, set):
        return {decoded(item, encoder) for item in cast("set[object]", reply)}
    if isinstance(reply, dict):
        pairs = cast("dict[object, object]", reply).items()
        return {decoded(key, encoder): decoded(value, encoder) for key, value in pairs}
    return reply
