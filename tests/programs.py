"""Programs of others that some tests need: `@pytest.mark.needs("blender")`.

Such a test runs where its program is. Where it is not, the summary counts it and names what to install; and where
TEXT23D_REQUIRE names the program, as .ci/run does, the test fails.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

INSTALL = {
    "blender": "apt-get install --no-install-recommends blender python3-numpy",
    "gltf-validator": "apt-get install nodejs npm; npm install -g gltf-validator",
    "chromium": "apt-get install --no-install-recommends chromium chromium-driver",
    "axe-core": "apt-get install nodejs npm; npm install -g axe-core",
    "c++": "apt-get install g++, then pip install -e . again",
    "postgres": "apt-get install --no-install-recommends postgresql, then pip install -e '.[postgresql]'",
    "nvcc": "the CUDA toolkit, then pip install -e . again",
    "ray": "pip install -e '.[ray]'",
}
MODULES = "gltf-validator", "axe-core"
"""Those that are modules of node's."""
NEEDS = "needs "  # how the reason of a skipped test begins


@cache
def found(name: str) -> str | None:
    """The path of a program; of one of MODULES, the folder of node's modules that it lies in; of ray, which counts if
    Hydra's launcher for it is there, the folder of Hydra's plugins."""
    if name == "ray":
        spec = importlib.util.find_spec("ray") and importlib.util.find_spec("hydra_plugins")
        places = list(spec.submodule_search_locations or ()) if spec else []
        return next((each for each in places if os.path.isdir(os.path.join(each, "hydra_ray_launcher"))), None)
    if name == "postgres":
        return _postgres()
    if name in MODULES:
        if found("node") is None or (npm := found("npm")) is None:
            return None
        folder = subprocess.run([npm, "root", "-g"], capture_output=True, text=True).stdout.strip()
        return folder if os.path.isdir(os.path.join(folder, name)) else None
    names = ("c++", "g++", "clang++") if name == "c++" else (name,)
    return next(filter(None, map(shutil.which, names)), None)


def _postgres() -> str | None:
    """Which counts if Python can reach it; Debian's, the newest of them, lies beside the PATH."""
    if importlib.util.find_spec("psycopg") is None:
        return None
    own = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return shutil.which("postgres") or next((str(path) for path in reversed(own)), None)


def required() -> list[str]:
    """The programs that have to be here."""
    return os.environ.get("TEXT23D_REQUIRE", "").replace(",", " ").split()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(program): a program of others; see tests/programs.py")
    unknown = set(required()) - INSTALL.keys()
    if unknown:
        raise pytest.UsageError(f"TEXT23D_REQUIRE names {', '.join(unknown)}: known are {', '.join(INSTALL)}")


@pytest.hookimpl(tryfirst=True)  # before any fixture of the test is made
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        (name,) = mark.args
        if found(name) is None:
            if name in required():
                pytest.fail(f"{name} is not here, but TEXT23D_REQUIRE names it: {INSTALL[name]}", pytrace=False)
            pytest.skip(f"{NEEDS}{name}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for name in INSTALL:
        if not (count := sum(f"Skipped: {NEEDS}{name}'" in reason for reason in skipped)):
            continue
        tests = "1 test that needs" if count == 1 else f"{count} tests that need"
        terminalreporter.write_line(f"not run here: {tests} {name} ({INSTALL[name]})")
