"""What is set for each thread of the processor, in all threads that compute."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import torch

MAPS = Path("/proc/self/maps")


def flush_denormals(on: bool) -> None:
    """Whether numbers below 2^-126 count as zero, in this thread and in the threads of its OpenMP pools.

    torch sets it for the calling thread alone. Threads that OpenMP makes later inherit it, those that are there already
    do not, and the same run would round otherwise after other work. Where there is no GNU OpenMP (not on Linux), this
    thread alone is set.
    """

    def in_each_thread(_: object) -> None:
        torch.set_flush_denormal(on)

    in_each_thread(None)
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(in_each_thread)
    for path in _pools():
        ctypes.CDLL(path).GOMP_parallel(callback, None, torch.get_num_threads(), 0)


def _pools() -> list[str]:
    """The files of GNU OpenMP in this process: torch brings one, our kernels may use another."""
    if not MAPS.exists():
        return []
    return sorted(set(re.findall(r"^(?:\S+\s+){5}(/.*/libgomp[^/\n]*)$", MAPS.read_text(), re.M)))
