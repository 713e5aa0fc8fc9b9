"""What this machine can do at best: memory bandwidth and arithmetic rate, at the threads torch uses."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from text23d.studies.benchmark.timing import alternate

ELEMENTS = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Of each array of the triad: 128 MB, several times the caches of most processors, and 1 GB."""
SIDE = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True)
class Machine:
    """bandwidth: bytes a second; rates: FLOPs a second by number type; facts: what to know of the rest."""

    bandwidth: float
    rates: dict[torch.dtype, float]
    facts: dict[str, Any]


def measure(device: torch.device, dtypes: Sequence[torch.dtype], seconds: float) -> Machine:
    """Both rates, within `seconds`."""
    share = seconds / (1 + len(dtypes))
    facts = {
        "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
    }
    return Machine(bandwidth(device, share), {each: rate(device, each, share) for each in dtypes}, facts)


def bandwidth(device: torch.device, seconds: float) -> float:
    """Bytes a second of a = b + s c (the triad of STREAM, McCalpin 1995): two arrays read, one written."""
    a, b, c = (torch.full((ELEMENTS[device.type],), float(value), device=device) for value in range(3))
    best = fastest(lambda: torch.add(b, c, alpha=3.0, out=a), seconds)
    return 3 * a.nbytes / best


def rate(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOPs a second of a product of square matrices."""
    side = SIDE[device.type]
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(side, side, generator=generator).to(device, dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / fastest(lambda: torch.mm(a, b, out=out), seconds)


def fastest(call: Any, seconds: float) -> float:
    """Seconds of the best of up to 20 calls: other programs only ever slow one down."""
    return min(alternate({"call": call}, 20, seconds)["call"])


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
