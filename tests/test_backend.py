"""The choice of the kernel backend: found, forced, explained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from text23d.contracts import UserError
from text23d.kernels import backend

ROOT = Path(__file__).resolve().parent.parent
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler, so no compiled kernels"
)


@needs_compiler
def test_native_library_is_there_wherever_a_compiler_is() -> None:
    assert backend.select("auto") == "native", backend.describe()


def test_backend_can_be_forced_and_says_what_it_is() -> None:
    assert backend.select("torch") == backend.backend() == "torch"
    assert backend.describe().startswith("torch")
    with pytest.raises(UserError, match=r"'cuda'.*auto, native, torch"):
        backend.select("cuda")
    now = backend.select("auto")
    assert backend.describe().startswith(now)


def test_backend_comes_from_the_environment() -> None:
    script = "from text23d.kernels.backend import backend; print(backend())"
    environment = {**os.environ, "TEXT23D_BACKEND": "torch", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch"


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_missing_or_broken_library_is_explained(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "__file__", str(tmp_path / "backend.py"))
    if content is not None:
        (tmp_path / "_native.so").write_bytes(content)
    backend._load.cache_clear()
    try:
        assert backend.select("auto") == "torch"
        assert "pip install" in backend.describe()
        with pytest.raises(UserError, match="C\\+\\+ compiler"):
            backend.select("native")
    finally:
        monkeypatch.undo()
        backend._load.cache_clear()
        backend.select("auto")


@needs_compiler
def test_library_of_another_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "ABI_VERSION", -1)
    backend._load.cache_clear()
    try:
        assert backend.select("auto") == "torch"
        with pytest.raises(UserError, match=r"interface version 1, expected -1"):
            backend.library()
    finally:
        monkeypatch.undo()
        backend._load.cache_clear()
        backend.select("auto")
