"""The process that serves: the example service, made with a contender, on a socket that it has inherited."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from benchmarks.run import CannotRun

from .contenders import BY_NAME, Contender

_ROOT = Path(__file__).parents[2]
_STOPS_WITHIN, _FAILS_WITHIN = 20.0, 1.0  # seconds


class Server:
    """The process as its user sees it."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: tuple[str, int]) -> None:
        self._process = process
        self.address = address

    def stop(self) -> None:
        """Have it stop, and don't wait."""
        self._process.terminate()

    def busy(self) -> float:
        """Give the seconds for which it has used a core so far; 0 where the system does not tell."""
        try:
            words = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return 0.0
        user, system = words.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(contender: Contender, redis_url: str, timeout: float) -> Generator[Server]:
    """Run one for the length of a block. Who connects before it is ready waits for it.

    Args:
        contender: What it sends its commands through.
        redis_url: Where to.
        timeout: Seconds that a command may wait for a connection.

    Raises:
        CannotRun: It ended by itself, or in another way than it should.

    """
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener, TemporaryFile() as log:
        order = json.dumps([contender.name, redis_url, timeout, listener.fileno()])
        path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, "-m", f"{__package__}.server", order],
            pass_fds=[listener.fileno()],
            stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        )
        address = listener.getsockname()
        listener.close()  # it has its own by now, so connections are refused when it is gone
        server = Server(process, address)
        failure: OSError | None = None
        try:
            yield server
            server.stop()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOPS_WITHIN)
        except OSError as error:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_FAILS_WITHIN)
            if process.poll() is None:
                raise  # it is not this one that can't be reached
            failure = error
        finally:
            process.kill()
            process.wait()
            log.seek(0)
            said = log.read().decode(errors="replace")
        if process.returncode not in {0, -signal.SIGTERM}:  # the second is uvicorn's way
            msg = f"the service with {contender.name} ended with {process.returncode}: {said}"
            raise CannotRun(msg) from failure


def _serve(name: str, redis_url: str, timeout: float, number: int) -> None:
    import uvicorn  # noqa: PLC0415 - so that what only starts this process need not have them
    from starlette.responses import JSONResponse  # noqa: PLC0415 - likewise

    sys.path.insert(0, str(_ROOT / "docs" / "examples"))
    create_app: Any = import_module("fastapi_service").create_app
    pool, redis = BY_NAME[name].make(redis_url, timeout)
    # One client asks for everything, so its limit has to be one that it never comes to.
    app = create_app(pool, redis, allowed=10**9, workers=0)

    async def busy(_request: object, _error: object) -> JSONResponse:
        return JSONResponse({"detail": "no connection"}, 503, {"Retry-After": "1"})

    # Of redis-py's pools; those of aiopool have a handler in the service.
    app.add_exception_handler(RedisConnectionError, busy)
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_keep_alive=60)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=number)])


if __name__ == "__main__":
    _serve(*json.loads(sys.argv[1]))
