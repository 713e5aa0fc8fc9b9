"""How the seconds grow: with rays, samples, levels, views and the side of the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from text23d.kernels.layout import GridLayout
from text23d.method.schedule import Constant
from text23d.representation.nerf import Nerf
from text23d.studies.benchmark.job import Job
from text23d.studies.benchmark.operations import (
    Operation,
    compare,
    compositing,
    encoding,
    fields,
    marching,
    points_on_rays,
    rendering,
    scene,
)

QUICK = {"rays": (512, 4096, 32768), "samples": (8192, 32768, 131072)}
FULL = {
    "rays": (512, 2048, 8192, 32768, 131072),
    "samples": (2048, 8192, 32768, 131072, 524288),
    "levels": (2, 4, 8, 16, 32),
    "views": (1, 2, 4, 8),
    "size": (16, 32, 64),  # an iteration of the torch twin at 128 takes a minute
}
LEVELS_AT = 131072
"""Points at which levels are counted."""


@dataclass(frozen=True)
class Curve:
    """Seconds and peak memory of an operation on a backend, over values of an axis."""

    axis: str
    operation: str
    backend: str
    at: list[int]
    seconds: list[float]
    peak_bytes: list[int]

    @property
    def exponent(self) -> float:
        """p of the power law seconds ~ at^p that fits best: the slope between the logarithms. 1 is linear."""
        x, y = ([math.log(value) for value in values] for values in (self.at, self.seconds))
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        return rise / sum((a - mean_x) ** 2 for a in x)


def grow(
    axis: str, values: Sequence[int], nerf: Nerf, job: Job, backends: Sequence[str], repeats: int, seconds: float
) -> list[Curve]:
    """The curves of all operations that have this axis, within about `seconds`."""
    found: dict[tuple[str, str], Curve] = {}
    for value in values:
        operations = along(axis, value, nerf, job)
        for operation in operations:
            measured = compare(operation, backends, repeats, seconds / len(values) / len(operations))
            for backend in backends:
                name = operation.name
                curve = found.setdefault((name, backend), Curve(axis, name, backend, [], [], []))
                curve.at.append(value)
                curve.seconds.append(measured.seconds[backend])
                curve.peak_bytes.append(measured.peak_bytes[backend])
    return list(found.values())


def along(axis: str, value: int, nerf: Nerf, job: Job) -> list[Operation]:
    """The operations at this value of the axis; everything else as in the main job."""
    device = job.run.device
    layout, hidden = nerf.encoding.layout, nerf.hidden
    if axis == "rays":  # in pictures of 16 x 16
        seen = scene(nerf, value // 256, 16)
        return [marching(seen), *compositing(seen.samples.offsets)]
    if axis == "samples":
        offsets = torch.arange(0, value + 1, 16, device=device)
        points = points_on_rays(value, device)
        return [*encoding(points, layout), *fields(points, layout, hidden), *compositing(offsets)]
    if axis == "levels":
        spanned = GridLayout.spanning(value, layout.features, 15, 8, 128)
        return encoding(points_on_rays(LEVELS_AT, device), spanned)
    views, size = (value, 64) if axis == "views" else (job.run.plan.views, value)
    return [rendering(scene(nerf, views, size)), iteration(job, views, size)]


def iteration(job: Job, views: int, size: int) -> Operation:
    """A typical iteration of so many views, with the update at `size`."""
    changed, plan = replace(job.run.plan, views=views, size=Constant(size)), job.run.plan

    def call() -> None:
        job.run.plan = changed
        try:
            job.iterate(job.typical)
        finally:
            job.run.plan = plan

    return Operation("iteration", lambda: call, before=job.restore)
