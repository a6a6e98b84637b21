"""Which size to take, and why: pure functions of what was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ._measurement import Row

ENOUGH = 0.95
"""The part of the best throughput that is as good as the best: for less than that, nobody would pay
with more connections."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The answer, and how certain it is."""

    max_size: int
    """The smallest size that gives enough, by the medians."""
    at_least: int
    """The smallest size that may give enough: it did in one of four rounds."""
    at_most: int
    """The smallest size that gives enough for certain: it did in three of four rounds. If there is none,
    the largest."""
    best: int
    """The size with the best throughput."""


def advise(rows: Sequence[Row]) -> Advice | None:
    """Find the smallest size that gives enough; None, if requests fail at all sizes."""
    fit = [row for row in rows if row.sound]
    if not fit:
        return None
    (best,) = (row.size for row in fit if row.best)
    return Advice(
        max_size=min([best, *(row.size for row in fit if row.share.middle >= ENOUGH)]),
        at_least=min([best, *(row.size for row in fit if row.share.high >= ENOUGH)]),
        at_most=min([fit[-1].size, *(row.size for row in fit if row.share.low >= ENOUGH)]),
        best=best,
    )


def explain(rows: Sequence[Row], advice: Advice | None, rounds: int) -> list[str]:
    """Say in sentences what the advice is and where it comes from; the first is the answer."""
    return [*_explain(rows, advice, rounds)]


def _explain(rows: Sequence[Row], advice: Advice | None, rounds: int) -> Iterator[str]:
    if advice is None:
        yield "There is no answer: at every size, more than one request in 1,000 failed."
        return
    taken = next(row for row in rows if row.size == advice.max_size)
    yield _answer(rows, advice, taken)
    yield from _doubts(rows, advice, rounds)
    yield from _quicker(rows, taken)
    yield from _little(taken)
    yield from _beyond(rows[-1], taken)


def _answer(rows: Sequence[Row], advice: Advice, taken: Row) -> str:
    if len(rows) == 1:
        return (
            f"max_size={taken.size} is the only size measured: there is nothing to compare it with."
        )
    if advice.best != taken.size:
        return (
            f"max_size={taken.size} is the smallest of these sizes within 5 % of the best "
            f"throughput: it has {percent(taken.share.middle)} % of that with {advice.best}."
        )
    if taken.size == rows[0].size:
        return f"max_size={taken.size}, the smallest of these sizes, has the best throughput."
    return (
        f"max_size={taken.size} has the best throughput, "
        "and none of the smaller sizes comes within 5 % of it."
    )


def _doubts(rows: Sequence[Row], advice: Advice, rounds: int) -> Iterator[str]:
    if advice.at_least != advice.at_most:
        doubtful = " and ".join(
            f"{row.size} had {percent(row.share.low)} to {percent(row.share.high)} %"
            for row in rows
            if row.size in {advice.at_least, advice.max_size}
            and row.share.low < ENOUGH <= row.share.high
        )
        yield (
            f"That can't be told for certain: from round to round, {doubtful} of the best, and the "
            f"answer may be anything from {advice.at_least} to {advice.at_most}. "
            "More --rounds, longer --seconds or a quieter machine would tell."
        )
    elif rounds == 1 and len(rows) > 1:
        yield "One round can't tell how certain that is."
    for row in rows:
        if not row.sound:
            yield (
                f"max_size={row.size} is out of the question: "
                f"{row.failed:,} of {row.failed + row.finished:,} requests failed."
            )
    if len(rows) > 1 and advice.max_size == rows[-1].size:
        yield "No larger size was measured; it might do better."


def _quicker(rows: Sequence[Row], taken: Row) -> Iterator[str]:
    """Say what throughput does not show: rare long waits, which a few more connections may end."""
    notable = 0.8
    for row in rows:
        if row.size > taken.size and row.sound and row.request_p99 < notable * taken.request_p99:
            yield (
                f"If the slowest requests matter to you, so does max_size={row.size}: its p99 of a "
                f"request is {ms(row.request_p99)} ms instead of {ms(taken.request_p99)} ms."
            )
            return


def _little(row: Row) -> Iterator[str]:
    """Set Little's law beside the pool's own account."""
    law = row.throughput * row.use_mean
    yield (
        f"Little's law: {row.throughput:,.0f} requests/s x {ms(row.use_mean)} ms of use each "
        f"= {law:.1f} connections in use; the pool counted {row.in_use:.1f}. "
        f"And x {ms(row.wait_mean)} ms of waiting each = {row.throughput * row.wait_mean:.1f} in "
        f"line; the pool counted {row.in_line:.1f}."
    )
    close = 0.9
    if law < close * row.in_use:
        yield (
            "The pool counts from the hand-over of a connection, the requests from when their task "
            "gets its turn: in between, this process is busy with others."
        )


def _beyond(largest: Row, taken: Row) -> Iterator[str]:
    """Say why there is no more to be had from more connections."""
    if largest.size == taken.size or not largest.sound:
        return
    if largest.in_use < ENOUGH * largest.size:
        yield (
            f"Why not more? Of {largest.size} connections only {largest.in_use:.1f} were in use, "
            "on average."
        )
    else:
        yield (
            f"Why not more? {largest.size} connections are all in use as well, but each for "
            f"{ms(largest.use_mean)} ms: what need not wait for a connection waits for the server, or "
            f"for this process, which computes {percent(largest.busy)} % of the time."
        )


def ms(seconds: float) -> str:
    """Write a duration in milliseconds, in about three digits."""
    milliseconds = 1000 * seconds
    ample = 10
    return f"{milliseconds:.2f}" if milliseconds < ample else f"{milliseconds:,.0f}"


def percent(part: float) -> str:
    """Write a part of a whole in per cent."""
    return f"{100 * part:.0f}"
