"""Every kind of command through `pool.pipelined()`: it returns and raises what it does through redis-py."""

# ruff: noqa: PLR0915 - what are many statements here is a list of commands

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum
from functools import wraps
from typing import Any

import pytest
from metrics import Telemetry
from redis.asyncio import Redis
from redis.exceptions import RedisError
from servers import STRICT, Server

from aiopool import RedisPool
from aiopool.redis._lanes import Lanes

# ---- the kit -------------------------------------------------------------------------------------

Do = Callable[[Redis], Awaitable[object]]
See = Callable[[Any], object]


def exact(reply: Any) -> object:
    """Give it in a form in which 1, 1.0 and True differ, and in which errors can be compared."""
    if isinstance(reply, Exception):
        return type(reply).__name__, str(reply)
    if isinstance(reply, (list, tuple)):
        return type(reply).__name__, [exact(item) for item in reply]
    if isinstance(reply, set):
        return "set", in_any_order(reply)
    if isinstance(reply, dict):
        return type(reply).__name__, [(repr(key), exact(value)) for key, value in reply.items()]
    return type(reply).__name__, reply


# What is another each time is told in part only.


def kind(reply: Any) -> object:
    """Tell only of what types it is made."""
    if isinstance(reply, (list, tuple)):
        return type(reply).__name__, [kind(item) for item in reply]
    if isinstance(reply, dict):
        return type(reply).__name__, [(repr(key), kind(value)) for key, value in reply.items()]
    return type(reply).__name__


def in_any_order(reply: Any) -> list[str]:
    return sorted(map(repr, reply))


def hashed(reply: object) -> str:
    return hashlib.sha256(repr(exact(reply)).encode()).hexdigest()


