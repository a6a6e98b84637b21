"""docs/reference/options.md: every option is there, with its default, and the words that refuse a value."""

import asyncio
import inspect
import re
import warnings
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.sentinel
from fakes import FakeConnector
from redis.asyncio import Connection
from redis.asyncio import RedisCluster as TheirCluster
from redis.asyncio.connection import (
    AbstractConnection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisClusterException

from aiopool import PipelinedRedis, Pool, RedisCluster, RedisPool, SentinelPool

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "options.md").read_text()
REQUIRED = inspect.Parameter.empty

SENTINEL = Sentinel([("localhost", 26379)])

MAKERS: dict[str, Callable[..., Any]] = {
    "Pool": lambda **options: Pool(**{"connector": FakeConnector(), **options}),
    "RedisPool": RedisPool,
    "SentinelPool": lambda **options: SentinelPool(
        **{"service_name": "mymaster", "sentinel_manager": SENTINEL, **options}
    ),
    "RedisCluster": lambda **options: RedisCluster(**{"host": "localhost", **options}),
}


# ---- the page ------------------------------------------------------------------------------------


def sections() -> dict[str, str]:
    """Give what is below each heading of the second or third level, up to the next."""
    parts = re.split(r"^###? (.+)$", PAGE, flags=re.MULTILINE)
    return {
        heading.replace("`", ""): body
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def table(heading: str) -> list[list[str]]:
    """Give the cells of the table below a heading, without its head."""
    lines = [line for line in sections()[heading].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    """Give all that is in code."""
    return re.findall(r"`([^`]+)`", cell)


def documented() -> dict[tuple[str, str], str]:
    """Give the default that the first table tells, by class and option."""
    found: dict[tuple[str, str], str] = {}
    for option, _word, default, _allowed, of in table("At a glance"):
        for kind in MAKERS if of == "all" else names(of):
            key = kind, names(option)[0]
            assert key not in found
            found[key] = default.strip("`")
    return found


def defaults(kind: Callable[..., object]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def options() -> dict[tuple[str, str], Any]:
    """Give the default that the code tells, by class and option."""
    told = {
        "Pool": defaults(Pool),
        "RedisPool": defaults(RedisPool),
        "RedisCluster": defaults(RedisCluster),
        # It passes on what it does not know.
        "SentinelPool": {**defaults(RedisPool), **defaults(SentinelPool)},
    }
    del told["SentinelPool"]["url"]
    for kind in "RedisPool", "SentinelPool", "RedisCluster":
        assert told[kind]["max_size"] is None  # for it has two names
        told[kind]["max_size"] = MAKERS[kind]().stats().max_size
    return {(kind, name): default for kind in told for name, default in told[kind].items()}


# ---- defaults ------------------------------------------------------------------------------------


def test_each_option_is_in_the_table_and_no_other():
    assert documented().keys() == options().keys()


@pytest.mark.parametrize(("kind", "name"), options())
def test_the_default_of_an_option_is_that_of_the_signature(kind, name):
    told, default = documented()[kind, name], options()[kind, name]
    if default is REQUIRED:
        assert told == "required"
    elif isinstance(default, type):
        assert told == default.__name__
    else:
        value = literal_eval(told)
        assert (value, type(value)) == (default, type(default))


def test_each_option_has_a_section_which_begins_with_its_default():
    beginnings: dict[str, set[str]] = {}
    for option, _word, default, *_ in table("At a glance"):
        words = "Required" if default == "required" else f"Default {default}"
        beginnings.setdefault(names(option)[0], set()).add(words)
    # One means nothing, the other has two defaults, of which the first words tell.
    assert sections()["queue_class"].lstrip().startswith("Means nothing")
    assert sections()["lanes"].lstrip().startswith("Of `pool.pipelined()` the default is `1`, of a")
    for name in beginnings.keys() - {"queue_class", "lanes"}:
        assert sections()[name].lstrip().startswith(tuple(beginnings[name])), name


@pytest.mark.parametrize(
    ("heading", "method"),
    [
        ("acquire(timeout)", Pool.acquire),
        ("acquire(timeout)", Pool.connection),
        ("acquire(timeout)", RedisPool.acquire),
        ("acquire(timeout)", RedisPool.connection),
        ("view(limit, name)", Pool.view),
        ("view(limit, name)", RedisPool.view),
        ("warm(n)", Pool.warm),
        ("warm(n)", RedisPool.warm),
        ("resize(max_size, min_size)", Pool.resize),
        ("resize(max_size, min_size)", RedisPool.resize),
        ("resize(max_size, min_size)", RedisCluster.resize),
        ("aclose(timeout)", Pool.aclose),
        ("aclose(timeout)", RedisPool.aclose),
        ("aclose(timeout)", SentinelPool.aclose),
        ("aclose(timeout)", RedisCluster.aclose),
        ("pipelined(lanes, max_in_flight, share_scripts)", RedisPool.pipelined),
    ],
)
def test_the_heading_of_a_method_has_its_arguments(heading, method):
    assert heading in sections()
    assert heading.partition("(")[2][:-1].split(", ") == [*inspect.signature(method).parameters][1:]


def test_the_defaults_of_methods_are_those_of_the_signatures():
    told = sections()["pipelined(lanes, max_in_flight, share_scripts)"]
    assert told.lstrip().startswith("Defaults `1`, `10_000` and `True`")
    assert [*defaults(RedisPool.pipelined).values()][1:] == [1, 10_000, True]
    assert [*defaults(RedisPool.resize).values()][1:] == [None, None]
    assert defaults(Pool.view)["limit"] is REQUIRED
    assert (defaults(Pool.aclose)["timeout"], defaults(RedisCluster.aclose)["timeout"]) == (5, 0)
    assert [row[1].partition(",")[0] for row in table("aclose(timeout)")] == ["5", "5", "0", "0"]


async def test_a_view_without_a_name_is_called_view():
    pool: Pool[Any] = Pool(FakeConnector(), name="cache")
    assert pool.view(limit=1).name == "view of cache"


# ---- refusals ------------------------------------------------------------------------------------


def refused(action: Callable[[], object]) -> str:
    """Give the words of the error."""
    with pytest.raises((ValueError, TypeError)) as caught:
        action()
    return str(caught.value)


def awaited(action: Callable[[], Any]) -> str:
    async def attempt() -> None:
        await action()

    return refused(lambda: asyncio.run(attempt()))


def told(heading: str) -> list[str]:
    blocks = re.findall(r"^```text\n(.*?)^```$", sections()[heading], re.DOTALL | re.MULTILINE)
    return "".join(blocks).splitlines()


INFINITY = float("inf")
REFUSED: dict[str, list[dict[str, object]]] = {  # of each class that has it
    "max_size": [{"max_size": 0}, {"max_size": "10"}],
    "min_size": [{"min_size": -1}, {"min_size": 11}, {"min_size": None}],
    "max_connections": [
        {"max_connections": 0},
        {"max_connections": "7"},
        {"max_connections": 20, "max_size": 10},
    ],
    "timeout": [{"timeout": -1}, {"timeout": INFINITY}, {"timeout": "5"}],
    "max_waiting": [{"max_waiting": -1}, {"max_waiting": "3"}],
    "shed": [{"shed": 1}],
    "max_idle": [{"max_idle": 0}, {"max_idle": "300"}],
    "max_lifetime": [{"max_lifetime": 0}, {"max_lifetime": "3600"}],
    "check_after": [{"check_after": -1}, {"check_after": "30"}],
    "max_opening": [{"max_opening": 0}, {"max_opening": "4"}],
    "retry": [{"retry": 3}],
    "leak_after": [{"leak_after": 0}, {"leak_after": "30"}],
    "reclaim": [{"reclaim": True}, {"reclaim": 1}],
    "name": [{"name": 3}],
    "connector": [{"connector": "redis://localhost"}],
    "url": [{"url": 5}, {"url": "http://localhost"}],
    "service_name": [{"service_name": 5}],
    "sentinel_manager": [{"sentinel_manager": redis.sentinel.Sentinel([("localhost", 26379)])}],
    "is_master": [{"is_master": 1}],
    "fall_back_to_master": [{"fall_back_to_master": 1}],
    "check_connection": [{"check_connection": 1}],
    "ssl": [{"ssl": 1}],
    "lanes": [{"lanes": 0}, {"lanes": 11}, {"lanes": "1"}],
    "max_in_flight": [{"max_in_flight": 0}, {"max_in_flight": "1"}],
    "share_scripts": [{"share_scripts": 1}],
}
# And what is said elsewhere than where an option is refused by all classes that have it.
SAID: dict[str, Callable[[], list[str]]] = {
    "At a glance": lambda: [refused(lambda: RedisPool(maxsize=10))],
    "connection_class": lambda: [
        refused(lambda: RedisPool(connection_class=int)),
        refused(lambda: MAKERS["SentinelPool"](connection_class=Connection)),
    ],
    "queue_class": lambda: [warned(lambda: RedisPool(queue_class=asyncio.LifoQueue))],
    "Of SentinelPool": lambda: [refused(lambda: MAKERS["SentinelPool"](url="redis://localhost"))],
    "acquire(timeout)": lambda: [
        awaited(lambda: RedisPool().acquire(timeout=-1)),
        awaited(lambda: RedisPool().acquire(timeout="5")),
    ],
    "view(limit, name)": lambda: [
        refused(lambda: RedisPool().view(limit=0)),
        refused(lambda: RedisPool().view(limit=11)),
        refused(lambda: RedisPool().view(limit="3")),
        refused(lambda: RedisPool().view(limit=1, name=3)),
    ],
    "warm(n)": lambda: [awaited(lambda n=n: RedisPool().warm(n)) for n in (-1, 11, "3")],
    "resize(max_size, min_size)": lambda: [
        refused(lambda: RedisPool().resize(max_size=0)),
        refused(lambda: RedisPool().resize(max_size="3")),
        refused(lambda: RedisPool().resize(min_size=11)),
        refused(lambda: RedisPool().resize(max_size=2, min_size=3)),
    ],
    "aclose(timeout)": lambda: [
        awaited(lambda: RedisPool().aclose(timeout=-1)),
        awaited(lambda: RedisPool().aclose(timeout="5")),
    ],
    "client()": lambda: [refused(lambda: RedisPool().client(retry=3))],
    "pipelined(lanes, max_in_flight, share_scripts)": lambda: [
        refused(lambda: PipelinedRedis(RedisPool(), retry=3))
    ],
    "redis-py's keywords": lambda: [
        refused(lambda: RedisPool(ssl=True)),
        refused(lambda: RedisPool(unix_socket_path="/run/redis.sock")),
        refused(lambda: RedisPool(auto_close_connection_pool=True)),
    ],
}


def warned(action: Callable[[], object]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    (warning,) = caught
    assert warning.category is DeprecationWarning
    return str(warning.message)


@pytest.mark.parametrize("option", REFUSED)
def test_an_option_is_refused_in_the_words_of_its_section(option):
    kinds = [kind for kind, name in documented() if name == option]
    if option == "retry":
        assert isinstance(MAKERS["RedisCluster"](retry=3), RedisCluster)  # as the section says
    for kind in kinds:
        assert [refused(lambda k=kind, v=v: MAKERS[k](**v)) for v in REFUSED[option]] == told(
            option
        )


@pytest.mark.parametrize("heading", SAID)
def test_what_a_section_quotes_is_what_is_raised(heading):
    assert SAID[heading]() == told(heading)


def test_nothing_else_is_quoted():
    assert {heading for heading in sections() if told(heading)} == REFUSED.keys() | SAID.keys()


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_allowed_is_taken(kind):
    allowed = {
        "max_size": [1],
        "min_size": [0, 10],
        "timeout": [0, 0.5, None],
        "max_waiting": [0, None],
        "shed": [True],
        "max_idle": [0.001, None],
        "max_lifetime": [0.001, None],
        "check_after": [0, None],
        "max_opening": [1],
        "leak_after": [0.001, None],
        "lanes": [1, 10, None],
        "max_in_flight": [1],
        "share_scripts": [False],
    }
    for option, values in allowed.items():
        for value in values if (kind, option) in documented() else ():
            MAKERS[kind](**{option: value})
    MAKERS[kind](leak_after=1, reclaim=True)


def test_of_the_options_two_can_stand_in_a_url():
    query = "timeout=2.5&max_connections=3"
    pool = RedisPool(f"redis://localhost?{query}")
    assert (pool.stats().max_size, pool._core._limits.timeout) == (3, 2.5)
    others = {name for kind, name in documented() if kind == "RedisPool"}
    for name in others - {"timeout", "max_connections", "url"}:
        with pytest.raises(TypeError):
            RedisPool(f"redis://localhost?{name}=1")


# ---- redis-py's keywords -------------------------------------------------------------------------


def keywords(*kinds: type) -> dict[str, Any]:
    """Give the keywords of redis-py's classes and their defaults."""
    return {name: default for kind in kinds for name, default in defaults(kind).items()}


def compare(default: object, cell: str) -> None:
    """Compare a default with what the table has."""
    if isinstance(default, type):
        assert cell.strip("`") == default.__name__ or cell == "hiredis's, if it is there"
    elif cell == "redis-py's":  # an object of its own
        assert type(default) is object or type(default).__module__.startswith("redis.")
    else:
        assert literal_eval(cell.strip("`")) == default


def test_each_keyword_of_connections_is_there_with_its_default():
    theirs = keywords(AbstractConnection, UnixDomainSocketConnection, SSLConnection, Connection)
    rows = {names(keyword)[0]: default for keyword, default, _ in table("redis-py's keywords")}
    for name, default in rows.items():
        compare(theirs[name], default)
    inner = re.search(
        r"^Not for you are (.*?):", sections()["redis-py's keywords"], re.DOTALL | re.MULTILINE
    )
    assert inner is not None
    # `retry` is an option of the pool.
    assert rows.keys() | {*names(inner[1]), "retry"} == theirs.keys()


def test_each_keyword_of_the_cluster_is_there_with_its_default():
    theirs = keywords(TheirCluster)
    rows = {names(keyword)[0]: default for keyword, default, _ in table("A cluster")}
    for name, default in rows.items():
        compare(theirs[name], default)
    others = names(sections()["A cluster"].partition("The others have")[2])
    assert len(others) == len({*others})
    assert rows.keys() | {*others} == theirs.keys() - defaults(RedisCluster).keys()
    assert not rows.keys() & {*others}
    for name in others:  # what the other table says holds here as well
        everywhere = keywords(AbstractConnection, SSLConnection, Connection)
        assert theirs[name] == everywhere[name] or type(theirs[name]) is object


def test_a_cluster_has_one_database():
    with pytest.raises(RedisClusterException):
        MAKERS["RedisCluster"](db=1)


def test_a_sentinels_pool_takes_host_and_port_but_no_path():
    MAKERS["SentinelPool"](host="localhost", port=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="no option 'path'"):
            MAKERS["SentinelPool"](path="/run/redis.sock")
