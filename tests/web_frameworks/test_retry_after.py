"""When somebody is asked to come back: when those who were in line can have been served."""

import asyncio

import pytest

from aiopool import Pool, PoolTimeout, TooManyWaiters
from aiopool.integrations._web import retry_after


class Anything:
    """Opens what there is no need to close."""

    async def open(self):
        return object()

    async def check(self, conn): ...

    def is_usable(self, conn):  # noqa: ARG002 - whatever it is
        return True

    def close(self, conn): ...


def error_of(**numbers):
    """Make an error that knows these numbers."""
    stats = asyncio.run(_stats())
    error = PoolTimeout("in vain")
    names = stats.__slots__
    error.stats = type(stats)(**{name: getattr(stats, name) for name in names} | numbers)
    return error


async def _stats():
    async with Pool(Anything()) as pool:
        return pool.stats()


@pytest.mark.parametrize(
    ("acquired", "lent", "use_seconds", "waiting", "max_size", "expected"),
    [
        (20, 10, 20.0, 30, 10, 6),  # ten uses of 2 s have ended; thirty in line for ten connections
        (20, 10, 21.0, 30, 10, 7),  # 6.3 s
        (1000, 10, 1.0, 50, 10, 1),  # a few milliseconds
        (20, 10, 20.0, 0, 10, 1),  # nobody is in line any more
        (10, 10, 0.0, 40, 10, 1),  # nothing has come back yet
        (12, 10, 7200.0, 5, 10, 30),  # subscribers
    ],
)
def test_it_is_the_mean_use_times_those_in_line_by_the_size(
    acquired, lent, use_seconds, waiting, max_size, expected
):
    error = error_of(
        acquired=acquired, lent=lent, use_seconds=use_seconds, waiting=waiting, max_size=max_size
    )
    assert retry_after(error) == expected


def test_of_an_error_made_by_hand_it_is_a_second():
    assert retry_after(TooManyWaiters("busy")) == 1


def test_of_a_group_it_is_the_longest():
    short, long = (error_of(acquired=20, lent=10, use_seconds=s, waiting=30) for s in (10, 30))
    group = ExceptionGroup("in vain", [short, ExceptionGroup("within", [long, short])])
    assert retry_after(group) == retry_after(long) > retry_after(short)
