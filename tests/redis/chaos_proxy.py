"""A proxy in front of a Redis server that plays the tricks of a bad network, each by seed.

It is a process of its own, so that it goes on while the event loop of a test is busy, and takes none
of its time. It knows where requests and replies end, and the tokens of `chaos.py` in them.
"""

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple, Self

# The tokens of the requests: <lending.number>, and <lending.number!> if no more follow in a lending.
TOKEN = re.compile(rb"<(\d+)\.\d+!?>")
LAST = b"!>"

AT_ACCEPT = ["refuse", "half-open", "deaf"]
OF_BOTH = ["delay", "split", "cut", "reset", "stall", "drop", "hush"]
OF_REPLIES = [*OF_BOTH, "twice", "push"]
KINDS = {
    *AT_ACCEPT,
    *(f"{trick} request" for trick in OF_BOTH),
    *(f"{trick} reply" for trick in OF_REPLIES),
}

TROUBLED = 0.08  # of the connections have trouble as soon as they are made
MEAN_GAPS = [15, 80, 200]  # requests or replies between two tricks
PAUSE = 0.002  # of what is only slow; the other end does not notice
DEAFNESS = 0.03
PUSHES = [
    b">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\nkey\r\n",
    b">2\r\n$10\r\ninvalidate\r\n_\r\n",
    b">3\r\n$7\r\nmessage\r\n$5\r\nchaos\r\n$5\r\n<0.0>\r\n",
]


# ---- this side -----------------------------------------------------------------------------------


class Shift(NamedTuple):
    """A reply that the client can't but take for that to another request.

    It was given on a connection on which a request or a reply was swallowed, or a reply repeated, before.
    """

    before: bytes  # the request that was asked before on the same connection
    request: bytes  # empty if it never came here
    reply: bytes
    given: float  # when, on the clock of `time.monotonic()`


