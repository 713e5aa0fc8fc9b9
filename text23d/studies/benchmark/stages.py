"""Where an iteration's time goes: its stages, and in each what the kernels and the prior's network take."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.profiler import record_function

from text23d.errors import UserError
from text23d.prior.builtin.unet import UNet
from text23d.studies.benchmark.replay import Replay
from text23d.studies.benchmark.timing import profiled, synchronise

STAGE, WHOLE, NETWORK = "stage ", "iteration", "network of the prior"
OPERATORS = {
    "text23d::field": "field",
    "text23d::field_backward": "field",
    "text23d::hashgrid_encode": "field",
    "text23d::hashgrid_backward_table": "field",
    "text23d::hashgrid_backward_x": "field",
    "text23d::march": "march",
    "text23d::composite": "composite",
    "text23d::composite_backward": "composite",
    "text23d::render": "picture",
}
"""The operators of the compiled kernels, and the part of the time that each belongs to."""
KERNELS = tuple(dict.fromkeys(OPERATORS.values()))
BACKWARD = "autograd::engine::evaluate_function: "

Seconds = dict[str, dict[str, float]]
"""By stage, the seconds of each part, and under "seconds" those of the whole stage."""


def stage_seconds(replay: Replay, indices: Sequence[int]) -> Seconds:
    """An average of these iterations: seconds by stage, and within each stage by part, what the compiled kernels and
    the prior's network take, backward passes included. The stages add up to the iteration.

    Kernels are known by the names of their operators: torch twins, which are made of torch's own, are not told apart
    from the rest, and neither is what nerfacc does on CUDA. On the GPU a stage lasts until its work is done, and a part
    as long as its kernels run. Raises UserError for another method than Algorithm 1.
    """
    if not replay.is_algorithm1:
        raise UserError("the stages of Algorithm 1 are measured: choose method=langevin")

    def work() -> None:
        for index in indices:
            replay.restore()
            with record_function(WHOLE):
                replay.iterate(index, stage)

    with networks_named():
        found = profiled(work)
    return breakdown(found.events(), len(indices), gpu=torch.cuda.is_initialized())


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A `contracts.Stage` that carries its name in a profile and spans what it started on the GPU."""
    with record_function(STAGE + name):
        yield
        synchronise()


@contextmanager
def networks_named() -> Iterator[None]:
    """Inside, evaluations of the prior's network carry the name NETWORK in a profile."""
    scopes: list[record_function] = []

    def enter(module: nn.Module, given: Any) -> None:
        if isinstance(module, UNet):
            scopes.append(record_function(NETWORK))
            scopes[-1].__enter__()

    def leave(module: nn.Module, given: Any, result: Any) -> None:
        if isinstance(module, UNet):
            scopes.pop().__exit__(None, None, None)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def breakdown(events: Iterable[Any], count: int, gpu: bool) -> Seconds:
    """What `stage_seconds` returns, from the events of a profile with `count` iterations.

    The network's backward functions are those whose forward pass it made: both carry the same sequence number.
    """
    host = sorted((e for e in events if e.device_type == DeviceType.CPU), key=lambda e: e.time_range.start)
    stages = Ranges(e for e in host if e.name.startswith(STAGE))
    networks, kernels = Ranges(e for e in host if e.name == NETWORK), Ranges(e for e in host if e.name in OPERATORS)
    found: Seconds = {}

    def spend(event: Any, part: str, seconds: float) -> None:
        inside = stages.at(event.time_range.start)
        times = found.setdefault(inside.name.removeprefix(STAGE) if inside else "other", {"seconds": 0.0})
        times[part] = times.get(part, 0.0) + seconds

    made_by_network: dict[int, bool] = {}
    for event in host:  # in order: of several with one number the last is the one that used it up
        if event.sequence_nr >= 0 and not event.name.startswith(BACKWARD) and event.scope == 0:
            made_by_network[event.sequence_nr] = networks.at(event.time_range.start) is not None
    for event in kernels.events:
        spend(event, OPERATORS[event.name], duration(event, gpu))
    for event in networks.events:
        spend(event, NETWORK, duration(event, gpu))
    for event in host:
        if event.name.startswith(BACKWARD) and made_by_network.get(event.sequence_nr):
            spend(event, NETWORK, duration(event, gpu))
    for event in stages.events:
        spend(event, "seconds", duration(event, False))
    whole = sum(duration(e, False) for e in host if e.name == WHOLE)
    staged = sum(times["seconds"] for times in found.values())
    found.setdefault("other", {})["seconds"] = whole - staged
    return {name: {part: seconds / count for part, seconds in times.items()} for name, times in found.items()}


class Ranges:
    """The outermost of events, in order, and which of them a moment falls into."""

    def __init__(self, events: Iterable[Any]) -> None:
        self.events: list[Any] = []
        for event in events:
            if not self.events or event.time_range.start >= self.events[-1].time_range.end:
                self.events.append(event)
        self._starts = [event.time_range.start for event in self.events]

    def at(self, moment: float) -> Any | None:
        """The event that spans this moment."""
        index = bisect_right(self._starts, moment) - 1
        inside = index >= 0 and moment < self.events[index].time_range.end
        return self.events[index] if inside else None


def duration(event: Any, gpu: bool) -> float:
    """Seconds of an event: of its kernels on the GPU, or from its begin to its end."""
    return (event.device_time_total if gpu else event.cpu_time_total) / 1e6


def share(stages: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> float:
    """The share of these parts in the time of all stages."""
    whole = sum(times["seconds"] for times in stages.values())
    return sum(times.get(name, 0.0) for times in stages.values() for name in names) / whole
