"""About five seconds of the main job's own work, beside what this machine does at best in the same seconds.

What a machine should reach is a share of its own rates, measured a moment before: of its product of matrices in the
number type of the work. Expected is at least half of the lowest share that was recorded on the machines in RECORDED,
so that a machine of another kind is not called slow; a share far below says that something is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from text23d.compose import compose
from text23d.devices import find_device
from text23d.kernels.backend import backend
from text23d.kernels.threads import flush_denormals
from text23d.paths import weights_dir
from text23d.prior.builtin.prior import fast_precision
from text23d.studies.benchmark import machine, networks, operations
from text23d.studies.benchmark.replay import Replay
from text23d.studies.benchmark.timing import alternate, medians
from text23d.studies.doctor.finding import Finding, judged

SECONDS = 0.7
"""Spent on each of seven measurements."""
VIEWS = 8
RECORDED = {
    "field": {"AMD EPYC": 0.27, "Intel Xeon": 0.10},
    "field, backward": {"AMD EPYC": 0.26, "Intel Xeon": 0.09},
    "prior": {"AMD EPYC": 0.24, "Intel Xeon": 0.06},
}
"""Shares of the matrix product's rate that compiled kernels and the network reached: in outputs/benchmark/cpu.json, and
the least of 13 sittings of this check beside much other work (EXPERIMENTS.md). There is no record of a GPU."""
ADVICE = (
    "end other programs, and set OMP_NUM_THREADS to the cores that are free; text23d benchmark says where time goes"
)


def check(folder: Path) -> Iterator[Finding]:
    device = find_device("auto")
    flush_denormals(True)
    cfg = compose("config", ["prompt=a red car", f"method.views={VIEWS}"])
    replay = Replay(cfg, device, weights_dir() / "prior.safetensors")
    begun = f"the default run begins: {replay.iterations} iterations of {replay.views} views on {device}"
    yield Finding("first iteration", "ok", begun)
    limits = machine.measure(device, list(dict.fromkeys([torch.float32, fast_precision(device)])), 3 * SECONDS)
    yield best(limits)
    yield from fields(replay, limits)
    network = networks.builtin(replay, fast_precision(device))
    seconds = timed(network.call)
    share = network.flops / seconds / limits.rates[network.dtype]
    told = f"{replay.views / seconds:.0f} pictures/s in batches of {replay.views}"
    yield compared("prior", told, share, network.dtype, device, replay.views / seconds)


def best(limits: machine.Machine) -> Finding:
    """What the machine does at best."""
    rates = {str(dtype)[6:]: rate for dtype, rate in limits.rates.items()}
    told = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    load = "" if limits.facts["load"] is None else f", load {limits.facts['load']:.1f}"
    found = f"{limits.bandwidth / 1e9:.1f} GB/s, {told} (matrix product), {limits.facts['threads']} threads{load}"
    return Finding("machine", "ok", found, figures={"bandwidth": limits.bandwidth, **rates})


def fields(replay: Replay, limits: machine.Machine) -> Iterator[Finding]:
    """Density and colour of the points of one picture, and their gradients."""
    batch = operations.ray_batch(replay.untrained, 1, 64)
    points = (batch.samples.positions(batch.origins, batch.directions) + 1) / 2
    for operation in operations.fields(points, replay.untrained.encoding.layout, replay.untrained.hidden):
        seconds = timed(operation.make())
        rate, share = len(points) / seconds, operation.work.flops / seconds / limits.rates[torch.float32]
        told = f"{rate / 1e6:.1f} million points/s, {backend(replay.device.type)} kernels"
        yield compared(operation.name, told, share, torch.float32, replay.device, rate)


def compared(name: str, told: str, share: float, dtype: torch.dtype, device: torch.device, rate: float) -> Finding:
    """A rate per second, with its share of the matrix product's beside what is expected of it."""
    found, figures = f"{told}, {share:.0%} of the matrix product in {str(dtype)[6:]}", {"rate": rate, "share": share}
    if device.type != "cpu":
        return Finding(name, "ok", f"{found}; of a GPU there is no record to compare with", figures=figures)
    least = 0.5 * min(RECORDED[name].values())
    found = f"{found}, expected at least {least:.0%}"
    return judged(name, found, ADVICE, share < least, "warning", **figures, expected=least)


def timed(call: Callable[[], object]) -> float:
    """Median seconds of a call, after a first one."""
    call()
    return medians(alternate({"call": call}, 100, SECONDS))["call"]
