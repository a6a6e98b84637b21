"""`aiopool top`, run as a user would: what it shows of another process, and what it says if there is none."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from math import inf, nan
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from aiopool import Stats
from aiopool.__main__ import main
from aiopool._cli._history import History, spark
from aiopool._cli._screen import Seen, View, picture
from aiopool._cli._snapshot import read


def pool(name="pool", holders=(), waiters=(), last_error=None, closed=None, **stats):
    numbers = dict.fromkeys([field.name for field in fields(Stats)], 0)
    return {
        "name": name,
        "kind": "RedisPool",
        "stats": numbers | {"max_size": 10} | stats | {"closed": closed or {}},
        "holders": [
            {"task": task, "age": age, "where": None, "ended": task == "forgotten"}
            for task, age in holders
        ],
        "more_holders": 0,
        "waiters": [{"task": task, "age": age} for task, age in waiters],
        "more_waiters": 0,
        "last_error": last_error,
    }


def snapshot(*pools, pid=4242, at=1_000_000.0):
    return {"pid": pid, "time": at, "pools": list(pools)}


BUSY = snapshot(
    pool(
        "localhost:6379/0",
        holders=[("nightly report", 12.34), ("GET /feed", 0.0042)],
        waiters=[("GET /cart", 1.5)],
        last_error="ConnectionError: refused",
        closed={"max_idle": 3, "lost": 7},
        size=3,
        lent=2,
        idle=1,
        waiting=1,
        acquired=12_345,
        timed_out=17,
    )
)


class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(json.dumps(self.server.told).encode() + b"\n")


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(path, told):
    with running(socketserver.UnixStreamServer(str(path), Answer)) as server:
        server.told = told
        yield server
    path.unlink()


@pytest.fixture
def path():
    """Where a socket may be: not in pytest's tmp_path, which is too long."""
    with tempfile.TemporaryDirectory(prefix="aiopool-") as folder:
        yield Path(folder) / "socket"


