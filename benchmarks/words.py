"""Numbers as people read them."""

from .results import Spread


def amount(value: float, unit: str) -> str:
    """Write a sample: seconds or bytes."""
    if unit == "B":
        return f"{value:,.0f} B"
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{significant(value * factor)} {name}"
    return f"{significant(value * 1e9)} ns"


def times(spread: Spread) -> str:
    """Write a ratio, and its extremes if there was more than one round."""
    if spread.least == spread.most:
        return f"{significant(spread.middle)}x"
    return f"{significant(spread.middle)}x ({significant(spread.least)}-{significant(spread.most)})"


def count(value: float) -> str:
    """Write what was counted, or a mean of it."""
    return f"{value:,.0f}" if value == int(value) else significant(value)


def significant(value: float) -> str:
    """Write two digits, or all of a larger number before its point."""
    for least, digits in ((9.95, 0), (0.995, 1), (0.0995, 2)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.2g}"