class Notes:
    """Notes commands: after `r.get("key")` it knows what `await client.get("key")` will be."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, Do, See]] = []

    def __getattr__(self, method: str) -> Callable[..., None]:
        def note(*args: Any, see: See = exact, **options: Any) -> None:
            def do(client: Redis) -> Awaitable[object]:
                return getattr(client, method)(*args, **options)

            self.steps.append((f"{method}{args!r:.300}", do, see))

        return note

    def raw(self, *args: Any, see: See = exact, **options: Any) -> None:
        self.execute_command(*args, see=see, **options)

    def do(self, function: Do) -> None:
        self.steps.append((function.__name__, function, exact))


Group = Callable[[Notes, str], None]
ON_KEYS_OF_THEIR_OWN: list[Group] = []
ON_THE_WHOLE_SERVER: list[Group] = []


def group(function: Group) -> Group:
    ON_KEYS_OF_THEIR_OWN.append(function)
    return function


def group_alone(function: Group) -> Group:
    ON_THE_WHOLE_SERVER.append(function)
    return function


async def play(client: Redis, group: Group, key: str) -> list[str]:
    """Do what is noted, one command after the other, and tell what came of each."""
    notes = Notes()
    group(notes, key)
    told = []
    for name, do, see in notes.steps:
        try:
            outcome = repr(see(await do(client)))
        except Exception as error:  # noqa: BLE001 - whichever it is, it is to be the same
            outcome = f"{type(error)!r} {error}"
        line = f"{name.replace(key, 'key:'):.100} -> {outcome.replace(key, 'key:')}"
        told.append(f"{group.__name__}: {re.sub(r' at 0x[0-9a-f]+', '', line)}")
    return told


# ---- strings and bits ----------------------------------------------------------------------------


@group
def strings(r: Notes, k: str):
    a, b, c, none = f"{k}a", f"{k}b", f"{k}c", f"{k}none"
    r.set(a, "value")
    r.get(a)
    r.get(none)
    r.set(a, "Grüße", ex=100)
    r.get(a)
    r.ttl(a, see=lambda seconds: 90 <= seconds <= 100)
    r.set(a, 1, px=100_000, xx=True)
    r.set(a, 2, nx=True)
    r.set(none, 2, xx=True)
    r.set(a, 3, get=True)
    r.set(a, 4, keepttl=True)
    r.set(a, 5, exat=4_102_444_800)
    r.expiretime(a)
    r.set(a, 6, ex=1, px=1)
    r.set(a, 7, ex="soon")
    r.raw("SET", a)
    r.raw("SET", a, "value", "NONSENSE")
    r.raw("SET", a, "value", "EX", "x")
    r.raw("SET", a, "value", "EX", 0)
    r.setnx(b, 1)
    r.setnx(b, 2)
    r.setex(b, 100, "value")
    r.setex(b, 0, "value")
    r.psetex(b, 100_000, "value")
    r.getset(b, "another")
    r.getdel(b)
    r.getdel(b)
    r.getex(a, ex=100)
    r.getex(a, persist=True)
    r.ttl(a)
    r.set(a, 10)
    r.incr(a)
    r.incrby(a, 5)
    r.incr(none, -3)
    r.decr(a)
    r.decrby(a, 2)
    r.incrbyfloat(a, 1.5)
    r.incrbyfloat(a, "1e400")
    r.incr(a)
    r.raw("INCRBY", a, "one")
    r.append(c, "Hello ")
    r.append(c, "World")
    r.strlen(c)
    r.strlen(f"{k}no")
    r.getrange(c, 0, 4)
    r.getrange(c, -5, -1)
    r.substr(c, 0, 3)
    r.setrange(c, 6, "Redis")
    r.setrange(c, -1, "x")
    r.get(c)
    r.mset({a: 1, b: 2.5, c: b"three"})
    r.mget(a, b, c, f"{k}no")
    r.mget([a, b])
    r.msetnx({a: 5, f"{k}new": 6})
    r.msetnx({f"{k}new": 6})
    r.mget()
    r.lcs(b, c)
    r.lcs(b, c, len=True)
    r.lcs(b, c, idx=True, minmatchlen=1, withmatchlen=True)
    r.lpush(a, 1)
    r.raw("GET")
    r.raw("GET", a, b)
    r.raw("get", a)
    r.raw("GeT", a)
    r.raw(b"GET", a)
    r.raw(b"get", a)
    r.raw("STRLEN", b)


@group
def bits(r: Notes, k: str):
    a, b, c = f"{k}a", f"{k}b", f"{k}c"
    r.setbit(a, 7, 1)
    r.setbit(a, 7, 0)
    r.setbit(a, 100, 1)
    r.setbit(a, -1, 1)
    r.setbit(a, 5, 2)
    r.getbit(a, 100)
    r.getbit(a, 5000)
    r.bitcount(a)
    r.bitcount(a, 0, 5)
    r.bitcount(a, 0, 50, "BIT")
    r.bitcount(a, 1)
    r.bitpos(a, 1)
    r.bitpos(a, 0, 1)
    r.bitpos(a, 1, 0, -1, "BIT")
    r.bitpos(a, 7)
    r.set(b, b"\xff\x00\xf0")
    r.bitop("AND", c, a, b)
    r.bitop("OR", c, a, b)
    r.bitop("XOR", c, a, b)
    r.bitop("NOT", c, b)
    r.bitop("NAND", c, b)
    r.get(c, see=len)
    r.raw("BITFIELD", b, "GET", "u8", 0, "SET", "i5", 3, -2, "INCRBY", "u4", "#1", 20)
    r.raw("BITFIELD", b, "OVERFLOW", "FAIL", "INCRBY", "u2", 0, 9)
    r.raw("BITFIELD_RO", b, "GET", "u4", 4)
    r.raw("BITFIELD", b, "GET", "u99", 0)

    async def with_a_builder(client: Redis) -> object:
        field = client.bitfield(c, default_overflow="SAT")
        return await field.set("u8", 0, 250).incrby("u8", 0, 100).get("u8", 0).execute()

    r.do(with_a_builder)


@group
def words_of_all_kinds(r: Notes, k: str):
    a, b = f"{k}a", f"{k}b"

    class Name(str, Enum):  # noqa: UP042 - its str() is another than the string that it is
        KEY = a

    for word in (
        "", b"", " ", "Grüße", b"\x00\xff\r\n", 0, -1, 2**70, 1.5, 1e300, float("inf"),
        memoryview(b"view"), "$3\r\nGET\r\n", "\ud800",
    ):  # fmt: skip
        r.set(a, word)
        r.get(a)
        r.echo(word)
    for wrong in (True, None, [1], {"a": 1}, (), object, {1}, bytearray(b"word"), 1j, Ellipsis):
        r.set(a, wrong)
        r.raw("ECHO", wrong)
        r.lpush(b, "fine", wrong)
    r.exists(b)
    r.get(Name.KEY)
    r.set(b"\x00binary\xff" + a.encode(), b"\x80")
    r.get(b"\x00binary\xff" + a.encode(), NEVER_DECODE=True)
    r.raw("GET", b"\x00binary\xff" + a.encode(), NEVER_DECODE=True)
    r.get(b"\x00binary\xff" + a.encode())
    r.get(memoryview(b"\x00binary\xff" + a.encode()))
    for size in (5_999, 6_000, 6_001, 32_768, 65_530, 65_536, 65_537, 100_000):
        r.set(a, "x" * size)
        r.get(a, see=hashed)
        r.set(a, b"y" * size, get=True, see=hashed)
        r.append(a, memoryview(b"z" * size))
        r.getrange(a, size - 2, size + 1)
    r.mset({f"{a}{n}": "x" * 1_000 for n in range(100)})
    r.mget(*[f"{a}{n}" for n in range(100)], see=hashed)
    r.rpush(b, *range(2_000))
    r.lrange(b, 0, -1, see=hashed)
    r.delete(*[f"{a}{n}" for n in range(100)])


# ---- names ---------------------------------------------------------------------------------------


@group
def names_of_commands(r: Notes, k: str):
    a = f"{k}a"

    class Name(str, Enum):  # noqa: UP042 - its str() is another than the string that it is
        GET = "GET"

    r.rpush(a, 1, 2, 3)
    r.raw("OBJECT ENCODING", a)
    r.raw("OBJECT", "ENCODING", a)
    r.raw("object encoding", a)
    r.raw("object", "encoding", a)
    r.raw(b"OBJECT ENCODING", a)
    r.raw(b"OBJECT", b"ENCODING", a)
    r.raw("OBJECT  ENCODING ", a)
    r.raw(f"OBJECT ENCODING {a}")
    r.raw("OBJECT")
    r.raw("OBJECT", a)
    r.raw("OBJECT NONSENSE", a)
    r.raw("OBJECT|ENCODING", a)
    r.raw("OBJECT", memoryview(b"ENCODING"), a)
    r.raw("CLIENT GETNAME")
    r.raw("CLIENT", "GETNAME")
    r.raw("client", "getname")
    r.raw("MEMORY USAGE", a, see=kind)
    r.raw("MEMORY", "USAGE", a, see=kind)
    r.raw("NO.SUCH")
    r.raw("NO.SUCH", "with", a)
    r.raw(b"")
    r.raw("", "LLEN", a)
    r.raw(b" ", "LLEN", a)
    r.raw("LLEN", a)
    r.raw(" LLEN ", a)
    r.raw("LLEN\n", a)
    r.raw(f"LLEN {a}")
    r.raw(f"LLEN {a}", "and", "more")
    r.raw("LLEN" + " " * 100, a)
    r.raw("N" * 100, a)
    r.raw("ÄÖÜ", a)
    r.raw(b"\xff\xfe", a)
    r.raw(Name.GET, f"{k}none")
    r.raw()
    for wrong in (
        5, None, 1.5, True, ["LLEN"], {"LLEN": 1}, bytearray(b"LLEN"), memoryview(b"LLEN"),
        memoryview(bytearray(b"LLEN")),
    ):  # fmt: skip
        r.raw(wrong, a)
    r.raw("LLEN", a, unknown="option")
    r.raw("LLEN", a, keys=[a])
    r.raw("NO.SUCH", a, EMPTY_RESPONSE="empty")
    r.raw("LLEN", a, EMPTY_RESPONSE="empty")
    r.set(f"{k}text", "x")
    r.raw("LLEN", f"{k}text", EMPTY_RESPONSE="empty")
    r.raw("LRANGE", a, 0, -1, NEVER_DECODE=True)
    r.raw("EXISTS", a)
    r.raw("HGETALL", f"{k}none")
    r.raw("hgetall", f"{k}none")
    r.raw(b"HGETALL", f"{k}none")


# ---- lists, sets, hashes -------------------------------------------------------------------------


@group
def lists(r: Notes, k: str):
    a, b, none = f"{k}a", f"{k}b", f"{k}none"
    r.rpush(a, "one", "two", 3, b"four")
    r.lpush(a, "zero")
    r.rpushx(a, "five")
    r.rpushx(none, "five")
    r.lpushx(none, 1)
    r.llen(a)
    r.lrange(a, 0, -1)
    r.lrange(none, 0, -1)
    r.lindex(a, 1)
    r.lindex(a, 99)
    r.lset(a, 1, "ONE")
    r.lset(a, 99, "x")
    r.lset(none, 0, "x")
    r.linsert(a, "BEFORE", "ONE", "half")
    r.linsert(a, "AFTER", "none", "x")
    r.linsert(a, "BESIDE", "ONE", "x")
    r.lpos(a, "two")
    r.lpos(a, "none")
    r.lpos(a, "two", rank=-1, count=0, maxlen=100)
    r.lrem(a, 0, "half")
    r.ltrim(a, 0, 4)
    r.lpop(a)
    r.rpop(a)
    r.lpop(a, 2)
    r.rpop(none)
    r.lpop(none, 2)
    r.lpop(a, -1)
    r.rpush(a, 1, 2, 3, 4, 5)
    r.lmove(a, b, "LEFT", "RIGHT")
    r.lmove(none, b)
    r.rpoplpush(a, b)
    r.lmpop(2, none, b, direction="LEFT", count=2)
    r.lmpop(1, none, direction="LEFT")
    r.lrange(b, 0, -1)
    r.sort(a, desc=True)
    r.sort(a, start=0, num=2, alpha=True)
    r.sort(a, store=b)
    r.sort(a, by="nosort", get=["#", f"{k}w_*"], groups=True)
    r.sort_ro(a, desc=True)
    r.rpush(b, "word")
    r.sort(b)
    r.sort(b, start=1)
    r.llen(k + "none")
    r.raw("LPUSH", a)
    r.raw("RPUSH")
    r.set(f"{k}text", "x")
    r.lpush(f"{k}text", 1)
    r.lrange(f"{k}text", 0, -1)


@group
def sets(r: Notes, k: str):
    a, b, c, none = f"{k}a", f"{k}b", f"{k}c", f"{k}none"
    r.sadd(a, "one", "two", 3)
    r.sadd(a, "one")
    r.sadd(b, "two", 3, 4)
    r.scard(a)
    r.smembers(a)
    r.smembers(none)
    r.sismember(a, "one")
    r.sismember(a, "none")
    r.smismember(a, ["one", "none"])
    r.sinter(a, b, see=in_any_order)
    r.sunion(a, b, see=in_any_order)
    r.sdiff(a, b, see=in_any_order)
    r.sinterstore(c, a, b)
    r.sunionstore(c, a, b)
    r.sdiffstore(c, [a, b])
    r.sintercard(2, [a, b])
    r.sintercard(2, [a, b], limit=1)
    r.sintercard(0, [a])
    r.smove(a, b, "one")
    r.smove(a, b, "none")
    r.srem(b, "one", "none")
    r.srandmember(a, see=kind)
    r.srandmember(a, 100, see=in_any_order)
    r.srandmember(a, -3, see=kind)
    r.spop(c)
    r.spop(a, 100, see=in_any_order)
    r.spop(none)
    r.spop(none, 2)
    r.sscan(b, see=lambda reply: (reply[0], in_any_order(reply[1])))
    r.sscan(b, match="t*")
    r.sscan(b, cursor="x")
    r.set(a, "x")
    r.sadd(a, 1)
    r.sinter(a, b)
    r.raw("SADD", b)

    async def with_an_iterator(client: Redis) -> object:
        await client.sadd(c, *range(1000))
        return sorted([int(item) async for item in client.sscan_iter(c, count=100)])

    r.do(with_an_iterator)


@group
def hashes(r: Notes, k: str):
    a, none = f"{k}a", f"{k}none"
    r.hset(a, "field", "value")
    r.hset(a, "field", "another")
    r.hset(a, mapping={"int": 1, "float": 1.5, b"bytes": b"\x01", "text": "é"})
    r.hset(a, items=["x", 1, "y", 2])
    r.hset(a)
    r.hset(a, "none", None)
    r.hget(a, "field")
    r.hget(a, "none")
    r.hget(none, "field")
    r.hgetall(a)
    r.hgetall(none)
    r.hmget(a, "int", "none", "float")
    r.hmget(a, ["int"])
    r.hkeys(a)
    r.hvals(a)
    r.hlen(a)
    r.hexists(a, "int")
    r.hexists(a, "none")
    r.hincrby(a, "int", 5)
    r.hincrby(a, "text")
    r.hincrbyfloat(a, "float", 0.25)
    r.hincrbyfloat(a, "text", 1)
    r.hsetnx(a, "int", 1)
    r.hsetnx(a, "new", 1)
    r.hstrlen(a, "text")
    r.hdel(a, "new", "none")
    r.hdel(none, "field")
    r.hrandfield(a, see=kind)
    r.hrandfield(a, 100, see=in_any_order)
    r.hrandfield(a, 100, withvalues=True, see=kind)
    r.hscan(a, count=100)
    r.hscan(a, match="f*")
    r.hscan(a, no_values=True)
    r.raw("HSCAN", a, 0)
    r.raw("HMSET", a, "x", 3)
    r.raw("HSET", a, "field")
    # The fields' own times, where the server has them.
    r.hexpire(a, 100, "int", "none")
    r.hpexpire(a, 100_000, "int", nx=True)
    r.hexpireat(a, 4_102_444_800, "float", gt=True)
    r.hpexpireat(a, 4_102_444_800_000, "text")
    r.httl(a, "int", "text", see=kind)
    r.hpttl(a, "int", see=kind)
    r.hexpiretime(a, "text", "none")
    r.hpexpiretime(a, "text")
    r.hpersist(a, "text", "none")
    r.hgetdel(a, "x")
    r.hgetex(a, "y", ex=100)
    r.hsetex(a, mapping={"z": 1}, ex=100)
    r.set(none, 1)
    r.hgetall(none)
    r.hset(none, "field", 1)

    async def with_an_iterator(client: Redis) -> object:
        return sorted([exact(pair) async for pair in client.hscan_iter(a, count=2)])

    r.do(with_an_iterator)


# ---- sorted sets, places, counters ---------------------------------------------------------------


@group
def sorted_sets(r: Notes, k: str):
    a, b, c, none = f"{k}a", f"{k}b", f"{k}c", f"{k}none"
    r.zadd(a, {"one": 1, "two": 2.5, "three": 3})
    r.zadd(a, {"one": 5}, nx=True)
    r.zadd(a, {"none": 5}, xx=True)
    r.zadd(a, {"one": 7}, xx=True, gt=True, ch=True)
    r.zadd(a, {"one": -1}, incr=True)
    r.zadd(a, {"none": -1}, incr=True, xx=True)
    r.zadd(a, {"inf": "inf", "low": "-inf"})
    r.zadd(a, {})
    r.zadd(a, {"x": "high"})
    r.zadd(a, {"x": 1}, nx=True, xx=True)
    r.zadd(b, {"two": 10, "four": 4})
    r.zcard(a)
    r.zcount(a, 0, "+inf")
    r.zcount(a, "(1", 3)
    r.zlexcount(a, "-", "+")
    r.zscore(a, "two")
    r.zscore(a, "none")
    r.zscore(a, "inf")
    r.zmscore(a, ["one", "none"])
    r.zincrby(a, 1.5, "one")
    r.zincrby(a, "x", "one")
    r.zrank(a, "two")
    r.zrank(a, "none")
    r.zrank(a, "two", withscore=True)
    r.zrevrank(a, "two")
    r.zrange(a, 0, -1)
    r.zrange(a, 0, -1, withscores=True)
    r.zrange(a, 0, -1, withscores=True, score_cast_func=str)
    r.zrange(a, 0, 1, desc=True)
    r.zrange(a, 1, 3, byscore=True, offset=0, num=1)
    r.zrange(a, "[a", "[z", bylex=True)
    r.zrange(a, "a", "z", bylex=True)
    r.zrange(none, 0, -1, withscores=True)
    r.zrevrange(a, 0, -1, withscores=True)
    r.zrangebyscore(a, "-inf", "+inf", withscores=True, start=0, num=2)
    r.zrangebyscore(a, "x", "y")
    r.zrevrangebyscore(a, 5, 1)
    r.zrangebylex(a, "-", "+")
    r.zrevrangebylex(a, "+", "-")
    r.zrangestore(c, a, 0, 1)
    r.zunion([a, b])
    r.zunion({a: 2, b: 3}, aggregate="MAX", withscores=True)
    r.zinter([a, b], withscores=True)
    r.zintercard(2, [a, b])
    r.zdiff([a, b])
    r.zdiff([a, b], withscores=True)
    r.zunionstore(c, [a, b])
    r.zinterstore(c, {a: 1, b: 2}, aggregate="MIN")
    r.zdiffstore(c, [a, b])
    r.zrandmember(a, see=kind)
    r.zrandmember(a, 100, withscores=True, see=kind)
    r.zrem(a, "inf", "none")
    r.zremrangebyrank(c, 0, 0)
    r.zremrangebyscore(c, 1, 2)
    r.zremrangebylex(c, "[a", "[b")
    r.zpopmin(a)
    r.zpopmax(a, 2)
    r.zpopmin(none)
    r.zmpop(2, [none, a], min=True, count=5)
    r.zmpop(1, [none], max=True)
    r.zscan(b)
    r.zscan(b, match="f*", score_cast_func=int)
    r.raw("ZRANGE", b, 0, -1, "WITHSCORES")
    r.raw("ZADD", b, 1)
    r.set(a, 1)
    r.zadd(a, {"one": 1})
    r.zscore(a, "one")

    async def with_an_iterator(client: Redis) -> object:
        return [exact(pair) async for pair in client.zscan_iter(b)]

    r.do(with_an_iterator)


@group
def places(r: Notes, k: str):
    a, b = f"{k}a", f"{k}b"
    r.geoadd(a, (13.361389, 38.115556, "Palermo"))
    r.geoadd(a, (15.087269, 37.502669, "Catania", 2.35, 48.85, "Paris"))
    r.geoadd(a, (13, 38, "Palermo"), nx=True)
    r.geoadd(a, (13, 38, "Palermo"), xx=True, ch=True)
    r.geoadd(a, (1, 2))
    r.geoadd(a, (500, 2, "nowhere"))
    r.geodist(a, "Palermo", "Catania")
    r.geodist(a, "Palermo", "Catania", unit="km")
    r.geodist(a, "Palermo", "none")
    r.geohash(a, "Palermo", "none")
    r.geopos(a, "Palermo", "none")
    r.georadius(a, 15, 37, 200, unit="km")
    r.georadius(a, 15, 37, 200, unit="km", withdist=True, withcoord=True, withhash=True, sort="ASC")
    r.georadiusbymember(a, "Palermo", 300, unit="km", count=1)
    r.georadius(a, 15, 37, 200, unit="km", store=b)
    r.geosearch(a, member="Palermo", radius=300, unit="km")
    r.geosearch(a, longitude=15, latitude=37, width=400, height=400, unit="km", withdist=True)
    r.geosearch(a, member="Palermo")
    r.geosearchstore(b, a, member="Palermo", radius=300, unit="km", storedist=True)
    r.zrange(b, 0, -1, withscores=True)
    r.geosearch(a, member="none", radius=1, unit="m")


@group
def counters(r: Notes, k: str):
    a, b, c = f"{k}a", f"{k}b", f"{k}c"
    r.pfadd(a, "one", "two", 3)
    r.pfadd(a, "one")
    r.pfadd(b, *range(1000))
    r.pfcount(a)
    r.pfcount(a, b)
    r.pfmerge(c, a, b)
    r.pfcount(c)
    r.getrange(c, 0, 3)
    r.set(a, "x")
    r.pfadd(a, 1)
    r.pfcount(a)


# ---- streams -------------------------------------------------------------------------------------


@group
def streams(r: Notes, k: str):
    a, b, none = f"{k}a", f"{k}b", f"{k}none"
    for n in range(1, 6):
        r.xadd(a, {"n": n, "text": "é"}, id=f"{n}-1")
    r.xadd(a, {"n": 0}, id="1-1")
    r.xadd(a, {"n": 0}, id="0-0")
    r.xadd(a, {})
    r.xadd(f"{k}now", {"n": 6}, see=kind)
    r.xadd(none, {"n": 6}, nomkstream=True)
    r.xadd(a, {"n": 7}, id="9999999999999-7", maxlen=100, approximate=False)
    r.xlen(a)
    r.xdel(a, "9999999999999-7", "1-2")
    r.xtrim(a, maxlen=100, approximate=False)
    r.xrange(a, "1", "3")
    r.xrange(a, "-", "(3-1", count=1)
    r.xrevrange(a, "5-1", "2", count=2)
    r.xrange(none)
    r.xrange(a, "x")
    r.xread({a: "3-1", none: 0}, count=1)
    r.xread({none: 0})
    r.xread({a: "9999999999999-9"})
    r.xread({})
    r.xread({a: "x"})
    r.xread({a: "3-1"}, count=1, block=10)
    r.xread({none: "$"}, block=1)
    r.xread({none: "$"}, block=-1)
    r.raw("XREAD", "COUNT", 1, "STREAMS", a, "0")
    r.raw("xread", b"count", 1, b"streams", a, "0")
    r.raw("XREAD", "BLOCK", 1, "STREAMS", none, "$")
    r.raw("XREAD", "block", "x", "STREAMS", none, "$")
    r.raw("XREAD")
    r.raw("XREAD", "STREAMS", a)
    r.raw("XREAD STREAMS", a, "4-1")
    r.raw("XREAD BLOCK 1 STREAMS", none, "$")
    r.raw("XREAD BLOCK", 1, "STREAMS", none, "$")
    r.xgroup_create(a, "group", id="0")
    r.xgroup_create(a, "group", id="0")
    r.xgroup_create(none, "group")
    r.xgroup_create(b, "streams", mkstream=True)
    r.xgroup_createconsumer(a, "group", "two")
    r.xreadgroup("group", "one", {a: ">"}, count=2)
    r.xreadgroup("group", "one", {a: ">"}, count=1, block=10)
    r.xreadgroup("group", "two", {a: ">"}, count=1, noack=True)
    r.xreadgroup("group", "one", {a: 0})
    r.xreadgroup("streams", "block", {b: ">"})
    r.xreadgroup("streams", "streams", {b: ">"}, block=1)
    r.xreadgroup("none", "one", {a: ">"})
    r.raw("XREADGROUP", "GROUP", "streams", "streams", "STREAMS", b, ">")
    r.raw("XREADGROUP", "GROUP", "streams", "streams", "BLOCK", 1, "STREAMS", b, ">")
    r.xpending(a, "group")
    r.xpending_range(a, "group", "-", "+", 10, see=kind)
    r.xpending_range(a, "group", "-", "+", 10, consumername="one", idle=100_000)
    r.xclaim(a, "group", "two", 0, ["1-1"])
    r.xclaim(a, "group", "two", 0, ["2-1"], justid=True)
    r.xclaim(a, "group", "two", 100_000, ["2-1"])
    r.xautoclaim(a, "group", "three", 0, count=1)
    r.xautoclaim(a, "group", "three", 0, justid=True)
    r.xack(a, "group", "1-1", "1-2")
    r.xgroup_delconsumer(a, "group", "two")
    r.xgroup_setid(a, "group", "5-1")
    r.xinfo_stream(a, see=in_any_order)
    r.xinfo_stream(a, full=True, see=in_any_order)
    r.xinfo_groups(a)
    r.xinfo_consumers(a, "group", see=kind)
    r.xinfo_stream(f"{k}no")
    r.raw("XINFO", "GROUPS", a)
    r.raw("XINFO HELP", see=kind)
    r.raw("XSETID", a, "9999999999999-99")
    r.xgroup_destroy(a, "group")
    r.xgroup_destroy(a, "group")
    r.xtrim(a, minid="4-1", approximate=False)
    r.xtrim(a)
    r.xlen(none)
    r.set(none, 1)
    r.xadd(none, {"n": 1})
    r.xread({none: 0})


# ---- keys ----------------------------------------------------------------------------------------


@group
def keys_and_times(r: Notes, k: str):
    a, b, none = f"{k}a", f"{k}b", f"{k}none"
    r.set(a, 1)
    r.exists(a, none, a)
    r.type(a)
    r.type(none)
    r.touch(a, none)
    r.expire(a, 100)
    r.expire(none, 100)
    r.expire(a, 200, nx=True)
    r.expire(a, 200, gt=True)
    r.expire(a, "soon")
    r.ttl(a, see=kind)
    r.pttl(a, see=kind)
    r.ttl(none)
    r.pexpire(a, 100_000)
    r.expireat(a, 4_102_444_800)
    r.expiretime(a)
    r.pexpireat(a, 4_102_444_800_500)
    r.pexpiretime(a)
    r.persist(a)
    r.persist(a)
    r.ttl(a)
    r.rename(a, b)
    r.rename(a, b)
    r.set(a, 2)
    r.renamenx(a, b)
    r.renamenx(b, f"{k}c")
    r.copy(a, b)
    r.copy(a, b)
    r.copy(a, b, replace=True)
    r.move(a, 99)
    r.unlink(a, none)
    r.delete(b, b)
    r.set(a, "value")
    r.object("ENCODING", a)
    r.object("REFCOUNT", a)
    r.object("IDLETIME", a, see=kind)
    r.object("FREQ", a)
    r.object("ENCODING", none)
    r.object("HELP", see=kind)
    r.memory_usage(a, see=kind)
    r.memory_usage(none)
    r.keys(f"{k}*", see=in_any_order)
    r.keys(f"{k}none*")
    r.dump(a)
    r.dump(none)
    r.raw("DUMP", a, NEVER_DECODE=True)
    r.restore(b, 0, b"nonsense")
    r.expire(a, -1)
    r.exists(a)
    r.raw("DEL")
    r.raw("EXPIRE", a)
    r.raw("TYPE", a, b)

    async def dumped_and_restored(client: Redis) -> object:
        await client.rpush(b, 1, 2, b"\xff")
        dumped = await client.dump(b)
        told = [dumped, await client.restore(a, 100_000, dumped, replace=True)]
        told.append(await client.lrange(a, 0, 1))
        with pytest.raises(RedisError) as caught:
            await client.restore(a, 0, dumped)
        return exact([*told, caught.value])

    async def scanned(client: Redis) -> object:
        await client.mset({f"{k}scan{n}": n for n in range(100)})
        found = [key async for key in client.scan_iter(match=f"{k}scan*", count=50, _type="string")]
        return in_any_order(found)

    r.do(dumped_and_restored)
    r.do(scanned)


# ---- scripts, pipelines, transactions, subscriptions, locks --------------------------------------


@group
def scripts(r: Notes, k: str):
    a = f"{k}a"
    body = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    r.eval(body, 1, a, 5)
    r.eval_ro("return redis.call('GET', KEYS[1])", 1, a)
    r.eval_ro(body, 1, a, 5)
    r.eval("return {1, 'two', {3.9, false, true}, {ok='fine'}, redis.status_reply('st')}", 0)
    r.eval("return {err='MINE own'}", 0)
    r.eval("return redis.error_reply('MINE own')", 0)
    r.eval("return redis.call('NONSENSE')", 0)
    r.eval("return redis.pcall('NONSENSE')", 0)
    r.eval("syntax error", 0)
    r.eval("return nil", 0)
    r.eval("redis.setresp(3); return redis.call('HGETALL', KEYS[1])", 1, f"{k}none")
    r.eval("return redis.call('BLPOP', KEYS[1], 0)", 1, f"{k}none")
    r.eval("return 1", 5, a)
    r.eval("return 1", -1)
    r.eval("return 1", "x")
    r.eval("return string.rep('x', 100000)", 0, see=hashed)
    r.script_load(body)
    r.evalsha(hashlib.sha1(body.encode()).hexdigest(), 1, a, 7)  # noqa: S324 - that is how scripts are named
    r.evalsha("f" * 40, 0)
    r.evalsha_ro("f" * 40, 0)
    r.script_exists("f" * 40)
    r.script_exists(hashlib.sha1(body.encode()).hexdigest())  # noqa: S324 - likewise
    r.raw("EVAL", "return 1")
    r.raw("eval", "return ARGV", 0, "a", b"b", 1, 1.5)
    r.raw("SCRIPT NONSENSE")
    r.fcall("no_such", 0)
    r.fcall_ro("no_such", 0)

    async def registered(client: Redis) -> object:
        script = client.register_script(f"-- {k}\nreturn {{KEYS[1], ARGV[1]}}")
        told = [await script(keys=[a], args=["x"]), await script([a], ["y"])]
        return exact(told)

    r.do(registered)


@group
def pipelines(r: Notes, k: str):
    a, text = f"{k}a", f"{k}text"

    async def in_a_pipeline(client: Redis) -> object:
        told: list[object] = []
        for transaction in (True, False):
            async with client.pipeline(transaction=transaction) as pipe:
                told.append(await pipe.set(a, 1).incr(a).hgetall(f"{k}none").execute())
                pipe.set(text, "x").incr(text).object("ENCODING", text).get(text)
                told.append(await pipe.execute(raise_on_error=False))
                with pytest.raises(RedisError) as caught:
                    await pipe.set(text, "x").lpush(text, 1).execute()
                told.append(caught.value)
                with pytest.raises(RedisError) as caught:
                    await pipe.set(text, object()).execute()
                told.append(caught.value)
                told.append(await pipe.blpop(f"{k}none", 0.002).xread({a: "$"}).execute())
        return exact(told)

    async def watching(client: Redis) -> object:
        told: list[object] = []
        for interfere in (True, False):
            async with client.pipeline() as pipe:
                await pipe.watch(a)
                told.append(await pipe.get(a))
                if interfere:
                    await client.incr(a)
                pipe.multi()
                pipe.incr(a)
                try:
                    told.append(await pipe.execute())
                except RedisError as error:
                    told.append(error)
        return exact(told)

    async def as_a_function(client: Redis) -> object:
        def count(pipe: Any) -> None:
            pipe.multi()
            pipe.incr(a).get(a)

        return exact(await client.transaction(count, a))

    async def with_a_syntax_error(client: Redis) -> object:
        async with client.pipeline() as pipe:
            with pytest.raises(RedisError) as caught:
                await pipe.set(a, 8).execute_command("NONSENSE").execute()
        return exact([caught.value, await client.get(a)])

    r.do(in_a_pipeline)
    r.do(watching)
    r.do(as_a_function)
    r.do(with_a_syntax_error)
    # Without a pipeline there is no connection to which they would belong.
    r.raw("DISCARD")
    r.raw("EXEC")
    r.raw("MULTI")
    r.raw("EXEC")
    r.raw("WATCH", a)
    r.raw("UNWATCH")
    r.raw("WATCH")
    r.get(a)


@group
def messages(r: Notes, k: str):
    channel = f"{k}channel"
    r.publish(channel, "nobody")
    r.pubsub_channels(f"{k}*")
    r.pubsub_numsub(channel)
    r.pubsub_shardchannels(f"{k}*")
    r.pubsub_shardnumsub(channel)
    r.raw("PUBSUB NONSENSE")
    r.spublish(channel, "nobody")
    r.raw("PUBLISH", channel)

    async def heard(client: Redis) -> object:
        async with client.pubsub(ignore_subscribe_messages=False) as pubsub:
            await pubsub.subscribe(channel)
            await pubsub.psubscribe(f"{k}ch*")
            told = [await pubsub.get_message(timeout=5) for _ in range(2)]
            told.append(await client.pubsub_channels(f"{k}*"))
            told.append(await client.pubsub_numsub(channel, "none"))
            told.append(await client.publish(channel, "word"))
            told += [await pubsub.get_message(timeout=5) for _ in range(2)]
            await pubsub.unsubscribe()
            told.append(await pubsub.get_message(timeout=5))
        return exact(told)

    r.do(heard)


@group
def locks(r: Notes, k: str):
    async def locked(client: Redis) -> object:
        lock, other = client.lock(k, timeout=10), client.lock(k, timeout=10, sleep=0.001)
        told: list[object] = [
            await lock.acquire(),
            await other.acquire(blocking=False),
            await lock.owned(),
            await other.locked(),
            await lock.extend(5),
            await lock.reacquire(),
        ]
        with pytest.raises(RedisError) as caught:
            await other.release()
        told += [caught.value, await lock.release(), await lock.locked()]
        async with other:
            told.append(await other.owned())
        return exact(told)

    r.do(locked)


@group
def blocking(r: Notes, k: str):
    a, b, none = f"{k}a", f"{k}b", f"{k}none"
    soon = 0.002  # older servers take a thousandth for no time, which means for ever
    r.rpush(a, 1, 2, 3, 4, 5, 6)
    r.zadd(b, {"one": 1, "two": 2, "three": 3})
    r.blpop([none, a], 1)
    r.brpop(a, timeout=1)
    r.blmove(a, f"{k}c", 1)
    r.brpoplpush(a, f"{k}c", 1)
    r.blmpop(1, 2, none, a, direction="LEFT", count=2)
    r.bzpopmin([none, b], 1)
    r.bzpopmax(b, 1)
    r.bzmpop(1, 1, [b], min=True)
    r.blpop(none, soon)
    r.brpop([none], soon)
    r.blmove(none, a, soon)
    r.brpoplpush(none, a, soon)
    r.blmpop(soon, 1, none, direction="LEFT")
    r.bzpopmin(none, soon)
    r.bzpopmax([none], soon)
    r.bzmpop(soon, 1, [none], max=True)
    r.raw("blpop", none, soon)
    r.raw(b"BLPOP", none, soon)
    r.raw("BLPOP", none, "x")
    r.raw("BLPOP", none, -1)
    r.raw("BLPOP", none)
    r.wait(0, 1, see=kind)  # there may be replicas
    r.waitaof(0, 0, 1)
    r.set(none, "x")
    r.blpop(none, 1)

    async def woken(client: Redis) -> object:
        waiting = asyncio.create_task(client.blpop(f"{k}queue", 10))
        return exact([await client.rpush(f"{k}queue", "item"), await waiting])

    r.do(woken)


# ---- the server as a whole -----------------------------------------------------------------------


@group_alone
def the_data_set(r: Notes, k: str):
    r.dbsize()
    r.randomkey()
    r.set(k, 1)
    r.randomkey()
    r.keys()
    r.scan()
    r.scan(match="none*", count=1000, _type="list")
    r.scan(cursor="x")
    r.raw("SCAN", 0, "NONSENSE")
    r.raw("SCAN", 0, "COUNT", 0)
    r.dbsize()
    r.move(k, 1)
    r.swapdb(0, 1)
    r.get(k)
    r.copy(k, k, destination_db=1)
    r.migrate("127.0.0.1", 1, "none", 0, 10)
    r.flushdb()
    r.flushdb(asynchronous=True)
    r.raw("FLUSHDB", "NONSENSE")
    r.flushall()
    r.dbsize()


@group_alone
def the_session(r: Notes, k: str):
    r.set(k, 1)
    r.ping()
    r.raw("PING")
    r.raw("PING", "word")
    r.raw("ping", "word", "more")
    r.echo("word")
    r.select(1)
    r.get(k)
    r.raw("SELECT", "99")
    r.raw("SELECT", "x")
    r.raw("SELECT", 1)
    r.get(k)
    r.raw("HELLO", see=kind)
    r.raw("HELLO", 2, see=kind)
    r.hgetall("none")
    r.raw("HELLO", 3, see=kind)
    r.raw("HELLO", 9)
    r.hgetall("none")
    r.auth("wrong")
    r.raw("AUTH", "nobody", "wrong")
    r.raw("AUTH")
    r.get(k)
    r.raw("RESET")
    r.get(k)
    r.quit()
    r.get(k)
    r.raw("QUIT")
    r.get(k)
    r.raw("READONLY")
    r.raw("READWRITE")
    r.raw("ASKING")
    r.client_id(see=kind)
    r.client_info(see=in_any_order)
    r.client_list(see=lambda reply: {row["name"] for row in reply})
    r.client_list(_type="pubsub")
    r.client_list(client_id=["0"])
    r.client_setname("web")
    r.raw("CLIENT SETNAME", "with space")
    r.client_setinfo("LIB-NAME", "lib")
    r.client_getredir()
    r.client_trackinginfo()
    r.client_tracking_on()
    r.client_tracking_off()
    r.client_no_evict("ON")
    r.client_no_touch("ON")
    r.client_kill("127.0.0.1:1")
    r.client_kill_filter(_id="999999999")
    r.client_unblock(999_999_999)
    r.client_pause(0)
    r.client_unpause()
    r.client_reply("ON")
    r.raw("CLIENT", "NONSENSE")
    r.raw("CLIENT")
    r.raw("CLIENT HELP", see=kind)
    r.get(k)


@group_alone
def the_server(r: Notes, k: str):
    r.set(k, "value")
    r.info("server", see=in_any_order)
    r.info("server", "memory", see=in_any_order)
    r.info("nonsense")
    r.info(see=lambda reply: reply["redis_version"])
    r.raw("INFO", "keyspace", see=kind)
    r.time(see=kind)
    r.lastsave(see=kind)
    r.save()
    r.role()
    r.replicaof("NO", "ONE")
    r.slaveof()
    r.raw("FAILOVER")
    r.raw("SHUTDOWN", "NONSENSE")
    r.raw("CLUSTER INFO")
    r.raw("CLUSTER", "KEYSLOT", k)
    r.raw("SENTINEL", "masters")
    r.lolwut(5, see=kind)
    r.config_get("maxmemory*", see=exact)
    r.config_get("maxclients", "timeout")
    r.config_get("no_such")
    r.config_get(see=in_any_order)
    r.config_set("timeout", 0)
    r.config_set("maxmemory-policy", "nonsense")
    r.config_set("no_such", 1)
    r.config_resetstat()
    r.config_rewrite()
    r.raw("CONFIG", "GET", "databases")
    r.raw("config get", "databases")
    r.raw("CONFIG NONSENSE")
    r.acl_whoami()
    r.acl_cat()
    r.acl_cat("scripting", see=in_any_order)
    r.acl_cat("nonsense")
    r.acl_list()
    r.acl_users()
    r.acl_getuser("default")
    r.acl_getuser("nobody")
    r.acl_setuser("somebody", enabled=True, nopass=True, commands=["+get"], keys=["a*"])
    r.acl_getuser("somebody")
    r.acl_dryrun("somebody", "get", "a")
    r.acl_dryrun("somebody", "set", "a", 1)
    r.raw("ACL SETUSER", "somebody", "nonsense")
    r.acl_deluser("somebody", "nobody")
    r.acl_genpass(see=kind)
    r.acl_log_reset()
    r.acl_log()
    r.acl_help(see=kind)
    r.acl_load()
    r.memory_stats(see=in_any_order)
    r.memory_doctor(see=kind)
    r.memory_purge()
    r.memory_malloc_stats(see=kind)
    r.memory_usage(k, samples=0, see=kind)
    r.slowlog_reset()
    r.slowlog_len(see=kind)
    r.slowlog_get(1, see=type)
    r.latency_latest(see=kind)
    r.latency_history("command")
    r.latency_reset()
    r.latency_doctor()
    r.latency_histogram("get")
    r.raw("LATENCY HELP", see=kind)
    r.command(see=in_any_order)
    r.command_count()
    r.command_list(see=in_any_order)
    r.command_list(category="scripting", see=in_any_order)
    r.command_getkeys("MSET", "a", 1, "b", 2)
    r.command_getkeys("PING")
    r.command_getkeysandflags("MSET", "a", 1, "b", 2)
    r.command_info("get")
    r.command_docs("get")
    r.raw("COMMAND INFO", "get", "none")
    r.raw("COMMAND DOCS", "get")
    r.raw("COMMAND", see=len)
    r.raw("COMMAND NONSENSE")
    r.module_list()
    r.module_load("/nowhere")
    r.module_unload("none")
    r.debug_object(k, see=kind)
    r.raw("DEBUG", "JMAP")
    r.script_flush()
    r.script_flush("ASYNC")
    r.script_kill()
    r.script_debug("NO")
    r.raw("SCRIPT HELP", see=kind)
    r.pubsub_numpat()
    r.pubsub_channels()
    r.raw("HIMPORT", "SET", k, "fields", 1)
    r.raw("HIMPORT SET", k, "fields", 1)
    r.raw("HIMPORT")
    r.raw("JSON.GET", k)
    r.raw("FT._LIST")

    async def watched(client: Redis) -> object:
        async with client.monitor() as monitor:
            await client.echo("word")
            while (await monitor.next_command())["command"] != "ECHO word":
                pass
            return True

    r.do(watched)


@group_alone
def functions(r: Notes, k: str):
    code = (
        "#!lua name=lib\n"
        "redis.register_function('put', function(k, a) return redis.call('SET', k[1], a[1]) end)\n"
        "redis.register_function{function_name='take', flags={'no-writes'},"
        " callback=function(k) return redis.call('GET', k[1]) end}"
    )
    r.function_load(code)
    r.function_load(code)
    r.function_load(code, replace=True)
    r.function_load("nonsense")
    r.function_list()
    r.function_list(library="lib", withcode=True)
    r.function_list("none")
    r.function_stats()
    r.fcall("put", 1, k, "value")
    r.fcall("take", 1, k)
    r.fcall_ro("take", 1, k)
    r.fcall_ro("put", 1, k, "value")
    r.fcall("put", 2, k)
    r.raw("fcall", "take", 1, k)
    r.function_kill()
    r.function_dump(see=kind)
    r.function_restore(b"nonsense")

    async def dumped_and_restored(client: Redis) -> object:
        dumped = await client.function_dump()
        return exact([await client.function_flush(), await client.function_restore(dumped)])

    r.do(dumped_and_restored)
    r.function_delete("lib")
    r.function_delete("lib")
    r.function_flush()
    r.fcall("take", 1, k)


# ---- the tests -----------------------------------------------------------------------------------


@pytest.fixture
def server(server: Server) -> Iterator[Server]:
    """The server, which looks more often than ten times a second who has blocked long enough."""
    server.run("CONFIG", "SET", "hz", 500)
    yield server
    server.run("CONFIG", "SET", "hz", 10)


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def options(request: pytest.FixtureRequest, wire: dict[str, Any]) -> dict[str, Any]:
    """Keywords of each kind of connection."""
    return {"decode_responses": request.param, **wire}


def make_pool(server: Server, options: dict[str, Any]) -> RedisPool:
    return RedisPool(server.url, max_size=20, timeout=30, **STRICT, **options)


async def told_by(
    make_client: Callable[[RedisPool], Redis], server: Server, options: dict[str, Any]
) -> list[str]:
    """Play all groups, each on an empty server."""
    told = []
    async with asyncio.timeout(30), make_pool(server, options) as pool:
        client = make_client(pool)
        for group in ON_KEYS_OF_THEIR_OWN + ON_THE_WHOLE_SERVER:
            server.run("FLUSHALL")
            told += await play(client, group, "key:")
    return told


TOLD: dict[str, list[str]] = {}  # by redis-py's client, for each kind of connection


async def told_by_redis_py(server: Server, options: dict[str, Any]) -> list[str]:
    name = str(options)
    if name not in TOLD:
        TOLD[name] = await told_by(lambda pool: Redis(connection_pool=pool), server, options)
    return TOLD[name]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was sent over lanes."""
    commands: list[bytes] = []
    ask = Lanes.ask

    def noting(lanes: Lanes, command: bytes) -> Any:
        commands.append(command)
        return ask(lanes, command)

    monkeypatch.setattr(Lanes, "ask", noting)
    return commands