def once(path, told, capsys, *words):
    with serving(path, told):
        assert main(["top", *words, str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


# ---- one picture -----------------------------------------------------------------------------


def test_one_picture_tells_all_there_is(path, capsys):
    text = once(path, BUSY, capsys, "--once")
    for what in [
        "process 4242",
        "localhost:6379/0 RedisPool",
        "lent 2 ",
        "idle 1 ",
        "free 7 ",
        "! 12.3 s nightly report",
        "4.2 ms GET /feed",
        "1.5 s GET /cart",
        "acquired 12,345, timed out 17, rejected 0",
        "closed: 7 lost, 3 max idle",
        "the last opening failed: ConnectionError: refused",
    ]:
        assert what in text
    assert "! 4.2 ms" not in text
    assert "\x1b" not in text


def test_a_holder_that_has_ended_is_marked_however_short_ago_it_was(path, capsys):
    told = snapshot(pool(holders=[("forgotten", 0.25), ("alive", 0.25)], lent=2, size=2))
    text = once(path, told, capsys, "--once")
    assert "! 250 ms ended: forgotten" in text
    assert " 250 ms alive" in text
    assert text.count("!") == text.count("ended") == 1


def test_a_version_that_tells_of_no_ended_holders_is_shown_as_well(path, capsys):
    told = snapshot(pool(holders=[("forgotten", 0.25)], lent=1, size=1))
    del told["pools"][0]["holders"][0]["ended"]
    assert " 250 ms forgotten" in once(path, told, capsys, "--once")


def test_all_pools_are_shown(path, capsys):
    text = once(path, snapshot(*[pool(f"pool {n}") for n in range(12)]), capsys, "--once")
    assert re.findall(r"─ (pool \d+) RedisPool", text) == [f"pool {n}" for n in range(12)]


def test_json_is_what_was_told(path, capsys):
    assert json.loads(once(path, BUSY, capsys, "--json")) == BUSY


def test_nothing_that_a_name_says_is_obeyed(path, capsys):
    evil = "\x1b[2Jevil\x9b1m\r\n\u202e[red]\ud800"
    told = snapshot(
        pool(evil, [(evil, 9)], [(evil, 1)], evil, {evil: 1}, waiting=1, lent=1, size=1)
    )
    told["pools"][0]["kind"] = f"kind {evil}"
    told["pools"][0]["holders"][0]["where"] = evil
    for words in (["--once"], ["--json"]):
        text = once(path, told, capsys, *words)
        assert text.count("evil") >= 6
        assert "[red]" in text
        assert not re.search("[^\n\x20-\x7e\xa0-\u200f\u2500-\u25ff\ufffd]", text)


def viewed(told, heads, process=""):
    seen = read(snapshot(*told))
    pools = zip(seen.pools, History().add(seen), strict=True)
    return View([Seen(pool, points, process) for pool, points in pools], heads)


@pytest.mark.parametrize("width", [30, 60, 99, 100, 200])
@pytest.mark.parametrize("height", [10, 24, 60])
@pytest.mark.parametrize("pools", [1, 3])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_picture_is_no_larger_than_the_terminal(width, height, pools, processes):
    names = [("x" * 300, 9.0)] * 50
    told = [pool("y" * 300, names, names, lent=50, size=50, max_size=50) for _ in range(pools)]
    head = Text("z" * 300, no_wrap=True, overflow="ellipsis")
    view = viewed(told, [head] * processes, "p" * 300 if processes > 1 else "")
    console = Console(width=width, height=height)
    lines = console.render_lines(picture(view, width, height), pad=False)
    assert max(sum(part.cell_length for part in line) for line in lines) <= width
    if height > 10 or pools == 1:
        assert len(lines) <= height


def test_if_not_all_pools_have_room_the_busiest_are_shown_below_a_table_of_all():
    told = [pool(f"pool {n}", lent=n, size=n, waiting=40 * (n == 3)) for n in range(8)]
    view = viewed(told, [Text("head")])
    console = Console(width=80, height=40, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(picture(view, 80, 40))
    console.file.close()
    text = console.export_text()
    assert re.findall(r"─ (pool \d) RedisPool", text) == ["pool 3", "pool 7"]
    assert [len(re.findall(f"^pool {n} +{n}/10", text, re.MULTILINE)) for n in range(8)] == [1] * 8
    assert len(text.splitlines()) <= 40


def test_in_the_table_stands_whose_a_pool_is():
    view = viewed([pool(f"pool {n}") for n in range(8)], [Text("head")], "4242 /run/worker.sock")
    console = Console(width=100, height=20)
    with console.capture() as captured:
        console.print(picture(view, 100, 20))
    assert len(re.findall(r"^pool \d +4242 /run", captured.get(), re.MULTILINE)) == 8


# ---- several processes -----------------------------------------------------------------------


@contextmanager
def two(path, name="pool"):
    """Two processes that serve a pool of the same name."""
    with (
        serving(path, snapshot(pool(name, lent=3), pid=111)),
        serving(path.with_name("other"), snapshot(pool(name, lent=4), pid=222)),
    ):
        yield str(path), str(path.with_name("other"))


def test_of_several_processes_all_pools_are_shown_and_whose_they_are(path, capsys):
    with two(path) as both:
        assert main(["top", "--once", *both]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "2 of 2 processes answer" in printed.out
    titles = [line for line in printed.out.splitlines() if "RedisPool" in line]
    assert [re.findall(r"─ pool RedisPool  process (\d+) /\S+", title) for title in titles] == [
        ["111"],
        ["222"],
    ]
    assert re.findall(r"lent (\d) ", printed.out) == ["3", "4"]


def test_those_are_shown_that_answer_and_the_others_are_told_of(path, capsys):
    with two(path) as both:
        missing = [f"{path}-{n}" for n in range(5)]
        assert main(["top", "--once", missing[0], *both, *missing[1:]]) == 0
    text = capsys.readouterr().out
    assert "2 of 7 processes answer" in text
    assert text.count("─ pool RedisPool") == 2
    assert text.count("no answer from") == 3
    assert "and 2 more do not answer" in text


def test_if_nobody_answers_that_is_said_of_each(path, capsys):
    targets = [f"{path}-{n}" for n in range(3)]
    for how in ("--once", "--json"):
        assert main(["top", how, *targets]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        lines = printed.err.splitlines()
        assert len(lines) == 3
        for line, target in zip(lines, targets, strict=True):
            assert line.startswith(f"aiopool top: no answer from {target}: ")


def test_json_is_a_line_for_each_process_that_answers(path, capsys):
    with two(path) as both:
        assert main(["top", "--json", *both, f"{path}-none"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["pid"] for line in printed.out.splitlines()] == [111, 222]
    assert len(printed.err.splitlines()) == 1
    assert f"{path}-none" in printed.err


def test_all_are_asked_at_the_same_time(path, capsys):
    together = threading.Barrier(3, timeout=4)

    class Late(Answer):
        def handle(self):
            self.rfile.readline()
            together.wait()
            self.wfile.write(json.dumps(BUSY).encode() + b"\n")

    targets = [f"{path}-{n}" for n in range(3)]
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(running(socketserver.UnixStreamServer(target, Late)))
        assert main(["top", "--once", *targets]) == 0
    assert "3 of 3 processes answer" in capsys.readouterr().out


# ---- history ---------------------------------------------------------------------------------


def seen(at, *, pid=1, **stats):
    return read(snapshot(pool(**stats), pid=pid, at=at))


def test_rates_are_those_between_two_looks():
    history = History()
    history.add(seen(10, acquired=100, wait_seconds=5.0))
    ((first, second),) = history.add(seen(12, acquired=130, timed_out=10, wait_seconds=7.0))
    assert (first.acquires, first.wait) == (None, None)
    assert (second.acquires, second.wait) == (15.0, 0.05)
    ((*_, third),) = history.add(seen(13, acquired=130, timed_out=10, wait_seconds=7.0))
    assert (third.acquires, third.wait) == (0.0, 0.0)


def test_a_minute_is_remembered():
    history = History()
    for at in range(100, 301):
        (points,) = history.add(seen(at))
    assert [point.time for point in points] == [*range(240, 301)]


def test_another_process_has_another_history():
    history = History()
    history.add(seen(10, acquired=100))
    ((point,),) = history.add(seen(11, pid=2, acquired=3))
    assert point.acquires is None
    # Or another pool of the same name in the place of the first.
    ((_, point),) = history.add(seen(12, pid=2, acquired=0))
    assert point.acquires is None


def test_sparklines_have_now_at_the_right_and_gaps_where_nothing_was_seen():
    assert spark([(n, 60 - n) for n in range(60)], 8, 1) == "▂▃▄▅▆▇██"
    assert spark([(0, 7), (1, 0), (3, 14)], 60, 1) == " " * 56 + "█ ▁▅"
    assert spark([(0, 1)], 60, 10) == " " * 59 + "▂"
    assert spark([], 5, 1) == " " * 5


# ---- nobody there ----------------------------------------------------------------------------


def complaint(capsys, target):
    assert main(["top", "--once", str(target)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("aiopool top: ")
    return line


def test_where_no_socket_is_that_is_said(path, capsys):
    assert complaint(capsys, path) == (
        f"aiopool top: no answer from {path}: No such file or directory"
    )


def test_where_nobody_listens_any_more_that_is_said(path, capsys):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert complaint(capsys, path) == f"aiopool top: no answer from {path}: Connection refused"


@pytest.mark.parametrize(
    "told",
    [
        None,
        [1],
        {},
        {"error": "no"},
        snapshot({"name": "x"}),
        snapshot(pool(size="1")),
        snapshot(pool(lent=nan)),
        snapshot(pool(blocked_seconds=inf)),
        snapshot(pool(waiting=10**400)),
        snapshot(pool(), at=1e300),
    ],
)
def test_what_is_no_snapshot_is_not_shown(path, capsys, told):
    with serving(path, told):
        line = complaint(capsys, path)
    assert str(path) in line
    assert "says something else" in line or "tells of no pools, or as another version" in line


def test_who_hangs_up_has_not_answered(path, capsys):
    class HangUp(socketserver.BaseRequestHandler):
        pass

    with running(socketserver.UnixStreamServer(str(path), HangUp)):
        line = complaint(capsys, path)
    assert str(path) in line


def test_what_a_server_says_that_speaks_no_http_is_nothing_that_a_terminal_obeys(capsys):
    class Evil(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(b"\x1b[2Jevil\x9b1m\r\n\r\n")

    with running(socketserver.TCPServer(("127.0.0.1", 0), Evil)) as server:
        line = complaint(capsys, f"http://127.0.0.1:{server.server_address[1]}")
    assert "evil" in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "http://us3r:s3cret@127.0.0.1:{port}/pool?token=s3cret",
        "http://us3r:s3cret/@127.0.0.1:{port}",
        "https://us3r:s3cret@127.0.0.1:{port}",
    ],
)
def test_an_unreachable_url_is_told_in_one_line_without_the_password(url, capsys):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen
        line = complaint(capsys, url.format(port=deaf.getsockname()[1]))
    assert "127.0.0.1" in line
    assert "s3cret" not in line
    assert "us3r" not in line


@pytest.mark.parametrize("url", ["ftp://us3r:s3cret@host/", "redis://:s3cret@host:6379/0"])
def test_of_other_urls_it_is_said_which_are_understood_and_not_their_password(url, capsys):
    line = complaint(capsys, url)
    assert "host" in line
    assert line.endswith("of unix sockets and URLs with http:// or https:// are understood")
    assert "s3cret" not in line


@pytest.mark.parametrize("words", [[], ["--interval", "0", "x"], ["--once", "--json", "x"]])
def test_words_that_make_no_sense_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["top", *words])
    assert ended.value.code == 2
    assert "usage: aiopool top" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_install_it():
    code = (
        "import sys; sys.modules['rich'] = None; "
        "from aiopool.__main__ import main; sys.exit(main(['top', 'x']))"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'aiopool[top]'" in done.stderr


def test_what_scripts_read_needs_no_extra(path):
    code = (
        "import sys; sys.modules['rich'] = None; from aiopool.__main__ import main; "
        "sys.exit(main(['top', '--json', sys.argv[1]]))"
    )
    with serving(path, BUSY):
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == BUSY


# ---- over HTTP -------------------------------------------------------------------------------


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Authorization"]))
        body = json.dumps(BUSY).encode()
        known = {"/deep/pool/snapshot.json": 200, "/locked/snapshot.json": 401}
        self.send_response(known.get(self.path.partition("?")[0], 404))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def page():
    with running(HTTPServer(("127.0.0.1", 0), Page)) as server:
        server.asked = []
        yield server


@pytest.mark.parametrize("end", ["", "/"])
def test_a_url_is_that_of_the_page(page, end, capsys):
    place = f"127.0.0.1:{page.server_port}/deep/pool{end}"
    assert main(["top", "--once", f"http://me:pa%20ss@{place}?key=s3cret"]) == 0
    text = capsys.readouterr().out
    assert "nightly report" in text
    assert place in text
    assert "s3cret" not in text
    basic = f"Basic {b64encode(b'me:pa ss').decode()}"
    assert page.asked == [("/deep/pool/snapshot.json?key=s3cret", basic)]
    assert main(["top", "--json", f"http://{place}"]) == 0
    assert page.asked[1] == ("/deep/pool/snapshot.json", None)


def test_a_page_that_is_not_there_is_told_by_its_status(page, capsys):
    line = complaint(capsys, f"http://127.0.0.1:{page.server_port}/elsewhere")
    assert line.endswith("/elsewhere: it answers with status 404")


def test_who_wants_a_password_is_told_of_with_how_to_give_one(page, capsys):
    line = complaint(capsys, f"http://us3r:s3cret@127.0.0.1:{page.server_port}/locked")
    assert "/locked: it answers with status 401: " in line
    assert "https://user:password@host" in line
    assert "s3cret" not in line


def test_a_scheme_may_be_written_as_one_likes(page, capsys):
    assert main(["top", "--once", f"HTTP://127.0.0.1:{page.server_port}/deep/pool"]) == 0
    assert "nightly report" in capsys.readouterr().out


# ---- in a terminal ---------------------------------------------------------------------------


class Terminal:
    """The command in a terminal of its own, and what it has written there."""

    def __init__(self, *words, columns=80, lines=30):
        self.master, slave = pty.openpty()
        self.resize(columns, lines)
        environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(  # noqa: S603 - our own code
            [sys.executable, "-W", "error", "-m", "aiopool", "top", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(slave)
        self.written = ""

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_until(self, pattern, within=20.0):
        """Read on until there is what is waited for; gives what was read."""
        read, deadline = "", time.monotonic() + within
        while not re.search(pattern, re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", read)):
            if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
                pytest.fail(f"no {pattern!r} within {within:g} s, but {read[-2000:]!r}")
            read += os.read(self.master, 65536).decode(errors="replace")
        self.written += read
        return read

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_in_a_terminal_it_follows_says_who_has_gone_and_sees_them_come_back(path):
    calm = snapshot(pool("here", size=1, idle=1), at=1.0)
    with serving(path, calm) as server:
        terminal = Terminal("--interval", "0.1", str(path))
        try:
            first = terminal.read_until("here RedisPool")
            assert "\x1b[?1049h" in first  # on a screen of its own
            terminal.read_until("waiting +0 ")
            server.told = snapshot(pool("here", waiting=33, acquired=50), at=2.0)
            terminal.read_until("waiting +33 (.|\n)*acquires/s +50 ")
            server.shutdown()
            server.server_close()
            path.unlink()
            gone = terminal.read_until("since [0-9:]+ no answer from")
            assert "here" in terminal.read_until("─ here RedisPool")
            with serving(path, snapshot(pool("back again"), pid=77)):
                terminal.read_until("process 77 (.|\n)*back again")
                terminal.process.send_signal(signal.SIGINT)
                last = terminal.read_until("interrupted")
                assert terminal.process.wait(20) == 130
            path.touch()
        finally:
            terminal.close()
    assert "Traceback" not in terminal.written
    assert gone
    assert "\x1b[?1049l" in last  # and back on the user's


def test_in_a_terminal_the_others_go_on_when_one_is_gone_and_it_comes_back(path):
    other = path.with_name("other")
    with ExitStack() as stack:
        server = stack.enter_context(serving(path, snapshot(pool("here"), pid=111, at=1.0)))
        gone = stack.enter_context(ExitStack())
        gone.enter_context(serving(other, snapshot(pool("there"), pid=222, at=1.0)))
        terminal = Terminal("--interval", "0.1", str(path), str(other), lines=60)
        stack.callback(terminal.close)
        both = "2 of 2 processes answer(.|\n)*─ here RedisPool(.|\n)*─ {} RedisPool"
        terminal.read_until(both.format("there"))
        gone.close()
        terminal.read_until("1 of 2 processes answer(.|\n)*since [0-9:]+ no answer from")
        server.told = snapshot(pool("here", waiting=33), pid=111, at=2.0)
        alone = terminal.read_until("waiting +33 (.|\n)*╯")
        assert "there" not in alone.partition("waiting")[2]
        stack.enter_context(serving(other, snapshot(pool("back again"), pid=333)))
        terminal.read_until(both.format("back again"))
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("interrupted")
        assert terminal.process.wait(20) == 130
    assert "Traceback" not in terminal.written
