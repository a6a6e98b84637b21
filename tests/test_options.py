"""Options are checked where they are given; the error names option, value and range."""

import pytest
from fakes import FakeConnector

from aiopool import Pool


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("max_size", 0, "at least 1"),
        ("max_size", -3, "at least 1"),
        ("min_size", -1, "from 0 to 10"),
        ("min_size", 11, "from 0 to 10"),
        ("max_waiting", -1, "at least 0"),
        ("max_opening", 0, "at least 1"),
        ("timeout", -0.1, "0 or more seconds"),
        ("timeout", float("inf"), "None"),
        ("timeout", float("nan"), "0 or more seconds"),
        ("timeout", 10**400, "0 or more seconds"),
        ("max_idle", 0, "above 0 seconds"),
        ("max_lifetime", 0.0, "above 0 seconds"),
        ("max_lifetime", -1, "above 0 seconds"),
        ("check_after", -1, "0 or more seconds"),
        ("leak_after", 0, "above 0 seconds"),
    ],
)
def test_a_value_out_of_range_is_refused(option, value, allowed):
    with pytest.raises(ValueError, match=f"^{option}={value} is out of range: .*{allowed}"):
        Pool(FakeConnector(), **{option: value})


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("max_size", None, "an int"),
        ("max_size", 3.0, "an int"),
        ("max_size", True, "an int"),
        ("min_size", "2", "an int"),
        ("max_waiting", 1.5, "an int"),
        ("max_opening", None, "an int"),
        ("timeout", "5", "a number of seconds or None"),
        ("max_idle", True, "a number of seconds or None"),
        ("max_lifetime", [], "a number of seconds or None"),
        ("check_after", "never", "a number of seconds or None"),
        ("leak_after", object, "a number of seconds or None"),
        ("shed", 1, "a bool"),
        ("name", 7, "a str or None"),
    ],
)
def test_a_wrong_type_is_a_type_error(option, value, wanted):
    with pytest.raises(TypeError, match=f"^{option} must be {wanted}.*, not .*"):
        Pool(FakeConnector(), **{option: value})


@pytest.mark.parametrize(
    "option", ["timeout", "max_waiting", "max_idle", "max_lifetime", "check_after", "leak_after"]
)
async def test_none_means_no_limit(make_pool, option):
    pool, _ = make_pool(**{option: None})
    async with pool.connection():
        pass


class Half:
    async def open(self) -> object:
        return object()


class Awaited(FakeConnector):
    async def is_usable(self, conn: object, /) -> bool:  # noqa: ARG002 - the protocol's
        return True


@pytest.mark.parametrize(
    ("connector", "why"),
    [
        ("redis://localhost", r"a method open\(\), not <class 'str'>"),
        (FakeConnector, r"a method open\(\), not <class 'type'>"),
        (Half(), r"a method check\(\), not .*Half"),
        (Awaited(), r"is_usable\(\) must be a plain function"),
    ],
)
def test_what_can_be_no_connector_is_refused(connector, why):
    with pytest.raises(TypeError, match=why):
        Pool(connector)


def test_whole_seconds_are_seconds():
    assert "size=0/2" in repr(Pool(FakeConnector(), max_size=2, timeout=3, max_idle=60))


def test_the_defaults_are_those_documented():
    limits = Pool(FakeConnector())._limits
    assert (limits.max_size, limits.min_size, limits.timeout, limits.max_waiting) == (
        10,
        0,
        5,
        None,
    )
    assert (limits.max_idle, limits.max_lifetime, limits.check_after) == (300, 3600, 30)
    assert (limits.max_opening, limits.leak_after) == (4, None)
