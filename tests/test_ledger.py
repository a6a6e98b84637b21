"""What a connection owes, from the commands and replies that pass."""

import pytest

from aiopool.redis._ledger import Ledger, noteworthy

GOOD, BAD = True, False


def after(*commands: tuple, db: object = 0, replies: list[bool] | None = None) -> Ledger:
    """Keep the ledger of a session that sent these commands and read these replies."""
    ledger = Ledger()
    for command in commands:
        ledger.sent(noteworthy(command), db)
    for well in [GOOD] * len(commands) if replies is None else replies:
        ledger.answered(well=well)
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
        [("CLIENT",)],
        [("SCRIPT", "LOAD", "return 1")],
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
        [("WATCH", "key")],
        [("WATCH", "key"), ("MULTI",), ("UNWATCH",)],
        [("SELECT", 3)],
        [("SELECT", 3), ("SELECT", 0)],
        [("SELECT",)],
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
        [("SCRIPT", "DEBUG", "YES")],
        [("script debug", "yes")],
    ],
)
def test_what_the_next_user_would_feel_is_not_clean(commands):
    assert not after(*commands).clean


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        ([("MULTI",), ("DISCARD",)], [GOOD, BAD]),
        ([("MULTI",), ("EXEC", "with an argument it is refused")], [GOOD, BAD]),
        ([("WATCH", "key"), ("UNWATCH",)], [GOOD, BAD]),
        ([("WATCH", "key"), ("EXEC",)], [GOOD, BAD]),
        ([("MULTI",), ("EXEC",), ("MULTI",), ("EXEC",)], [GOOD, GOOD, GOOD, BAD]),
    ],
)
def test_a_command_that_failed_has_ended_no_transaction(commands, replies):
    assert not after(*commands, replies=replies).clean


@pytest.mark.parametrize("command", [("MULTI", "with an argument"), ("WATCH",)])
def test_a_command_that_failed_has_begun_no_transaction(command):
    assert after(command, replies=[BAD]).clean


def test_a_database_selected_by_its_own_number_is_no_other():
    assert after(("SELECT", 3), db=3).clean
    assert after(("SELECT", "3"), db=3).clean
    assert not after(("SELECT", 0), db=3).clean


def test_a_reply_not_read_is_owed():
    assert not after(("GET", "a"), ("GET", "b"), replies=[GOOD]).clean
    assert after(("GET", "a"), ("GET", "b"), replies=[GOOD, BAD]).clean


def test_a_reply_that_nobody_waited_for_is_a_bad_sign_for_good():
    ledger = after(("GET", "a"), replies=[GOOD, GOOD])
    assert not ledger.clean
    ledger.sent(noteworthy(("GET", "b")), 0)
    assert not ledger.clean


def test_what_can_not_be_accounted_for_is_a_stain_for_good():
    ledger = after(("GET", "a"))
    ledger.stain()
    assert not ledger.clean