def differences(told: list[str], expected: list[str]) -> list[tuple[str, str]]:
    return [(ours, theirs) for ours, theirs in zip(told, expected, strict=True) if ours != theirs]


async def test_commands_return_and_raise_what_they_do_through_redis_pys_client(
    server: Server, options, asked
):
    expected = await told_by_redis_py(server, options)
    told = await told_by(RedisPool.pipelined, server, options)
    assert differences(told, expected) == []
    assert len(asked) > len(told) / 2


async def test_also_if_something_is_put_round_redis_pys_method(
    server: Server, options, asked, monkeypatch
):
    expected = await told_by_redis_py(server, options)
    execute, seen = Redis.execute_command, []

    @wraps(execute)
    async def traced(self, *args, **options):
        seen.append(args)
        return await execute(self, *args, **options)

    monkeypatch.setattr(Redis, "execute_command", traced)
    told = await told_by(RedisPool.pipelined, server, options)
    assert differences(told, expected) == []
    assert len(seen) > len(asked) > len(told) / 2


async def test_also_with_redis_pys_telemetry(server: Server, wire, asked):
    options = {"decode_responses": False, **wire}
    expected = await told_by_redis_py(server, options)
    telemetry = Telemetry()
    try:
        told = await told_by(RedisPool.pipelined, server, options)
        assert differences(told, expected) == []
        assert sum(telemetry.operations().values()) > len(asked) > len(told) / 2
    finally:
        telemetry.end()


async def test_also_if_many_tasks_do_it_at_once(server: Server, options, asked):
    expected = await told_by_redis_py(server, options)
    times = 3
    async with asyncio.timeout(30), make_pool(server, options) as pool:
        client = pool.pipelined()
        told = await asyncio.gather(
            *(
                play(client, group, f"key{number}.{time}:")
                for time in range(times)
                for number, group in enumerate(ON_KEYS_OF_THEIR_OWN)
            )
        )
    lines = [line for lines in told for line in lines]
    assert differences(lines, expected[: len(lines) // times] * times) == []
    assert len(asked) > len(lines) / 2
    assert pool.stats().acquired < len(lines) / 2  # so they did share
