"""What a pool can be made with: addresses, redis-py's keywords, and what is refused at once."""

import asyncio
import warnings

import pytest
from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import Connection
from redis.backoff import NoBackoff
from redis.connection import Connection as SyncConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry as SyncRetry
from servers import STRICT

from aiopool import RedisPool


async def test_redis_urls_lead_to_tcp(server, wire):
    async with RedisPool(server.url, **STRICT, **wire) as pool:
        assert await pool.client().ping()
        (conn,) = pool._get_free_connections()
        assert isinstance(conn, Connection)


async def test_unix_urls_lead_to_the_socket(server, wire):
    async with RedisPool(f"{server.unix_url}?db=2", **STRICT, **wire) as pool:
        assert await pool.client().ping()
        (conn,) = pool._get_free_connections()
        assert isinstance(conn, UnixDomainSocketConnection)
        assert server.clients()[0]["db"] == "2"
        assert f"{server.path}/2" in repr(pool)


async def test_rediss_urls_lead_through_tls(tls):
    async with RedisPool(tls.url, ssl_ca_data=tls.authority_pem, **STRICT) as pool:
        client = pool.client()
        big = "x" * 1_000_000
        await client.set("big", big)
        assert await client.get("big") == big.encode()
        results = await asyncio.gather(*(client.echo(str(number)) for number in range(100)))
        assert results == [str(number).encode() for number in range(100)]
        (conn, *_) = pool._get_free_connections()
        assert isinstance(conn, SSLConnection)
        assert pool.stats().closed == {}


async def test_one_connection_through_tls_is_lent_over_and_over(tls, wire):
    async with RedisPool(
        tls.url, ssl_ca_data=tls.authority_pem, max_size=1, **STRICT, **wire
    ) as pool:
        for number in range(10):
            assert await pool.client().echo(str(number)) == str(number).encode()
        assert (pool.stats().opened, pool.stats().closed) == (1, {})


async def test_a_certificate_of_an_unknown_authority_is_refused_with_redis_pys_error(tls):
    async with RedisPool(tls.url, timeout=60, **STRICT) as pool, asyncio.timeout(10):
        with pytest.raises(RedisConnectionError, match="certificate"):
            await pool.client().ping()


async def test_without_a_url_keywords_say_where(server):
    async with RedisPool(host="127.0.0.1", port=server.port, db=5, **STRICT) as pool:
        assert await pool.client().ping()
        assert server.clients()[0]["db"] == "5"
    async with RedisPool(
        connection_class=UnixDomainSocketConnection, path=server.path, **STRICT
    ) as pool:
        assert await pool.client().ping()


async def test_what_the_url_says_goes_before_the_keywords(server):
    url = f"{server.url}/4?max_connections=3&timeout=2.5&client_name=url"
    pool = RedisPool(url, db=7, timeout=9, client_name="keyword", max_connections=8, **STRICT)
    assert pool.stats().max_size == 3
    assert pool._core._limits.timeout == 2.5
    async with pool:
        assert await pool.client().ping()
        (client,) = server.clients()
        assert (client["db"], client["name"]) == ("4", "url")


async def test_from_url_makes_the_same_pool(server):
    async with RedisPool.from_url(f"{server.url}/4", max_size=2, **STRICT) as pool:
        assert type(pool) is RedisPool
        assert pool.stats().max_size == 2
        assert await Redis(connection_pool=pool).ping()


async def test_connection_classes_of_ones_own_are_used(server):
    class Own(Connection):
        greeted = 0

        async def on_connect_check_health(self, check_health: bool = True) -> None:
            await super().on_connect_check_health(check_health)
            Own.greeted += 1

    async with RedisPool(server.url, connection_class=Own, **STRICT) as pool:
        assert await pool.client().ping()
        (conn,) = pool._get_free_connections()
        assert isinstance(conn, Own)
        assert Own.greeted == 1


def test_max_connections_is_max_size_under_redis_pys_name():
    assert RedisPool(max_connections=7).stats().max_size == 7
    assert RedisPool(max_connections=7, max_size=7).stats().max_size == 7
    assert RedisPool(max_connections=7).max_connections == 7
    assert RedisPool().stats().max_size == 10
    with pytest.raises(ValueError, match="max_connections=7 contradicts max_size=8"):
        RedisPool(max_connections=7, max_size=8)


