"""Telling push messages from anything else that a server sends unasked."""

import pytest

from aiopool.redis._push import only_pushes

INVALIDATE = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n"
NESTED = b">4\r\n+kind\r\n%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n_\r\n#t\r\n|1\r\n+ttl\r\n:3600\r\n$0\r\n\r\n=7\r\ntxt:abc\r\n"


@pytest.mark.parametrize(
    "data", [INVALIDATE, NESTED, INVALIDATE * 3, INVALIDATE + NESTED, b">0\r\n"]
)
def test_complete_push_messages_are_recognised(data):
    assert only_pushes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"+OK\r\n",
        b"$9\r\nanother's\r\n",
        b":1\r\n",
        b"-ERR no\r\n",
        b"\r\n",
        b">",
        b">x\r\n",
        b">2\r\n+one\r\n",
        b"*1\r\n" + INVALIDATE,
        INVALIDATE + b"+OK\r\n",
        INVALIDATE + b"\r\n",
        b"+OK\r\n" + INVALIDATE,
        b">1\r\n" * 100_000,
    ],
)
def test_anything_else_is_not(data):
    assert not only_pushes(data)


@pytest.mark.parametrize("message", [INVALIDATE, NESTED])
def test_a_message_that_is_not_complete_is_none(message):
    assert not any(only_pushes(message[:end]) for end in range(1, len(message)))
