"""Was anything lost? A pure function of what was seen, so that it can be shown to be able to say yes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiopool import Stats


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the requests were told, what the server has, and what the pool says at the end."""

    wrong: Sequence[str]
    """Answers that were none to what had been asked."""
    told: Sequence[int]
    """What the counter was, as told to each request that got an answer to its increment."""
    unknown: int
    """Increments asked for, but never answered: they may or may not have been made."""
    counted: int
    """Where the server's counter stands."""
    missing: Sequence[int]
    """Requests that were told their token is stored, and it is not."""
    hung: int
    """Requests that came to no end."""
    after_quiet: Stats
    """The pool when it had been left alone for longer than `max_idle`."""
    lent_at_once: int
    """How many connections could be lent at once at the very end."""
    at_end: Stats
    """The pool when these had been given back."""
    most: int
    """The most connections there were at once, by the server's account or the pool's own."""


def losses(evidence: Evidence) -> list[str]:
    """Say in a sentence each what was lost or mixed up; nothing, if all is as it must be."""
    return [*_lost_answers(evidence), *_lost_connections(evidence)]


def _lost_answers(evidence: Evidence) -> Iterator[str]:
    counted, confirmed, unknown = evidence.counted, len(evidence.told), evidence.unknown
    for wrong in evidence.wrong:
        yield f"mixed up: {wrong}"
    if len(set(evidence.told)) < confirmed:
        yield "mixed up: two requests were told the same count"
    if not confirmed <= counted <= confirmed + unknown:
        yield (
            f"{counted} increments were made, but {confirmed} were confirmed, "
            f"and only {unknown} more not answered"
        )
    if any(not 1 <= count <= counted for count in evidence.told):
        yield f"a request was told a count that never was, with the counter at {counted}"
    for request in evidence.missing:
        yield f"request {request} was told its token is stored, and it is not"
    if evidence.hung:
        yield f"{evidence.hung} requests came to no end"


def _lost_connections(evidence: Evidence) -> Iterator[str]:
    quiet, end = evidence.after_quiet, evidence.at_end
    for when, stats in (("after the quiet", quiet), ("at the end", end)):
        if stats.lent or stats.waiting:
            yield f"{when}, connections are lent or waited for: {stats}"
    if quiet.size != quiet.min_size:
        yield f"after the quiet, the pool is not back at {quiet.min_size} connections: {quiet}"
    if evidence.lent_at_once != end.max_size:
        yield f"only {evidence.lent_at_once} of {end.max_size} connections could be lent at once"
    if evidence.most > end.max_size:
        yield f"there were {evidence.most} connections, and {end.max_size} are allowed"
