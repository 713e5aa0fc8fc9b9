"""How much memory there is, what would not fit, and what an error says that met its end. Imports torch only where a
device is asked for: the command line asks about errors of torch's own import."""

from __future__ import annotations

import ctypes
import errno
import gc
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text23d.errors import TooLarge, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SMALL = 1 << 28
"""Bytes below which nobody looks: asking takes longer than allocating."""
CONTROL_GROUPS = Path("/sys/fs/cgroup")
WORDS = re.compile(
    r"out of memory|not enough memory|can(no|')t allocate memory|cannot allocate memory \(os error 12\)|bad_alloc"
    r"|could not (create|execute) a (primitive|memory)"  # oneDNN, which computes torch's convolutions on a CPU
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation"
    r"|NVML_SUCCESS"  # torch's allocator on a full GPU, where it cannot ask who fills it
    r"|failed to map segment from shared object|can't start new thread",
    re.IGNORECASE,
)
"""How the libraries below say that memory could not be had, where the kind of their error does not."""


def expect_room(wanted: int, device: torch.device, what: str, remedy: str) -> None:
    """Raise TooLarge, naming `what` and the `remedy`, if `device` has fewer than `wanted` bytes free."""
    if wanted < SMALL:
        return
    free = free_bytes(device)
    if free is not None and wanted > free:
        raise TooLarge(f"{what} needs {gib(wanted)}, and {device} has {gib(free)} free: {remedy}")


def gib(size: float) -> str:
    """A size in bytes, for a person."""
    return f"{size / 2**30:.1f} GiB"


# What an error says


def shortage(error: BaseException) -> BaseException | None:
    """The error, or the one of its causes, that memory could not be had: MemoryError of Python, numpy and our kernels,
    our own refusals, the system's ENOMEM, and what torch, oneDNN and CUDA say in words. None: it is about other
    things."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | TooLarge) or (isinstance(seen, OSError) and seen.errno == errno.ENOMEM):
            return seen
        if not isinstance(seen, UserError) and isinstance(seen, Exception) and WORDS.search(str(seen)):
            return seen
        seen = seen.__cause__
    return None


def is_out_of_memory(error: BaseException) -> bool:
    return shortage(error) is not None


def lack(error: BaseException) -> str:
    """An error that `is_out_of_memory`, in one line for a person."""
    words = " ".join(str(shortage(error)).split())
    said = f" ({words[:200]})" if words else ""
    return f"out of memory{said}: {advice()}, or ask for less: smaller pictures, grids or batches"


def advice() -> str:
    """Where more memory may come from."""
    most = limit()
    allowed = f"raise the limit of {gib(most)} that this process has (ulimit -v), " if most is not None else ""
    return f"{allowed}free some memory"


def let_go(error: BaseException) -> None:
    """Give back what an error that was caught keeps: the variables of the functions it left, and what allocators hold
    in reserve."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def recomputed(function: Callable[..., Tensor], *given: Any) -> Tensor:
    """function(*given), of which a gradient remembers nothing: it computes it once more. It may not draw anything."""
    from torch.utils.checkpoint import checkpoint

    found: Tensor = checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False)
    return found


# What is free


def free_bytes(device: torch.device) -> int | None:
    """What can still be allocated on `device`; None where the system does not say.

    On a CPU the least of what the machine, the control groups of this process and its limits (ulimit) leave.
    """
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(known_free().values(), default=None)


def known_free() -> dict[str, int]:
    """The bytes of memory that can still be had, by what leaves them, as far as the system says: the machine, the
    control groups of this process, and its limits."""
    inside = [each for each in map(_of_container, _containers()) if each is not None]
    known = {"machine": _of_machine(), "container": min(inside, default=None), "ulimit": address_space()}
    return {name: free for name, free in known.items() if free is not None}


def limit() -> int | None:
    """The bytes of address space that this process may have (ulimit -v); None: any number."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


def address_space(status: Path = Path("/proc/self/status")) -> int | None:
    """What is left of the address space that this process may have (ulimit -v); None: it has no limit."""
    most, used = limit(), _kilobytes(status, "VmSize:")
    return None if most is None or used is None else max(0, most - used)


def _of_machine(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Linux's estimate of what a program can have without swapping."""
    return _kilobytes(meminfo, "MemAvailable:")


def _of_container(folder: Path = CONTROL_GROUPS) -> int | None:
    """What is left under the limit of a container (a control group, version 2 or 1); pages of files that the system
    would drop count as free."""
    for limit, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if (folder / limit).is_file() and (folder / used).is_file():
            most = (folder / limit).read_text().strip()
            if not most.isdigit() or int(most) >= 1 << 60:  # "max", or what version 1 writes for it
                return None
            stat = folder / "memory.stat"
            found = re.search(rf"^{dropped} (\d+)$", stat.read_text() if stat.is_file() else "", re.MULTILINE)
            return max(0, int(most) - int((folder / used).read_text()) + int(found[1] if found else 0))
    return None


def _containers(groups: Path = Path("/proc/self/cgroup"), mount: Path = CONTROL_GROUPS) -> Iterator[Path]:
    """The folders of the control groups of this process and of those around them, in versions 2 and 1."""
    roots = {mount, mount / "memory"}
    if groups.is_file():
        for _, controllers, path in (line.split(":", 2) for line in groups.read_text().splitlines()):
            if controllers in ("", "memory"):
                root = mount / controllers
                own = root / path.strip("/")
                roots |= {each for each in (own, *own.parents) if each.is_relative_to(root)}
    yield from sorted(roots)


def _kilobytes(path: Path, entry: str) -> int | None:
    """An entry of one of /proc's tables, in bytes."""
    if not path.is_file():
        return None
    lines = [line.split() for line in path.read_text().splitlines()]
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == entry), None)
