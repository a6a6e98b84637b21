"""What a connection owes, from the commands that pass."""

import pytest

from aiopool.redis._ledger import Ledger


def after(*commands: tuple, db: object = 0, replies: int | None = None) -> Ledger:
    """Keep the ledger of a session that sent these commands and read so many replies."""
    ledger = Ledger()
    for command in commands:
        ledger.note_packed(command, db)
        ledger.note_sent()
    for _ in range(len(commands) if replies is None else replies):
        ledger.note_reply()
    return ledger


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [("GET", "key")],
        [("MULTI",), ("INCR", "n"), ("EXEC",)],
        [("multi",), ("DISCARD",)],
        [(b"Multi",), (b"exec",)],
        [("WATCH", "key"), ("UNWATCH",)],
        [("WATCH", "key"), ("MULTI",), ("EXEC",)],
        [("WATCH", "key"), ("MULTI",), ("UNWATCH",), ("DISCARD",)],
        [("SELECT", 0)],
        [("SELECT", b"0")],
        [("CLIENT SETNAME", "web")],
        [("CLIENT", "LIST")],
        [("CONFIG GET", "select")],
        [("SET", "MULTI", "WATCH")],
    ],
)
def test_what_leaves_no_trace_is_clean(commands):
    assert after(*commands).clean


@pytest.mark.parametrize(
    "commands",
    [
        [("MULTI",)],
        [("multi",)],
        [(b"MULTI",)],
        [("MULTI",), ("EXEC", "with an argument it is refused")],
        [("WATCH", "key")],
        [("WATCH", "key"), ("EXEC",)],
        [("WATCH", "key"), ("MULTI",), ("UNWATCH",)],
        [("SELECT", 3)],
        [("SELECT", 3), ("SELECT", 0)],
        [("SUBSCRIBE", "news")],
        [("PSUBSCRIBE", "*")],
        [("SSUBSCRIBE", "shard")],
        [("MONITOR",)],
        [("AUTH", "user", "password")],
        [("HELLO", 3)],
        [("RESET",)],
        [("QUIT",)],
        [("READONLY",)],
        [("CLIENT TRACKING", "ON")],
        [("CLIENT", "TRACKING", "ON")],
        [("client tracking", "on")],
        [("CLIENT", b"reply", "OFF")],
        [("CLIENT", "NO-EVICT", "ON")],
    ],
)
def test_what_the_next_user_would_feel_is_not_clean(commands):
    assert not after(*commands).clean


def test_a_database_selected_by_its_own_number_is_no_other():
    assert after(("SELECT", 3), db=3).clean
    assert after(("SELECT", "3"), db=3).clean
    assert not after(("SELECT", 0), db=3).clean


def test_a_reply_not_read_is_owed():
    assert not after(("GET", "a"), ("GET", "b"), replies=1).clean
    assert after(("GET", "a"), ("GET", "b"), replies=2).clean


def test_a_reply_that_nobody_waited_for_is_a_bad_sign_for_good():
    ledger = after(("GET", "a"), replies=2)
    assert not ledger.clean
    ledger.note_packed(("GET", "b"), 0)
    ledger.note_sent()
    assert not ledger.clean


def test_bytes_that_were_not_packed_here_can_not_be_accounted_for():
    ledger = Ledger()
    ledger.note_sent()
    assert not ledger.clean


def test_commands_packed_together_are_owed_together_when_they_are_sent():
    ledger = Ledger()
    for _ in range(3):
        ledger.note_packed(("PING",), 0)
    assert ledger.clean  # nothing has left yet
    ledger.note_sent()
    assert ledger.owed == 3
