"""GPUs, and which kernels compute on which device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from text23d.kernels import backend, gpu_check, nerfacc_march
from text23d.memory import gib
from text23d.studies.doctor.finding import Finding, judged

POINTS, CLOSE = 1 << 10, 1e-4
"""Points of a comparison with the torch twins, and the relative difference that rounding may make."""


def check(folder: Path) -> Iterator[Finding]:
    yield from gpus()
    yield kernels("cpu")
    if torch.cuda.is_available():
        yield kernels("cuda")
        loads = nerfacc_march.loads()
        yield judged(
            "nerfacc on CUDA", "loads" if loads else "does not load", "our own march serves", not loads, "warning"
        )
    else:
        yield Finding("kernels on cuda", "ok", f"not used, without a GPU ({backend.problem('cuda') or 'compiled'})")


def gpus() -> Iterator[Finding]:
    if not torch.cuda.is_available():
        built = (
            f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for CPUs alone"
        )
        yield Finding("GPU", "ok", f"none is visible; {built}")
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        capability = f"compute capability {properties.major}.{properties.minor}"
        found = f"{properties.name}, {capability}, {gib(free)} of {gib(total)} free"
        advice = "other programs fill it: end them, or choose device=cpu"
        yield judged(f"GPU {index}", found, advice, free < 2**31, "warning", free=free, total=total)


def kernels(device: str) -> Finding:
    """Whether the compiled kernels load, and compute what their torch twins do."""
    name, loaded = f"kernels on {device}", backend.problem(device)
    if loaded:
        return Finding(name, "warning", loaded, "until then the torch twins serve, 40 times slower")
    apart = {
        what: gpu_check.difference(compiled(), twin())
        for what, compiled, twin in gpu_check.operations(torch.device(device), torch.float32, POINTS)
    }
    worst = max(apart, key=lambda what: apart[what])
    found = f"{backend.describe(device)}; at most {apart[worst]:.1e} from the torch twins ({worst})"
    advice = "they compute something else: build them again (pip install -e .), or choose backend=torch"
    return judged(name, found, advice, not apart[worst] <= CLOSE, apart=apart)
