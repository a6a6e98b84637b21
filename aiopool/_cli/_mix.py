"""What requests do, in which proportions."""

from collections.abc import Mapping
from contextlib import suppress

KINDS: Mapping[str, str] = {
    "get": "GET",
    "set": "SET",
    "pipeline": "20 GETs in one go",
    "transaction": "MULTI, SET, GET, EXEC",
    "slow": "a GET that keeps its connection for --slow seconds more",
}
"""The kinds of requests, and what each does."""

_MOST = 1000  # the largest proportion; nobody needs finer ones


def parse_mix(text: str) -> dict[str, int]:
    """Read `get=8,set=1`.

    Raises:
        ValueError: It is no such list.

    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        kind, _, number = part.partition("=")
        kind = kind.strip()
        if kind not in KINDS:
            msg = f"there is no kind {kind!r} of requests, only {', '.join(KINDS)}"
            raise ValueError(msg)
        if kind in mix:
            msg = f"{kind!r} stands there twice"
            raise ValueError(msg)
        with suppress(ValueError):
            mix[kind] = int(number)
        if not 1 <= mix.get(kind, 0) <= _MOST:
            msg = f"the proportion of {kind!r} is no whole number from 1 to {_MOST}: {number!r}"
            raise ValueError(msg)
    return mix
