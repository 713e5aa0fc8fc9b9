"""Measured speed and memory of the kernels, the networks and an iteration, beside their torch twins and what the
machine could do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from text23d.files import write_json, write_text
from text23d.kernels.backend import backend, select
from text23d.prior.builtin.prior import fast_precision
from text23d.settings import Count, Flag, Positive, whole
from text23d.studies.benchmark import curves, machine, networks, operations, plot, report
from text23d.studies.benchmark.curves import Curve
from text23d.studies.benchmark.machine import Machine
from text23d.studies.benchmark.networks import Network
from text23d.studies.benchmark.operations import Operation, compare
from text23d.studies.benchmark.plot import Line, Panel
from text23d.studies.benchmark.replay import Replay, random_prior
from text23d.studies.benchmark.stages import KERNELS, NETWORK, share, stage_seconds
from text23d.studies.benchmark.timing import alternate, medians, peak_bytes
from text23d.studies.records import Name

TITLES = {
    "rays": "rays",
    "samples": "samples",
    "levels": "levels of the hash grid, 128k samples",
    "views": "views of 64 x 64",
    "size": "side of the pictures, in pixels",
}
QUICK_SECONDS, FULL_SECONDS = 20.0, 600.0
PROFILED = 8
"""Iterations along the run whose time is looked into."""


@dataclass(frozen=True)
class Pictures:
    """What the kernels are measured on: so many pictures of this side."""

    views: Count = 1
    size: Count = 64


@dataclass(frozen=True)
class Benchmark:
    """`conf/benchmark.yaml`, but for what a run is made of.

    full              all growth curves, at more sizes.
    seconds           to spend, about; None: 20, all curves 600.
    repeats           rounds of each comparison at most.
    threads           of the processor; None: as many as torch takes.
    stable_diffusion  latents a batch of Stable Diffusion's UNet; None: it is not measured.
    """

    folder: Name
    full: Flag = False
    seconds: Positive | None = None
    repeats: Count = 20
    kernels: Pictures = Pictures()
    threads: Annotated[int, whole(1, 1024)] | None = None
    stable_diffusion: Count | None = None
    device: str = "auto"

    @property
    def budget(self) -> float:
        return self.seconds or (FULL_SECONDS if self.full else QUICK_SECONDS)


def benchmark(settings: Benchmark, cfg: Mapping[str, Any], device: torch.device) -> str:
    """Measure everything within about the seconds asked for, and write <device>.json, .md and .png into the folder; the
    tables as markdown. cfg: a run's configuration, and the `network` of its prior.

    Raises UserError for a run that cannot be built or is none of Algorithm 1 on a hash grid.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with random_prior(cfg["network"]) as weights:
        results, grown = measure(settings, Replay(cfg, device, weights), device)
    folder, text = Path(settings.folder), report.table(results)
    write_json(folder / f"{device.type}.json", results)
    write_text(folder / f"{device.type}.md", text)
    plot.draw(panels(grown), folder / f"{device.type}.png")
    return text


def measure(settings: Benchmark, replay: Replay, device: torch.device) -> tuple[dict[str, Any], list[Curve]]:
    """The results as they are written, and the curves."""
    seconds, repeats = settings.budget, settings.repeats
    select("auto")
    chosen = backend(device.type)
    backends = list(dict.fromkeys([chosen, "torch"]))
    batch = operations.ray_batch(replay.untrained, settings.kernels.views, settings.kernels.size)
    precision, half = fast_precision(device), torch.float16 if device.type == "cuda" else torch.float32
    limits = machine.measure(device, list(dict.fromkeys([torch.float32, precision, half])), 0.05 * seconds)
    rows = [
        operation_row(each, backends, repeats, 0.04 * seconds, limits)
        for each in [*operations.kernels(batch), *operations.rivals(batch), operations.rendering(batch)]
    ]
    iteration = iteration_row(replay, backends, repeats, 0.2 * seconds)
    select(chosen)
    evaluated = [networks.builtin(replay, precision)]
    if settings.stable_diffusion is not None:
        evaluated.append(networks.stable_diffusion(settings.stable_diffusion, device, half))
    network_rows = [network_row(each, limits, repeats, 0.05 * seconds) for each in evaluated]
    indices = replay.spread(PROFILED)
    stages = stage_seconds(replay, indices)
    axes = curves.FULL if settings.full else curves.QUICK
    share_of_axis = (0.7 if settings.full else 0.2) * seconds / len(axes)
    grown = [
        curve
        for axis, values in axes.items()
        for curve in curves.grow(axis, values, batch.nerf, replay, backends, repeats, share_of_axis)
    ]
    select(chosen)
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "device": device.type,
        "backend": chosen,
        "machine": {**asdict(limits), "rates": {short(dtype): value for dtype, value in limits.rates.items()}},
        "rays": len(batch.origins),
        "samples": len(batch.samples.t),
        "operations": rows,
        "iteration": iteration,
        "networks": network_rows,
        "stages": stages,
        "iterations_profiled": len(indices),
        "busy_share": share(stages, (*KERNELS, NETWORK)) if chosen == "native" else None,
        "curves": [{**asdict(curve), "exponent": curve.exponent} for curve in grown],
    }
    return results, grown


def operation_row(
    operation: Operation, backends: Sequence[str], repeats: int, seconds: float, limits: Machine
) -> dict[str, Any]:
    """Seconds and peak memory on each backend; the chosen backend's rates and their share of the machine's limits."""
    found, work = compare(operation, backends, repeats, seconds), operation.work
    flops, moved = (amount / found.seconds[backends[0]] for amount in (work.flops, work.bytes))
    return {
        "name": operation.name,
        **asdict(found),
        **asdict(work),
        "flops_per_second": flops,
        "flops_share": flops / limits.rates[torch.float32],
        "bytes_per_second": moved,
        "bytes_share": moved / limits.bandwidth,
    }


def iteration_row(replay: Replay, backends: Sequence[str], repeats: int, seconds: float) -> dict[str, Any]:
    """One iteration at the update's full size, always from the same state."""
    operation = curves.iteration(replay, replay.views, replay.size)
    found = compare(operation, backends, repeats, seconds)
    select(backends[0])
    count = networks.flops(operation.make())
    rates = {"flops": count, "flops_per_second": count / found.seconds[backends[0]]}
    return {"views": replay.views, **asdict(found), **rates}


def network_row(network: Network, limits: Machine, repeats: int, seconds: float) -> dict[str, Any]:
    """Seconds, peak memory, and the rate as a share of what the machine does in this number type."""
    peak = peak_bytes(network.call)
    median = medians(alternate({"call": network.call}, repeats, seconds))["call"]
    rate = network.flops / median
    return {
        "name": network.name,
        "dtype": short(network.dtype),
        "seconds": median,
        "peak_bytes": peak,
        "flops": network.flops,
        "flops_per_second": rate,
        "flops_share": rate / limits.rates[network.dtype],
    }


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def panels(grown: Sequence[Curve]) -> list[Panel]:
    """A panel for each axis; the torch twins are dashed beside compiled kernels."""
    compiled = any(curve.backend == "native" for curve in grown)
    found: dict[str, list[Line]] = {}
    for curve in grown:
        line = Line(curve.operation, curve.at, curve.seconds, dashed=compiled and curve.backend == "torch")
        found.setdefault(curve.axis, []).append(line)
    note = " (dashed: torch twin)" if compiled else ""
    return [Panel(f"seconds over {axis}{note}", TITLES[axis], lines) for axis, lines in found.items()]
