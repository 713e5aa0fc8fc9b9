"""Time and memory of a call."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def nothing(*names: str) -> None:
    """No preparation."""


def timed(call: Call) -> float:
    """Seconds from the call to the end of what it started, on the GPU too."""
    synchronise()
    start = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def alternate(
    calls: Mapping[str, Call], repeats: int, seconds: float, prepare: Callable[[str], None] = nothing
) -> dict[str, list[float]]:
    """Seconds of each call, in rounds of one of each: a machine that gets busy slows all of them alike.

    `repeats` rounds, fewer when `seconds` are spent, at least two. prepare(name) goes before each call and does not
    count. The calls should have been warmed up.
    """
    end = time.perf_counter() + seconds
    found: dict[str, list[float]] = {name: [] for name in calls}
    rounds = 0
    while rounds < 2 or (rounds < repeats and time.perf_counter() < end):
        for name, call in calls.items():
            prepare(name)
            found[name].append(timed(call))
        rounds += 1
    return found


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in times.items()}


def profiled(call: Call, memory: bool = False) -> profile:
    """The profile of a call. Its kernels on the GPU are recorded with what launched them."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_initialized() else [])]
    with silenced(), profile(activities=activities, profile_memory=memory) as found:
        call()
        synchronise()
    return found


@contextmanager
def silenced() -> Iterator[None]:
    """Without what is written to standard error: torch's profiler reports each start and stop there, and each block of
    memory that it did not see allocated."""
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def peak_bytes(call: Call) -> int:
    """The most memory that tensors hold during the call, beyond what they held before it.

    The allocator's own account, not the system's: it is the same every time, and small calls do not drown in the rest.
    """
    if torch.cuda.is_initialized():
        synchronise()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    results: Any = profiled(call, memory=True).profiler
    events = results.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0))
