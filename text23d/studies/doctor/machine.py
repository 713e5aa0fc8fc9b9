"""The processor, its threads and its memory, as far as Linux tells of them; nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from text23d.memory import CONTROL_GROUPS, gib, known_free
from text23d.studies.doctor.finding import Finding, State, judged

NEEDED, COMFORTABLE = 800 * 10**6, 1600 * 10**6
"""Bytes of memory: the default run's peak, rounded up (README), and twice that."""
SHARED = 64 * 2**20
"""Bytes of /dev/shm, which several processes on one machine exchange tensors through: what Docker gives."""
FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_tile", "amx_bf16", "asimd", "bf16")
"""Of x86 and ARM (asimd is NEON), those that the kernels and torch's products use."""


def check(folder: Path) -> Iterator[Finding]:
    yield Finding("system", "ok", f"{platform.platform()}, Python {platform.python_version()}")
    yield processor()
    yield threads(os.environ)
    yield memory()
    yield shared_memory()


def processor(info: Path = Path("/proc/cpuinfo")) -> Finding:
    lines = info.read_text().splitlines() if info.is_file() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = told.get("model name") or platform.processor() or platform.machine()
    present = {*(told.get("flags") or told.get("Features") or "").split()}
    flags = [flag for flag in FLAGS if flag in present]
    cores = usable_cores()
    found = f"{name}, {cores:g} of {os.cpu_count()} cores usable, {' '.join(flags) or 'no vector flags known'}"
    slow = platform.machine() in ("x86_64", "AMD64") and bool(present) and not {"avx2", "fma"} <= present
    advice = "without AVX2 and FMA a run takes several times as long; choose a newer processor"
    return judged("processor", found, advice, slow, "warning", cores=cores, flags=flags, model=name)


def usable_cores() -> float:
    """The cores that this process may use, by its affinity and by the quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(cores), *quotas(CONTROL_GROUPS)])


def quotas(mount: Path) -> Iterator[float]:
    """The cores that control groups, of version 2 or 1, leave to this process."""
    for folder in (mount, mount / "cpu"):
        if (folder / "cpu.max").is_file():
            most, period = (folder / "cpu.max").read_text().split()
            if most != "max":
                yield int(most) / int(period)
        elif (folder / "cpu.cfs_quota_us").is_file():
            most = (folder / "cpu.cfs_quota_us").read_text().strip()
            if int(most) > 0:
                yield int(most) / int((folder / "cpu.cfs_period_us").read_text())


def threads(environment: Mapping[str, str]) -> Finding:
    """OpenMP's settings; text23d says OMP_WAIT_POLICY=passive where nobody has said anything."""
    cores = usable_cores()
    wanted = environment.get("OMP_NUM_THREADS", "")
    policy = environment.get("OMP_WAIT_POLICY", "not set")
    count = int(wanted) if wanted.isdigit() else None
    found = f"OMP_NUM_THREADS {wanted or 'not set'}, OMP_WAIT_POLICY {policy}"
    if count is None and cores < (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores):
        advice = f"a quota leaves {cores:g} cores to more threads: set OMP_NUM_THREADS={max(1, int(cores))}"
        return Finding("threads", "warning", found, advice)
    if count is not None and count > max(1, cores):
        advice = f"more threads than the {cores:g} cores wait for each other: set OMP_NUM_THREADS={max(1, int(cores))}"
        return Finding("threads", "warning", found, advice)
    busy = policy.lower() == "active"
    return judged("threads", found, "idle threads keep cores busy: set OMP_WAIT_POLICY=passive", busy, "warning")


def memory() -> Finding:
    """The least of what the machine, the control groups and the process's limits leave."""
    known = known_free()
    free = min(known.values(), default=None)
    if free is None:
        return Finding("memory", "warning", "this system does not say how much is free", "have 1 GB free for a run")
    found = ", ".join(f"{gib(value)} free by {name}" for name, value in known.items())
    advice = f"a run takes {gib(NEEDED)}: close other programs, or raise the limit of the container or of ulimit -v"
    state: State = "failure" if free < NEEDED else "warning"
    return judged("memory", found, advice, free < COMFORTABLE, state, **known)


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    if not folder.is_dir():
        return Finding("shared memory", "ok", f"no {folder} on this system")
    free = shutil.disk_usage(folder).free
    advice = "several processes that share a run may not start: give the container more, as in docker run --shm-size=1g"
    return judged("shared memory", f"{gib(free)} free in {folder}", advice, free < SHARED, "warning", free=free)
