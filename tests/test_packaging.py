"""What an installed copy would hold, without installing one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import text23d
from text23d import paths
from text23d.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {module.parent for module in (ROOT / "text23d").rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_version_is_the_one_of_the_project() -> None:
    assert f'version = "{text23d.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_configuration_is_found_from_any_folder(tmp_path: Path) -> None:
    script = "from text23d.paths import conf_dir; print(conf_dir())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == ROOT / "conf"


def test_installed_configuration_comes_first_and_none_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "text23d")
    with pytest.raises(UserError, match="no configuration"):
        paths.conf_dir()
    for folder in (tmp_path / "conf", tmp_path / "text23d" / "conf"):
        folder.mkdir(parents=True)
        (folder / "run.yaml").touch()
        assert paths.conf_dir() == folder


def test_build_without_a_compiler_succeeds_and_says_so(tmp_path: Path) -> None:
    places = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    environment = {**os.environ, "CC": "/nonexistent/cc", "CXX": "/nonexistent/c++"}
    command = [sys.executable, "setup.py", "-q", "build_ext", *places]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    notice = [line for line in done.stderr.splitlines() if line.startswith("text23d:")]
    assert len(notice) == 1 and "torch twins" in notice[0]
    assert not list(tmp_path.rglob("_native*"))


def test_distribution_holds_the_package_and_its_configuration_only(tmp_path: Path) -> None:
    script = (
        "import setuptools, distutils.core; "
        "made = distutils.core.run_setup('setup.py', ['--quiet', '--name'], stop_after='commandline'); "
        "print(*made.packages)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = set(done.stdout.split("\n")[-2].split())
    assert {"text23d", "text23d.conf", "text23d.kernels"} <= packages
    assert {name.split(".")[0] for name in packages} == {"text23d"}
