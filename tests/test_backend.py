"""The choice of the kernel backend: found, forced, explained."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from text23d.errors import UserError
from text23d.kernels import backend, native, ops
from text23d.kernels.layout import GridLayout
from text23d.kernels.threads import flush_denormals

ROOT = Path(__file__).resolve().parent.parent
needs_compiler = pytest.mark.needs("c++")


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
    version = backend.ABI_VERSION
    monkeypatch.setattr(backend, "ABI_VERSION", -1)
    backend._load.cache_clear()
    try:
        assert backend.select("auto") == "torch"
        with pytest.raises(UserError, match=rf"interface version {version}, expected -1"):
            backend.library()
    finally:
        monkeypatch.undo()
        backend._load.cache_clear()
        backend.select("auto")


@pytest.mark.parametrize(
    ("capability", "built", "chosen"),
    [
        ("AVX512", ("", "_v3", "_v4"), "_v4"),
        ("AVX512", ("", "_v3"), "_v3"),
        ("AVX2", ("", "_v3", "_v4"), "_v3"),
        ("DEFAULT", ("", "_v3", "_v4"), ""),
        ("NO AVX", ("", "_v3", "_v4"), ""),
        ("AVX512", ("",), ""),
    ],
)
def test_the_library_is_the_one_for_the_most_that_the_processor_can_do(
    capability: str, built: tuple[str, ...], chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "__file__", str(tmp_path / "backend.py"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for suffix in (*built, "_notes"):
        (tmp_path / f"_native{suffix}.so").touch()
    assert backend._find("cpu") == tmp_path / f"_native{chosen}.so"
    assert backend._find("cuda") is None


def test_cuda_half_is_chosen_apart_from_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it auto falls back to torch on CUDA alone, and native insists; other devices have torch only."""
    cpu = backend.select("auto")
    monkeypatch.setattr(backend, "LIBRARIES", {"cpu": "_native", "cuda": "_absent"})
    backend._load.cache_clear()
    try:
        assert (backend.backend(), backend.backend("cuda"), backend.backend("mps")) == (cpu, "torch", "torch")
        assert "nvcc" in backend.describe("cuda")
        if cpu == "native":
            backend.select("native")
            with pytest.raises(UserError, match=r"no compiled library for cuda.*nvcc.*or choose torch"):
                backend.backend("cuda")
    finally:
        monkeypatch.undo()
        backend._load.cache_clear()
        backend.select("auto")


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=needs_compiler), pytest.param("cuda", marks=pytest.mark.needs("nvcc"))]
)
def test_libraries_export_the_whole_interface(device: str) -> None:
    library = backend.library(device)
    names = ("hashgrid_forward", "hashgrid_backward_table", "hashgrid_backward_x", "field_forward", "field_backward")
    for name in (*names, "march_count", "march_fill", "composite_forward", "composite_backward"):
        assert getattr(library, f"text23d_{name}_f32") and getattr(library, f"text23d_{name}_f64")
    assert device == "cuda" or (library.text23d_render_f32 and library.text23d_render_f64)
    assert library.text23d_error(0) in (b"none", b"no error")


@needs_compiler
def test_what_a_driver_refuses_is_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose kernels return a code stands in for one without a GPU."""
    failing = ctypes.CFUNCTYPE(ctypes.c_int32)(lambda: 100)

    class Library:
        text23d_hashgrid_forward_f32 = failing

        @staticmethod
        def text23d_error(code: int) -> bytes:
            return b"no CUDA-capable device is detected" if code == 100 else b""

    monkeypatch.setattr(native, "library", lambda device: Library)
    backend.select("native")
    layout = GridLayout(2, 2, 8, 2, 2.0)
    with pytest.raises(RuntimeError, match=r"hashgrid_forward on cpu: no CUDA-capable device.*backend=torch"):
        ops.encode(torch.zeros(1, 3), torch.zeros(layout.entries, 2), layout)
    backend.select("auto")


def test_small_numbers_are_zero_in_all_threads_and_then_not() -> None:
    """A pool of threads that is there already would keep what it was made with."""
    flush_denormals(False)  # an earlier test may have run a command, which sets it for its process
    (torch.randn(1000, 1000) @ torch.randn(1000, 1000)).sum()
    tiny = torch.full((1 << 20,), 1e-39)
    try:
        flush_denormals(True)
        assert not (tiny * 1).any()
    finally:
        flush_denormals(False)
    assert (tiny * 1).all()
