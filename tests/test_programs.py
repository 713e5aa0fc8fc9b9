"""Tests that need a program of others: run, counted or failed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest

TESTS = """
import pytest

@pytest.fixture(scope="module")
def slow():
    raise RuntimeError("made for a test that does not run")

@pytest.mark.needs("blender")
@pytest.mark.parametrize("case", [0, 1])
def test_reads(slow, case): ...

@pytest.mark.needs("nvcc")
def test_compiles(): ...

def test_other(): ...
"""


def outcome(folder: Path, required: str) -> tuple[int, str]:
    """Status and output of TESTS on a machine without any program, where those are required."""
    (folder / "test_it.py").write_text(TESTS)
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # importing others' plugins takes seconds
    environment = {**os.environ, **alone, "PATH": str(folder), "PYTHONPATH": str(Path(programs.__file__).parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "programs", "-c", os.devnull, str(folder / "test_it.py")]
    done = subprocess.run(
        command, cwd=folder, env={**environment, "TEXT23D_REQUIRE": required}, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_what_does_not_run_is_counted_and_named(tmp_path: Path) -> None:
    status, said = outcome(tmp_path, "")
    assert status == 0, said
    assert f"not run here: 2 tests that need blender ({programs.INSTALL['blender']})" in said
    assert "not run here: 1 test that needs nvcc" in said and "1 passed, 3 skipped" in said


def test_what_is_required_fails(tmp_path: Path) -> None:
    status, said = outcome(tmp_path, "blender, c++")
    assert status == 1 and "blender is not here, but TEXT23D_REQUIRE names it: apt-get install" in said
    assert "that need blender" not in said and "1 test that needs nvcc" in said and "1 passed, 1 skipped" in said


def test_a_name_nobody_knows_is_refused(tmp_path: Path) -> None:
    status, said = outcome(tmp_path, "blendr")
    assert status == 4 and "TEXT23D_REQUIRE names blendr: known are blender" in said


def test_ci_requires_what_it_installs() -> None:
    script = (Path(__file__).parent.parent / ".ci" / "run").read_text()
    (line,) = (line for line in script.splitlines() if line.startswith("export TEXT23D_REQUIRE="))
    required = line.partition("=")[2].split(",")
    assert set(required) <= programs.INSTALL.keys() and {"blender", "gltf-validator", "c++"} <= set(required)


@pytest.mark.parametrize("name", [name for name in programs.INSTALL if name != "ray"])
def test_a_program_is_found_where_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in on the PATH; of the validator, node and npm, which says where its modules are."""
    folder = tmp_path / "modules" / name
    folder.mkdir(parents=True)
    for each in ("node", "npm") if name in programs.MODULES else (name,):
        (tmp_path / each).write_text(f"#!/bin/sh\necho {folder.parent}\n")
        (tmp_path / each).chmod(0o755)
    programs.found.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.found(name) == str(folder.parent if name in programs.MODULES else tmp_path / name)
    folder.rmdir()
    programs.found.cache_clear()
    if name in programs.MODULES:
        assert programs.found(name) is None
    programs.found.cache_clear()


def test_ray_is_found_where_hydras_launcher_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").touch()
    (tmp_path / "hydra_plugins" / "hydra_ray_launcher").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("ray", "hydra_plugins"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    programs.found.cache_clear()
    assert programs.found("ray") == str(tmp_path / "hydra_plugins")
    (tmp_path / "hydra_plugins" / "hydra_ray_launcher").rmdir()
    programs.found.cache_clear()
    assert programs.found("ray") is None
    programs.found.cache_clear()
