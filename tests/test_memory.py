"""What is free, what errors say that memory was not to be had, and processes that have too little of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import LOOP, NERF, tiny

from text23d import memory
from text23d.engine import estimate
from text23d.engine.thrift import economies_of
from text23d.errors import TooLarge, UserError

ROOT = Path(__file__).resolve().parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")


# What is free


def test_free_memory_is_read_from_the_machine_and_its_container(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 64 kB\nMemFree: 8 kB\nMemAvailable:   32 kB\n")
    assert memory._of_machine(tmp_path / "meminfo") == 32 * 1024
    assert memory._of_container(tmp_path) is None
    for limit, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        folder = tmp_path / limit
        folder.mkdir()
        (folder / used).write_text("300\n")
        for most, left in (("max\n", None), (f"{2**63 - 4096}\n", None), ("1000\n", 700), ("200\n", 0)):
            (folder / limit).write_text(most)
            assert memory._of_container(folder) == left
        (folder / "memory.stat").write_text(f"anon 250\n{dropped} 50\nactive_file 7\n")
        (folder / limit).write_text("1000")
        assert memory._of_container(folder) == 750


def test_the_groups_of_a_process_are_those_around_it(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("12:pids:/a\n7:memory:/b\n0::/user/job\n")
    found = {str(each.relative_to("/sys")) for each in memory._containers(tmp_path / "cgroup", Path("/sys/x"))}
    assert found == {"x", "x/memory", "x/memory/b", "x/user", "x/user/job"}


@linux
def test_a_limit_of_the_address_space_counts() -> None:
    free, most, used = memory.free_bytes(torch.device("cpu")), memory.limit(), memory._kilobytes
    assert free is not None and free > 0
    assert (memory.address_space() is None) == (most is None)
    left = limited(2**31, "from text23d import memory; print(memory.limit(), memory.address_space())").stdout.split()
    assert int(left[0]) == 2**31 and 2**30 < int(left[1]) < 2**31
    assert used(Path("/proc/self/status"), "VmSize:")


# What errors say


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":830'),
        RuntimeError("could not create a memory object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        TooLarge("x needs 3 GiB"),
    ],
)
def test_errors_of_memory(error: BaseException) -> None:
    assert memory.is_out_of_memory(error)
    told = UserError("x does not fit the network it describes")
    told.__cause__ = error
    assert memory.shortage(told) is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        UserError('no word "out of memory" in the vocabulary'),
        KeyboardInterrupt(),
    ],
)
def test_errors_of_other_things(error: BaseException) -> None:
    assert not memory.is_out_of_memory(error)


REAL = {
    "torch": "torch.empty(2**40)",
    "numpy": "np.empty(2**40)",
    "python": "bytearray(2**40)",
    "a convolution": "[conv(torch.ones(1, 64, 256, 256), torch.ones(64, 64, 3, 3)) for _ in range(40) if keep()]",
    "mmap": "mmap.mmap(-1, 2**40)",
    "a thread": "[threading.Thread(target=time.sleep, args=(9,), daemon=True).start() for _ in range(999)]",
    "a library": "[keep(), importlib.import_module('scipy.spatial')]",
}


@linux
@pytest.mark.parametrize("what", REAL)
def test_real_errors_are_known(what: str) -> None:
    """Under a limit of the address space, each by the library that lacks memory. keep: takes all but 4 MB of it."""
    code = f"""
import importlib, mmap, os, resource, threading, time
import numpy as np, torch
from text23d import memory
from torch.nn.functional import conv2d as conv
kept = []
def keep():
    while memory.address_space() > 2**22:
        kept.append(mmap.mmap(-1, memory.address_space() - 2**21))
    return True
try:
    {REAL[what]}
except Exception as error:
    kept.clear()
    print(type(error).__name__, memory.is_out_of_memory(error), error, flush=True)
    os._exit(0)
"""
    done = limited(2**30, code)
    assert " True " in done.stdout, done.stdout + done.stderr


@linux
def test_a_kernel_that_lacks_memory_is_an_error_and_not_the_end() -> None:
    """Its scratch is 4 MB a thread, and the gradients of its chunks 4 MB together; 1 MB is left to it."""
    code = """
import resource, torch
from text23d import memory
from text23d.kernels import native
from text23d.kernels.layout import GridLayout
layout, hidden, n = GridLayout(4, 2, 8, 4, 1.5), 1024, 1 << 15
x, table = torch.rand(n, 3), torch.rand(layout.entries, 2)
mlp = torch.rand(hidden, 8), torch.rand(hidden), torch.rand(4, hidden), torch.rand(4)
grid = native._layout(*native.layout_arguments(layout))[1]
density, rgb, kept, spare = torch.ones(n), torch.ones(n, 3), torch.ones(8, n), torch.ones(8, n)
network, sizes = torch.zeros(native._network_size(8, hidden)), (4, 2, hidden)
for threads in (1, 2):
    torch.set_num_threads(threads)
    torch.ones(1 << 20).exp()
    used = memory._kilobytes(memory.Path("/proc/self/status"), "VmSize:")
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), -1))
    for name, arguments in (
        ("field_forward", (n, x, table, grid, *sizes, *mlp, 1.0, 1.0, 1.0, density, rgb, kept, n)),
        (
            "field_backward",
            (n, x, grid, *sizes, *mlp[:3], 1.0, density, rgb, kept, n, density, rgb, spare, network, table),
        ),
    ):
        try:
            native._call(name, x, *arguments)
            print(name, threads, "done")
        except MemoryError as error:
            print(name, threads, "refused")
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["field_forward 1 refused", "field_backward 1 refused"]
    assert len(done.stdout.splitlines()) == 4  # another thread may have room of its own