class ChaosProxy:
    """The proxy as a test sees it."""

    def __init__(self, path: str, seed: object, patience: float, *, rarity: int = 1) -> None:
        """Start it in front of the server at this unix socket.

        What stalls does so for up to twice the clients' `patience`, so that some replies come too late.
        Tricks are so many times as rare as usual.
        """
        words = [sys.executable, __file__, path, str(seed), str(patience), str(rarity)]
        self._process = subprocess.Popen(  # noqa: S603 - this very file
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._read())
        self.faults: Counter[str] = Counter()  # how many of each kind; known once it is calm
        self.tampered: set[int] = set()  # the lendings where it has swallowed something; likewise
        self.shifts: list[Shift] = []  # likewise
        self.connects = 0  # likewise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def calm(self) -> None:
        """Be an honest proxy from now on, but for what goes before: some connections are closed.

        They are those in trouble, and some more, of which the clients' event loop can't know yet.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("calm\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._read())
        self.faults = Counter(told["faults"])
        self.tampered = set(told["tampered"])
        self.shifts = [
            Shift(*(word.encode("latin-1") for word in words), given)
            for *words, given in told["shifts"]
        ]
        self.connects = told["connects"]

    def destroy(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()


# ---- the other side ------------------------------------------------------------------------------


def end_of_frame(data: bytes, start: int) -> int:
    """Find the end of the RESP value that begins there; ValueError if that is certain to be missing."""
    line = data.index(b"\r\n", start)
    kind, end = data[start : start + 1], line + 2
    if kind in b"$=!":
        size = int(data[start + 1 : line])
        end += size + 2 if size >= 0 else 0  # of what is none in RESP2
    elif kind in b"*~>%|":
        for _ in range(int(data[start + 1 : line]) * (1 + (kind in b"%|")) + (kind == b"|")):
            end = end_of_frame(data, end)
    return end


def frames(data: bytes) -> Iterator[int]:
    """Give the ends of the complete values."""
    end = 0
    while end < len(data):
        try:
            end = end_of_frame(data, end)
        except ValueError:
            return
        if end > len(data):
            return
        yield end


# What is to be done next: write bytes, wait for seconds, or call.
Step = bytes | float | Callable[[], None]


class Pipe(asyncio.Protocol):
    """One end of a link: takes what comes from there and passes it on to its twin's, by and by."""

    twin: "Pipe"

    def __init__(self, link: "Link", name: str, tricks: list[str]) -> None:
        self.transport: asyncio.Transport | None = None
        self.waits = True  # for the twin's connection, or for time to pass
        self.script: deque[Step] = deque()
        self._link = link
        self._name = name
        self._tricks = tricks
        self._random = Random(f"{link.seed}/{name}")
        self._gap = self._random.choice(MEAN_GAPS) * link.proxy.rarity
        self._rest = b""
        self._draw()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._link.ended:
            transport.abort()
        self.twin.waits = False
        self.twin.play()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._link.end()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        self._link.saw(self, data)
        start = 0
        whole: list[bytes] = []  # what is passed on as it is
        for end in frames(data):
            frame = data[start:end]
            self.came(frame)
            self._due -= 1
            if self._due <= 0 and (steps := self._misfortune(frame)) is not None:
                self.script += [*self._whole(*whole), *steps]
                whole = []
            else:
                whole.append(frame)
            start = end
        self.script += self._whole(*whole)
        self._rest = data[start:]
        self.play()

    def came(self, frame: bytes) -> None:
        """Note what came, whatever becomes of it."""

    def passed(self, replies: list[bytes]) -> None:
        """Note what was passed on."""
        target = self.twin.transport
        if target is not None and not target.is_closing():
            self._link.gave(replies)

    def play(self) -> None:
        """Do the steps until one of them takes time."""
        while self.script and not (self.waits or self._link.hushed or self._link.ended):
            step = self.script.popleft()
            if isinstance(step, bytes):
                target = self.twin.transport
                assert target is not None
                if not target.is_closing():
                    target.write(step)
            elif isinstance(step, float):
                self.waits = True
                asyncio.get_running_loop().call_later(step, self._go_on)
            else:
                step()

    def _go_on(self) -> None:
        self.waits = False
        self.play()

    # ---- fate --------------------------------------------------------------------------------

    def tires(self) -> bool:
        """Whether this connection does not outlive the chaos."""
        return self._random.random() < 0.5

    def _draw(self) -> None:
        self._due = 1 + int(self._random.expovariate(1 / self._gap))
        self._trick = self._random.choice(self._tricks)

    def _misfortune(self, frame: bytes) -> list[Step] | None:
        """Say what becomes of this frame; None if what is due is not possible here."""
        link, trick = self._link, self._trick
        if link.proxy.is_calm:
            return None
        if trick == "push" and not link.talks_resp3:
            self._draw()
            return None
        # A push message is none before the handshake is over. And what is said twice is the fault of
        # a pool only if another lending hears it: the second time in the same packet, so that it can
        # be seen, and at the end of a lending, for else it would be answers that are too many in it.
        if (trick == "push" and not link.asked) or (trick == "twice" and LAST not in frame):
            return None
        steps = getattr(self, f"_{trick}")(frame)
        link.proxy.faults[f"{trick} {self._name}"] += 1
        self._draw()
        if trick == "drop":
            link.tamper()
        link.shifted |= trick in {"drop", "twice"}
        return steps

    def _whole(self, *frames: bytes) -> list[Step]:
        return [b"".join(frames), partial(self.passed, [*frames])]

    def _begun(self, frame: bytes) -> tuple[list[Step], bytes]:
        """Give a part of it, perhaps all, and the rest."""
        end = self._random.randint(0, len(frame))
        return [frame[:end]] if end < len(frame) else self._whole(frame), frame[end:]

    def _delay(self, frame: bytes) -> list[Step]:
        return [self._random.uniform(0, PAUSE), *self._whole(frame)]

    def _split(self, frame: bytes) -> list[Step]:
        size, random = len(frame), self._random
        parts = size if random.random() < 0.5 and size < 50 else random.randint(2, 5)
        ends = sorted(random.choices(range(size + 1), k=parts - 1)) if parts < size else range(size)
        steps: list[Step] = []
        for start, end in pairwise([0, *ends, size]):
            steps += [frame[start:end], random.choice([0.0, 0.0, PAUSE / 2])]
            if end == size:
                steps.insert(-1, partial(self.passed, [frame] if start < end else []))
        return steps

    def _cut(self, frame: bytes) -> list[Step]:
        return [*self._begun(frame)[0], self._link.end_politely]

    def _reset(self, frame: bytes) -> list[Step]:
        return [*self._begun(frame)[0], self._link.reset]

    def _stall(self, frame: bytes) -> list[Step]:
        pause = self._random.uniform(0.2, 2) * self._link.proxy.patience
        begun, rest = self._begun(frame)
        return [*begun, pause, rest, partial(self.passed, [frame] if rest else [])]

    def _drop(self, _: bytes) -> list[Step]:
        return []

    def _hush(self, _: bytes) -> list[Step]:
        return [self._link.hush]

    def _twice(self, frame: bytes) -> list[Step]:
        return self._whole(frame, frame)

    def _push(self, frame: bytes) -> list[Step]:
        push = self._random.choice(PUSHES) * self._random.choice([1, 1, 3])
        end = self._random.randint(0, len(push))
        return self._random.choice(
            [
                self._whole(push, frame),
                self._whole(frame, push),
                [*self._whole(frame), PAUSE, push],
                [*self._whole(frame), PAUSE, push[:end], PAUSE, push[end:]],
            ]
        )


