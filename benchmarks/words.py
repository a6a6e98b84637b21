"""Numbers as people read them."""

from .results import Spread


def amount(value: float, unit: str) -> str:
    """Write a sample: seconds, bytes, or how many times something."""
    if unit == "B":
        return f"{value:,.0f} B"
    if unit == "x":
        return f"{significant(value)}x"
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{significant(value * factor)} {name}"
    return f"{significant(value * 1e9)} ns"


def times(spread: Spread) -> str:
    """Write a ratio, and its extremes if there was more than one round."""
    if spread.least == spread.most:
        return f"{significant(spread.middle)}x"
    return f"{significant(spread.middle)}x ({significant(spread.least)}-{significant(spread.most)})"


def significant(value: float) -> str:
    """Write two digits at least, three from a hundred on."""
    if value >= 10 or value == 0:  # noqa: PLR2004 - two digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
