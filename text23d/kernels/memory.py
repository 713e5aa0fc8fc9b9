"""A clear refusal of what would not fit, before the machine runs out of memory."""

from __future__ import annotations

from pathlib import Path

import torch

from text23d.errors import UserError

SMALL = 1 << 28
"""Bytes below which nobody looks: asking takes longer than allocating."""


def expect_room(wanted: int, device: torch.device, what: str, remedy: str) -> None:
    """Raise UserError, naming `what` and the `remedy`, if `device` has fewer than `wanted` bytes free."""
    if wanted < SMALL:
        return
    free = free_bytes(device)
    if free is not None and wanted > free:
        gib = f"{what} needs {wanted / 2**30:.1f} GiB, and {device} has {free / 2**30:.1f} GiB free"
        raise UserError(f"{gib}: {remedy}")


def free_bytes(device: torch.device) -> int | None:
    """What can still be allocated on `device`; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    known = [each for each in (_of_machine(), _of_container()) if each is not None]
    return min(known, default=None)


def _of_machine(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Linux's estimate of what a program can have without swapping."""
    if not meminfo.is_file():
        return None
    lines = [line.split() for line in meminfo.read_text().splitlines()]
    return next((int(kib) * 1024 for name, kib, *_ in lines if name == "MemAvailable:"), None)


def _of_container(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What is left under the limit of a container (control group, version 2)."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.is_file() and used.is_file()) or limit.read_text().strip() == "max":
        return None
    return int(limit.read_text()) - int(used.read_text())