@pytest.mark.parametrize(
    ("url", "options", "hint"),
    [
        (None, {"hots": "localhost"}, "no option 'hots'; did you mean 'host'"),
        (None, {"maxsize": 10}, "no option 'maxsize'; did you mean 'max_size'"),
        (None, {"decode_response": True}, "did you mean 'decode_responses'"),
        (None, {"ssl": True}, "no option 'ssl'; for TLS use a rediss:// URL"),
        ("redis://localhost?maxsize=10", {}, "did you mean 'max_size'"),
        ("redis://localhost?max_size=10", {}, "could stand in a URL: give it as a keyword"),
        ("redis://localhost?retry=3", {}, "^retry must be .*, not '3' "),
        ("unix:///tmp/nowhere", {"socket_keepalive": True}, "no option 'socket_keepalive'"),
        ("redis://localhost", {"ssl_ca_certs": "file"}, "for TLS use a rediss:// URL"),
        ("redis://localhost", {"qwertz": 1}, "no option 'qwertz'$"),
    ],
)
def test_a_keyword_that_does_not_exist_is_a_type_error_at_construction(url, options, hint):
    with pytest.raises(TypeError, match=hint):
        RedisPool(url, **options)


@pytest.mark.parametrize("retry", [3, "never", SyncRetry(NoBackoff(), 3)])
def test_a_retry_that_is_none_of_redis_asyncio_is_a_type_error(retry):
    with pytest.raises(TypeError, match=r"^retry must be a redis\.asyncio\.retry\.Retry, not"):
        RedisPool(retry=retry)


@pytest.mark.parametrize("retry", [3, SyncRetry(NoBackoff(), 3)])
def test_a_retry_that_is_none_of_redis_asyncio_can_not_be_set_later_either(retry):
    pool = RedisPool()
    before = pool.client().get_retry()
    with pytest.raises(TypeError, match=r"^retry must be a redis\.asyncio\.retry\.Retry, not"):
        pool.set_retry(retry)
    assert pool.client().get_retry() is before


@pytest.mark.parametrize("kind", [int, "Connection", SyncConnection])
def test_a_connection_class_that_is_none_of_redis_asyncio_is_a_type_error(kind):
    with pytest.raises(TypeError, match=r"^connection_class must be a class derived from one of"):
        RedisPool(connection_class=kind)


async def test_a_subclass_may_change_what_is_made_but_not_make_something_else(server):
    class Named(RedisPool):
        def __init__(self, name: str, **options) -> None:
            super().__init__(**options)
            self.made_name = name

        def make_connection(self):
            conn = super().make_connection()
            conn.client_name = self.made_name
            return conn

    class Foreign(RedisPool):
        def make_connection(self):
            return Connection(**self.connection_kwargs)

    async with Named("x", host="127.0.0.1", port=server.port, **STRICT) as pool:
        assert await pool.client().client_getname() == "x"
    with pytest.raises(TypeError, match=r"^make_connection\(\) must return what"):
        await Foreign(host="127.0.0.1", port=server.port).client().ping()


def test_queue_class_is_taken_with_a_word_that_it_means_nothing():
    with pytest.warns(DeprecationWarning, match="^queue_class means nothing"):
        assert RedisPool(queue_class=asyncio.LifoQueue).stats().max_size == 10


@pytest.mark.parametrize("url", [5, b"redis://localhost"])
def test_a_url_that_is_no_string_is_a_type_error(url):
    with pytest.raises(TypeError, match=r"^url must be a str or None, not"):
        RedisPool(url)


@pytest.mark.parametrize("password", ["sec/ret", "sec#ret", "sec?ret"])
def test_a_password_that_makes_the_url_unreadable_is_not_quoted(password):
    with pytest.raises(ValueError, match=r"^url is no Redis URL: .*encoded") as caught:
        RedisPool(f"redis://user:{password}@localhost:6379")
    assert caught.value.__context__ is None
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("options", [{"decode_responses": True}, {"db": 3}, {"host": "elsewhere"}])
def test_a_client_of_the_pool_can_not_be_told_how_to_connect(options):
    with pytest.raises(TypeError, match="concerns connections: give it to the pool"):
        RedisPool().client(**options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_size", 0),
        ("max_connections", 0),
        ("min_size", -1),
        ("min_size", 11),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("max_waiting", -1),
        ("max_idle", 0),
        ("max_lifetime", float("inf")),
        ("check_after", -0.5),
        ("max_opening", 0),
        ("leak_after", 0),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_range(option, value):
    with pytest.raises(ValueError, match=f"{option}={value} is out of range"):
        RedisPool(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [("max_size", "10"), ("min_size", 1.0), ("timeout", "5"), ("max_size", True), ("name", 3)],
)
def test_options_of_the_wrong_type_are_refused_by_name(option, value):
    with pytest.raises(TypeError, match=f"{option} must be"):
        RedisPool(**{option: value})


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", ""])
def test_what_is_no_url_of_redis_is_refused(url):
    with pytest.raises(ValueError, match="scheme"):
        RedisPool(url)


def test_making_a_pool_opens_nothing_and_needs_no_event_loop():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = RedisPool("redis://127.0.0.1:1")
    assert pool.stats().opened == 0
    assert repr(pool).startswith("<RedisPool '127.0.0.1:1/0' (size=0/10")
    assert repr(RedisPool(name="sessions")).startswith("<RedisPool 'sessions' (")