class Link:
    """A connection of a client, and that to the server behind it."""

    def __init__(self, proxy: "Proxy") -> None:
        proxy.connects += 1
        self.proxy = proxy
        self.seed = f"{proxy.seed}/{proxy.connects}"
        self.requests = Requests(self, "request", OF_BOTH)
        self.replies = Pipe(self, "reply", OF_REPLIES)
        self.requests.twin, self.replies.twin = self.replies, self.requests
        self.talks_resp3 = False
        self.asked = b""  # the last of the requests that had tokens
        self.before = b""  # the last request that the client has got a reply to
        self.unanswered: deque[bytes] = deque()  # the requests after it
        self.given: deque[tuple[bytes, float]] = deque()  # replies that are too many, and when
        self.ended = self.hushed = self.tampered = self.is_next_tampered = self.shifted = False
        proxy.links.add(self)

    def saw(self, pipe: Pipe, data: bytes) -> None:
        if pipe is self.requests:
            self.talks_resp3 |= b"HELLO\r\n$1\r\n3" in data
            if TOKEN.search(data) is not None:
                self.asked = data
                if self.is_next_tampered:
                    self.tamper()
                    self.is_next_tampered = False

    def asks(self, request: bytes) -> None:
        self.unanswered.append(request)
        self._match()

    def gave(self, replies: list[bytes]) -> None:
        now = time.monotonic()
        self.given += [(reply, now) for reply in replies if not reply.startswith(b">")]
        self._match()

    def _match(self) -> None:
        """Note which request the client takes each reply for the answer to: the oldest."""
        while self.unanswered and self.given:
            request = self.unanswered.popleft()
            shift = Shift(self.before, request, *self.given.popleft())
            if self.shifted:
                self.proxy.shifts.append(shift)
            self.before = request

    def report_surplus(self) -> None:
        """Tell of replies that are too many: the client may have asked what does not come here any more."""
        self.proxy.shifts += [Shift(self.before, b"", *reply) for reply in self.given]
        self.given.clear()

    def tamper(self) -> None:
        """Note the lending in which replies are shifted from now on.

        If what was swallowed has no token, it may also be that of the next request that has one.
        """
        self.tampered = self.is_next_tampered = True
        self.proxy.tampered |= {int(lending) for lending in TOKEN.findall(self.asked)}

    def begin(self, trouble: str | None) -> None:
        """Connect to the server, if nothing stands against it."""
        if trouble is None:
            self.proxy.spawn(self._connect())
            return
        self.proxy.faults[trouble] += 1
        if trouble == "half-open":
            self.hushed = True
        else:
            self.reset()
            if trouble == "deaf":
                self.proxy.be_deaf()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_unix_connection(
                lambda: self.replies, self.proxy.behind
            )
        except OSError:
            self.reset()

    @property
    def in_trouble(self) -> bool:
        return self.hushed or self.tampered or any((self.requests.script, self.replies.script))

    def hush(self) -> None:
        """Say nothing any more, to neither side."""
        self.hushed = True

    def reset(self) -> None:
        for pipe in (self.requests, self.replies):
            if pipe.transport is not None:
                sock: socket.socket = pipe.transport.get_extra_info("socket")
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end_politely(self) -> None:
        """Close when all is written that has been passed on so far."""
        for pipe in (self.requests, self.replies):
            if pipe.transport is not None:
                pipe.transport.close()

    def end(self) -> None:
        self.ended = True
        self.proxy.links.discard(self)
        self.report_surplus()
        for pipe in (self.requests, self.replies):
            if pipe.transport is not None:
                pipe.transport.abort()


class Requests(Pipe):
    """The client's end, which is there before the server's."""

    def came(self, frame: bytes) -> None:
        self._link.asks(frame)

    def passed(self, replies: list[bytes]) -> None:
        pass

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        troubled = self._random.random() < TROUBLED and not self._link.proxy.is_calm
        self._link.begin(self._random.choice(AT_ACCEPT) if troubled else None)


class Proxy:
    """Listens, and knows all links."""

    def __init__(self, behind: str, seed: str, patience: float, rarity: int) -> None:
        self.behind = behind
        self.seed = seed
        self.patience = patience
        self.rarity = rarity
        self.faults: Counter[str] = Counter()
        self.tampered: set[int] = set()
        self.shifts: list[Shift] = []
        self.links: set[Link] = set()
        self.connects = 0
        self.is_calm = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._listens = False
        # Keeps the port while nobody listens.
        self._keeper = self._bound(0)
        self.port = self._keeper.getsockname()[1]

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        return sock

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Link(self).requests, sock=self._bound(self.port)
            )

    def be_deaf(self) -> None:
        if self._listens and self._server is not None:
            self._server.close()
            self._listens = False
            asyncio.get_running_loop().call_later(DEAFNESS, lambda: self.spawn(self.listen()))

    async def calm(self) -> None:
        self.is_calm = True
        await self.listen()
        for link in list(self.links):
            if link.in_trouble or link.replies.tires():
                link.reset()
            else:
                link.report_surplus()
        await asyncio.sleep(0.01)  # then they are closed

    async def serve(self) -> None:
        """Do what is asked on the standard input, until its end."""
        await self.listen()
        print(self.port, flush=True)  # noqa: T201 - to the test
        orders: asyncio.Queue[bytes] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(0, lambda: orders.put_nowait(os.read(0, 1000)))
        while await orders.get():
            await self.calm()
            told = {
                "faults": self.faults,
                "tampered": list(self.tampered),
                "shifts": [
                    (*(word.decode("latin-1") for word in words), given)
                    for *words, given in self.shifts
                ],
                "connects": self.connects,
            }
            print(json.dumps(told), flush=True)  # noqa: T201 - to the test


if __name__ == "__main__":
    asyncio.run(Proxy(*sys.argv[1:3], float(sys.argv[3]), int(sys.argv[4])).serve())
