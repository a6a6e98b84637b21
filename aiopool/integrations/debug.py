"""Look into pools from outside: over a unix socket (for `aiopool top`), or on a page of one's own service.

Neither is there unless it is asked for, and neither tells more than `snapshot()` does. Serve pools on the
event loop that they are used on.
"""

import asyncio
import errno
import json
import os
import socket
import stat
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import fields
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

from redis.asyncio import Redis

from aiopool import Holder, RedisCluster, Stats, View, Waiting
from aiopool.redis._view import RedisView

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response


@runtime_checkable
class _Pool(Protocol):
    """Whatever tells of itself as a `Pool` does."""

    @property
    def name(self) -> str | None: ...
    @property
    def last_error(self) -> str | None: ...
    def stats(self) -> Stats: ...
    def holders(self) -> list[Holder]: ...
    def waiters(self) -> list[Waiting]: ...


Source: TypeAlias = _Pool | Redis | RedisCluster
_GIVE = "give pools and views of this library, a RedisCluster of it, or clients of such a pool"

MOST = 50
"""So many holders and so many callers in line are told of each pool, the longest there first."""
_LONGEST_NAME = 200
_AT_A_TIME = 16
"""So many bytes are read of who asks, and thus at most so many lines are answered."""

# ---- what is told ------------------------------------------------------------------------------------


def snapshot(*pools: Source) -> dict[str, Any]:
    """Picture pools as they are now, in what JSON knows. All durations are seconds.

    It has nothing of the options of a connection: no password, no user name, no URL. Names of tasks and
    places in the code are told as they are.

    Args:
        pools: A `RedisCluster` stands for the pools of its nodes, another client for its pool.

    """
    return {
        "pid": os.getpid(),
        "time": time.time(),
        "pools": [_picture(pool) for pool in _flat(pools)],
    }


def _check(pools: Sequence[object]) -> None:
    """Refuse now what can't be told later, and to tell of nothing."""
    if not pools:
        msg = f"no pool is given; {_GIVE}"
        raise TypeError(msg)
    for _ in _flat(pools):
        pass


def _flat(pools: Sequence[object]) -> Iterator[_Pool]:
    for pool in pools:
        if isinstance(pool, RedisCluster):
            yield from _flat([*cast("Any", pool.nodes_manager).pools()])
            continue
        lending: object = getattr(pool, "connection_pool", pool)  # a client's
        if not isinstance(lending, _Pool):
            msg = f"not a pool: a {type(pool).__name__}; {_GIVE}"
            raise TypeError(msg)
        yield lending


def _picture(pool: _Pool) -> dict[str, Any]:
    stats, holders, waiters = pool.stats(), pool.holders(), pool.waiters()
    return {
        "name": pool.name,
        "kind": "view" if isinstance(pool, View | RedisView) else type(pool).__name__,
        "stats": {each.name: getattr(stats, each.name) for each in fields(Stats)},
        "holders": [
            {
                "task": _short(holder.task),
                "ended": holder.ended,
                "age": holder.age,
                "where": holder.where,
            }
            for holder in holders[:MOST]
        ],
        "more_holders": max(0, len(holders) - MOST),
        "waiters": [{"task": _short(waiter.task), "age": waiter.age} for waiter in waiters[:MOST]],
        "more_waiters": max(0, len(waiters) - MOST),
        "last_error": pool.last_error,
    }


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _as_json(pools: Sequence[Source]) -> bytes:
    return json.dumps(snapshot(*pools)).encode()  # in ASCII: a task's name may be no valid text


# ---- the unix socket ---------------------------------------------------------------------------------


def serve(*pools: Source, path: str | os.PathLike[str]) -> AbstractAsyncContextManager[None]:
    """Answer on a unix socket for the length of an `async with` block, to this user's processes only.

    ::

        async with pool, serve(pool, path="/run/my-service/pool.sock"):
            ...

    Each line that is sent is answered with a `snapshot()`, as a line of JSON.

    Args:
        pools: As for `snapshot()`.
        path: Where the socket is to be. One that a dead process has left there is replaced, and the
            folder must be there.

    Raises:
        TypeError: Not a pool, or none; at the call.
        OSError: Somebody else answers there already, what is there is no socket, or none can be made;
            when the block is entered.

    """
    _check(pools)
    return _serving(pools, Path(path))


@asynccontextmanager
async def _serving(pools: Sequence[Source], path: Path) -> AsyncGenerator[None]:
    asking: set[_Asking] = set()
    over = asyncio.Event()
    with _listener(path) as sock:
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Asking(pools, asking, over), sock=sock
        )
        try:
            yield
        finally:
            server.close()
            over.set()
            for each in [*asking]:
                each.transport.abort()
            await server.wait_closed()


