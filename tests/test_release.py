"""What would be published: the two files, and what is in an environment that has them and nothing else.

Installs packages, so it runs only when it is asked for: `pytest -m release`.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from servers import Server, free_port

pytestmark = pytest.mark.release

ROOT = Path(__file__).parent.parent

# What each public module needs, by the name of the extra.
EXTRAS = {
    "aiopool": None,
    "aiopool.integrations.aiohttp": "aiohttp",
    "aiopool.integrations.debug": None,
    "aiopool.integrations.otel": "otel",
    "aiopool.integrations.prometheus": "prometheus",
    "aiopool.integrations.pytest": "pytest",
    "aiopool.integrations.starlette": "web",
}


def call(*words, folder):
    """Run a command that may not fail, nor complain; gives what it says."""
    done = subprocess.run(  # noqa: S603 - its own words
        [*map(str, words)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def sources(*folders):
    """Name all files there but those that git ignores."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return set(call(*listing, *folders, folder=ROOT).splitlines())


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {each.filename: archive.read(each) for each in archive.infolist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The source distribution's folder."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built[0]) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


@pytest.fixture(scope="module")
def install(built, tmp_path_factory):
    """Install the wheel with an extra into an environment of its own; gives that's programs."""
    made = {}

    def install(extra):
        if extra not in made:
            folder = tmp_path_factory.mktemp(extra or "bare")
            call(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
            programs = folder / ("Scripts" if sys.platform == "win32" else "bin")
            what = f"{built[1]}[{extra}]" if extra else built[1]
            pip = [sys.executable, "-m", "pip", "--python", programs / "python"]
            call(*pip, "install", "--quiet", "--no-compile", what, folder=folder)
            made[extra] = programs
        return made[extra]

    return install


def test_the_wheel_has_the_package_and_nothing_else(built):
    files = contents(built[1])
    (about,) = {name.partition("/")[0] for name in files} - {"aiopool"}
    assert about.endswith(".dist-info")
    assert {name for name in files if name.startswith("aiopool/")} == sources("aiopool")
    assert {"aiopool/py.typed", "aiopool/integrations/debug.html"} <= files.keys()
    assert files[f"{about}/entry_points.txt"].decode().split("\n\n") == [
        "[console_scripts]\naiopool = aiopool.__main__:main",
        "[pytest11]\naiopool = aiopool.integrations.pytest\n",
    ]


def test_the_wheel_says_what_it_is(built):
    files = contents(built[1])
    (told,) = (files[name] for name in files if name.endswith("/METADATA"))
    metadata = message_from_bytes(told)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11.3"
    bare = [each for each in metadata.get_all("Requires-Dist") if "extra ==" not in each]
    assert bare == ["redis<9,>=8.1"]
    wanted = {EXTRAS[module] for module in modules()} - {None}
    assert wanted <= set(metadata.get_all("Provides-Extra"))


def test_an_index_would_take_them(built):
    call(sys.executable, "-m", "twine", "check", "--strict", *built, folder=ROOT)


def test_the_source_distribution_has_all_that_it_takes_to_test_and_to_build(built, unpacked):
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    expected = sources("aiopool", "benchmarks", "docs", "tests", "README.md", "pyproject.toml")
    assert files == expected | {".gitignore", "PKG-INFO"}
    # Rivals may be here that bring trio, of which hypothesis' plugin warns as soon as it is imported.
    words = ["pytest", "-q", "-p", "no:hypothesispytest", "tests/test_line.py"]
    call(sys.executable, "-m", *words, folder=unpacked)
    folder = unpacked.parent / "again"
    call(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, folder=folder.parent)
    (again,) = folder.glob("*.whl")
    assert contents(again) == contents(built[1])


def modules():
    """The modules of the package that have public names."""
    files = (ROOT / "aiopool" / "integrations").glob("[!_]*.py")
    return ["aiopool", *sorted(f"aiopool.integrations.{file.stem}" for file in files)]


@pytest.mark.parametrize("module", modules())
def test_each_module_needs_no_more_than_redis_and_its_extra(install, module, tmp_path):
    programs = install(EXTRAS[module])
    code = f"import {module} as module; [getattr(module, name) for name in dir(module)]"
    call(programs / "python", "-W", "error", "-c", code, folder=tmp_path)


def test_the_command_says_what_it_can_do_and_what_it_lacks(install, tmp_path):
    programs = install(None)
    assert "demo" in call(programs / "aiopool", "--help", folder=tmp_path)
    done = subprocess.run(  # noqa: S603 - its own words
        [programs / "aiopool", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'aiopool[demo]'" in done.stderr


def test_the_tutorial_can_be_followed_with_the_wheel_from_an_empty_folder(built, tmp_path):
    server, port = Server(), free_port()
    text = (ROOT / "docs" / "tutorial.md").read_text()
    for written, there in {
        "../aiopool[": f"{built[1]}[",
        "localhost:6379": f"127.0.0.1:{server.port}",
        "localhost:8000": f"127.0.0.1:{port}",
        "--port 8000": f"--port {port}",
    }.items():
        assert written in text
        text = text.replace(written, there)
    (tmp_path / "tutorial.md").write_text(text)
    (tmp_path / "counter").mkdir()
    follow = ROOT / "tests" / "pages" / "follow.py"
    words = [sys.executable, follow, tmp_path / "tutorial.md", f"127.0.0.1:{port}"]
    try:
        said = call(*words, folder=tmp_path / "counter")
        assert not server.clients()
    finally:
        server.destroy()
    assert "\n     25 503 1\n" in said


def test_the_types_of_all_that_is_public_are_complete(install, tmp_path):
    programs = install(",".join(sorted({EXTRAS[module] for module in modules()} - {None})))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--verifytypes", "aiopool", "--ignoreexternal"],
        cwd=tmp_path,
        env={"PATH": f"{programs}:{Path(sys.executable).parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Type completeness score: 100%" in done.stdout, done.stdout