def limited(most: int, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of at most so many bytes of address space."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, preexec_fn=limit, capture_output=True, text=True)


# Runs


@linux
def test_a_run_under_any_limit_ends_done_or_in_one_line(tiny_prior: Path, tmp_path: Path) -> None:
    """From where torch does not load at all to where all is well, by the command line."""
    statuses = []
    for tenths in (3, 6, 8, 16):
        out = tmp_path / str(tenths)
        overrides = ["prompt=a red car", "outputs=minimal", f"prior.weights={tiny_prior}", *LOOP, *NERF]
        overrides.append(f"stage.weights={tiny_prior.with_name('prior_fine.safetensors')}")
        line = ["", "run", *overrides, f"hydra.run.dir={out}"]
        code = f"import sys; sys.argv = {line}; from text23d import cli; cli.main()"
        done = limited(int(tenths * 0.1 * 2**30), code)
        lines = [each for each in done.stderr.replace("\r", "\n").splitlines() if each.startswith("text23d: ")]
        assert "Traceback" not in done.stderr and not list(ROOT.glob("core*"))
        assert done.returncode == (0 if lines[-1].startswith("text23d: done") else 2), done.stderr
        statuses.append(done.returncode)
    assert statuses[0] == 2 and statuses[-1] == 0 and statuses == sorted(statuses, reverse=True)


def test_what_cannot_fit_is_refused_and_what_fits_is_not(tiny_prior: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, parts = tiny(tiny_prior, "method.size.stages=[[0,256]]")
    ladder = economies_of(state, parts)
    plain, least = (estimate.total(estimate.needs(state, parts, each)) for each in (None, ladder[-1]))
    assert plain > 4 * least
    for free, level in ((2 * plain, 0), (0.9 * plain, 1), (least, len(ladder))):
        monkeypatch.setattr(estimate, "free_bytes", lambda device, free=free: free)
        state.thrift.level = 0
        line = estimate.prepare(state, parts)
        assert (line is None) == (level == 0) and (state.thrift.level >= level)
    assert state.thrift.level < len(ladder) + 1
    monkeypatch.setattr(estimate, "free_bytes", lambda device: 0.69 * least)
    with pytest.raises(TooLarge, match=r"about 0\.\d GiB more, and cpu has 0\.\d GiB free: most of it.*lower"):
        estimate.prepare(state, parts)


MEASURED: dict[str, tuple[str, ...]] = {
    "large pictures": (
        *("method.views=1", "method.size.stages=[[0,256]]", "representation.steps=64"),
        "stage.draft=null",  # which would not be that large
    ),
    "a large table": ("representation.encoding.log2_table=21", "representation.encoding.finest=400"),
    "its average": ("representation.encoding.log2_table=20", "representation.encoding.finest=400", "method.ema=0.9"),
    "sgd": ("representation.encoding.log2_table=21", "representation.encoding.finest=400", "method/optimizer=sgd"),
    "a large picture": ("representation=image", "method.views=1", "representation.size=2048"),
}


@linux
@pytest.mark.parametrize("case", MEASURED)
def test_the_estimate_is_what_is_measured(case: str, tiny_prior: Path) -> None:
    """The growth of the largest resident size over two iterations with the copies that a run keeps, in a process of
    its own."""
    code = f"""
import ctypes, re, sys
sys.path.insert(0, "tests")
from pathlib import Path
from tiny import tiny
from text23d.engine import estimate
from text23d.engine.loop import advance
def resident(entry):
    return memory._kilobytes(Path("/proc/self/status"), entry)
from text23d import memory
state, parts = tiny(Path({str(tiny_prior)!r}))
advance(state, parts)  # what every process loads once
state, parts = tiny(Path({str(tiny_prior)!r}), "method.inner=1", *{MEASURED[case]!r})
expected = estimate.total(estimate.needs(state, parts, None))
ctypes.CDLL(None).malloc_trim(0)  # what the first one has freed is no room for the next
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS:")
begun = safe = state.snapshot()
for _ in range(2):
    advance(state, parts, before=safe)
    safe = state.snapshot()
print(expected, resident("VmHWM:") - before)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    expected, measured = map(float, done.stdout.split())
    assert estimate.CERTAIN < measured / expected < 1 / estimate.CERTAIN, (expected / 2**20, measured / 2**20)