class _Asking(asyncio.BufferedProtocol):
    """Somebody who asks. There is no task for it.

    What it has asked is left in its socket, but for a few bytes: so a flood of lines costs a snapshot in
    a turn of the event loop, and who does not read its answers can't have more than a few written.
    """

    transport: asyncio.Transport

    def __init__(
        self, pools: Sequence[Source], asking: "set[_Asking]", over: asyncio.Event
    ) -> None:
        self._pools = pools
        self._asking = asking
        self._over = over
        self._read = bytearray(_AT_A_TIME)
        self._amid = False  # of a line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=0)
        self._asking.add(self)
        if self._over.is_set():  # it was let in before, but is made only now
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        self._asking.discard(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - however much there is
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        self._answer(self._read.count(b"\n", 0, nbytes))
        self._amid = not self._read.endswith(b"\n", 0, nbytes)

    def eof_received(self) -> None:
        """Answer the last line, if it has no end of its own."""
        self._answer(int(self._amid))

    def _answer(self, lines: int) -> None:
        if lines:
            self.transport.write((_as_json(self._pools) + b"\n") * lines)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._hear)

    def _hear(self) -> None:
        # Who does not read is not heard either, until `resume_writing()`.
        if not (self.transport.is_closing() or self.transport.get_write_buffer_size()):
            self.transport.resume_reading()

    def resume_writing(self) -> None:
        self._hear()


@contextmanager
def _listener(path: Path) -> Generator[socket.socket]:
    """Bind a socket that only this user may connect to, and remove it in the end."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(0.0)
        try:
            _bind(sock, path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _remove_stale(path)
            _bind(sock, path)
        # Nobody can connect before it listens.
        path.chmod(0o600)
        ours = path.stat().st_ino
        try:
            yield sock
        finally:
            with suppress(FileNotFoundError):
                if path.stat().st_ino == ours:  # else it is somebody else's by now
                    path.unlink()


def _bind(sock: socket.socket, path: Path) -> None:
    """Bind it there. If that fails, it is said where, which Python does not."""
    try:
        sock.bind(str(path))
    except OSError as error:
        # Too long a path has no number, as Python does not ask the system.
        number = error.errno or errno.ENAMETOOLONG
        raise OSError(number, error.strerror or str(error), str(path)) from None


def _remove_stale(path: Path) -> None:
    """Remove the socket of a process that is gone."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise OSError(errno.EEXIST, "There is something else than a socket", str(path))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(0.0)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except BlockingIOError:  # many ask there already
            raise _taken(path) from None
        else:
            raise _taken(path)


def _taken(path: Path) -> OSError:
    return OSError(
        errno.EADDRINUSE, "Another process, or this one, serves there already", str(path)
    )


# ---- the page ----------------------------------------------------------------------------------------


def app(*pools: Source) -> "Starlette":
    """Make an ASGI app with a live page of pools, to mount in a Starlette or FastAPI app.

    ::

        service.mount("/debug/pool", debug.app(pool))

    It has no locks of its own: whoever reaches the path sees what `snapshot()` tells, which is for
    operators. So mount it where only they come, or behind your authentication.

    Args:
        pools: As for `snapshot()`.

    Raises:
        TypeError: Not a pool, or none.
        ModuleNotFoundError: Starlette is not there: `pip install 'aiopool[web]'`.

    """
    try:
        from starlette.applications import Starlette  # noqa: PLC0415 - the socket does without it
        from starlette.responses import Response  # noqa: PLC0415 - likewise
        from starlette.routing import Route  # noqa: PLC0415 - likewise
    except ModuleNotFoundError as error:
        msg = f"{error.msg}; it comes with pip install 'aiopool[web]'"
        raise ModuleNotFoundError(msg, name=error.name, path=error.path) from None

    _check(pools)
    page = files("aiopool.integrations").joinpath("debug.html").read_text("utf-8")
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _policy(page),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    async def show(_request: "Request") -> "Response":
        return Response(page, media_type="text/html", headers=headers)

    async def tell(_request: "Request") -> "Response":
        return Response(_as_json(pools), media_type="application/json", headers=headers)

    return Starlette(routes=[Route("/", show), Route("/snapshot.json", tell)])


def _policy(page: str) -> str:
    """Allow what stands in the page and its own service's snapshot, nothing else: no other script either."""
    rules = ["default-src 'none'", "connect-src 'self'", "img-src data:"]
    rules += ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'self'"]
    for element in ("style", "script"):
        text = page.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
        digest = b64encode(sha256(text.encode()).digest()).decode()
        rules.append(f"{element}-src 'sha256-{digest}'")
    return "; ".join(rules)
