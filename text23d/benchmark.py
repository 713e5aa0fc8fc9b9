"""python -m text23d.benchmark: measured speed and memory of the kernels, the networks and an iteration, beside their
torch twins and what the machine could do."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("benchmark")  # which imports what follows once the command line is read

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from text23d.engine.build import make
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.kernels.backend import select
from text23d.prior.builtin.prior import fast_precision
from text23d.representation.nerf import Nerf
from text23d.studies.benchmark import curves, machine, networks, operations, plot, report
from text23d.studies.benchmark.clock import alternate, medians, peak_bytes
from text23d.studies.benchmark.curves import Curve
from text23d.studies.benchmark.job import KERNELS, NETWORKS, Job, random_prior, share, stage_seconds
from text23d.studies.benchmark.machine import Machine
from text23d.studies.benchmark.networks import Network
from text23d.studies.benchmark.operations import Operation, compare
from text23d.studies.benchmark.plot import Line, Panel

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


def run(cfg: DictConfig) -> None:
    check(cfg)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    device = cli.device(cfg.device)
    with random_prior(cfg.network) as weights:
        job = Job(cfg, device, weights)
        results, found = measure(cfg, job, device)
    folder = Path(cfg.folder)
    write_json(folder / f"{device.type}.json", results)
    write_text(folder / f"{device.type}.md", report.table(results))
    plot.draw(panels(found), folder / f"{device.type}.png")
    print(report.table(results), file=sys.stdout)


def check(cfg: DictConfig) -> None:
    """Raises UserError for settings out of range."""
    for name in ("repeats", "kernels.views", "kernels.size", "threads", "stable_diffusion"):
        value = OmegaConf.select(cfg, name)
        optional = name in ("threads", "stable_diffusion") and value is None
        if not optional and (type(value) is not int or value < 1):
            raise UserError(f"{name}={value}: expected a whole number, at least 1")
    if type(cfg.full) is not bool:
        raise UserError(f"full={cfg.full}: expected true or false")
    if cfg.seconds is not None and not (type(cfg.seconds) in (int, float) and cfg.seconds > 0):
        raise UserError(f"seconds={cfg.seconds}: expected a number above 0, or null")


def measure(cfg: DictConfig, job: Job, device: torch.device) -> tuple[dict[str, Any], list[Curve]]:
    """Everything, within about the seconds asked for; results as they are written, and the curves."""
    seconds = cfg.seconds or (FULL_SECONDS if cfg.full else QUICK_SECONDS)
    chosen = select("auto")
    backends = list(dict.fromkeys([chosen, "torch"]))
    seen = operations.scene(untrained(cfg, device), cfg.kernels.views, cfg.kernels.size)
    precision, half = fast_precision(device), torch.float16 if device.type == "cuda" else torch.float32
    limits = machine.measure(device, list(dict.fromkeys([torch.float32, precision, half])), 0.05 * seconds)
    rows = [
        operation_row(each, backends, cfg.repeats, 0.04 * seconds, limits)
        for each in [*operations.kernels(seen), *operations.rivals(seen), operations.rendering(seen)]
    ]
    iteration = iteration_row(job, backends, cfg.repeats, 0.2 * seconds)
    select(chosen)
    evaluated = [network_row(networks.builtin(job, precision), limits, cfg.repeats, 0.05 * seconds)]
    if cfg.stable_diffusion is not None:
        unet = networks.stable_diffusion(cfg.stable_diffusion, device, half)
        evaluated.append(network_row(unet, limits, cfg.repeats, 0.05 * seconds))
    indices = job.spread(PROFILED)
    stages = stage_seconds(job, indices)
    axes = curves.FULL if cfg.full else curves.QUICK
    share_of_axis = (0.7 if cfg.full else 0.2) * seconds / len(axes)
    grown = [
        curve
        for axis, values in axes.items()
        for curve in curves.grow(axis, values, seen.nerf, job, backends, cfg.repeats, share_of_axis)
    ]
    select(chosen)
    results = {
        "date": time.strftime("%Y-%m-%d"),
        "device": device.type,
        "backend": chosen,
        "machine": {**asdict(limits), "rates": {short(dtype): value for dtype, value in limits.rates.items()}},
        "rays": len(seen.origins),
        "samples": len(seen.samples.t),
        "operations": rows,
        "iteration": iteration,
        "networks": evaluated,
        "stages": stages,
        "iterations_profiled": len(indices),
        "busy_share": share(stages, (*KERNELS, *NETWORKS)),
        "curves": [{**asdict(curve), "exponent": curve.exponent} for curve in grown],
    }
    return results, grown


def untrained(cfg: DictConfig, device: torch.device) -> Nerf:
    """The field as a run begins with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        nerf: Nerf = make(cfg.representation).to(device)
    nerf.refresh_occupancy(0)
    return nerf


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


def iteration_row(job: Job, backends: Sequence[str], repeats: int, seconds: float) -> dict[str, Any]:
    """One iteration at the update's full size, always from the same state."""
    operation = curves.iteration(job, job.run.plan.views, job.size)
    found = compare(operation, backends, repeats, seconds)
    select(backends[0])
    count = networks.flops(operation.make())
    rates = {"flops": count, "flops_per_second": count / found.seconds[backends[0]]}
    return {"views": job.run.plan.views, **asdict(found), **rates}


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
