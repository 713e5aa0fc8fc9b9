"""How the seconds grow: with rays, samples, levels, views and the side of the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from text23d.kernels.layout import GridLayout
from text23d.representation.nerf import Nerf
from text23d.studies.benchmark.operations import (
    Operation,
    compare,
    compositing,
    encoding,
    fields,
    marching,
    points_on_rays,
    ray_batch,
    rendering,
)
from text23d.studies.benchmark.replay import Replay

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
    axis: str, values: Sequence[int], nerf: Nerf, replay: Replay, backends: Sequence[str], repeats: int, seconds: float
) -> list[Curve]:
    """The curves of all operations that have this axis, within about `seconds`."""
    found: dict[tuple[str, str], Curve] = {}
    for value in values:
        operations = along(axis, value, nerf, replay)
        for operation in operations:
            measured = compare(operation, backends, repeats, seconds / len(values) / len(operations))
            for backend in backends:
                name = operation.name
                curve = found.setdefault((name, backend), Curve(axis, name, backend, [], [], []))
                curve.at.append(value)
                curve.seconds.append(measured.seconds[backend])
                curve.peak_bytes.append(measured.peak_bytes[backend])
    return list(found.values())


def along(axis: str, value: int, nerf: Nerf, replay: Replay) -> list[Operation]:
    """The operations at this value of the axis; everything else as in the main job."""
    device = replay.device
    layout, hidden = nerf.encoding.layout, nerf.hidden
    if axis == "rays":  # in pictures of 16 x 16
        batch = ray_batch(nerf, value // 256, 16)
        return [marching(batch), *compositing(batch.samples.offsets)]
    if axis == "samples":
        offsets = torch.arange(0, value + 1, 16, device=device)
        points = points_on_rays(value, device)
        return [*encoding(points, layout), *fields(points, layout, hidden), *compositing(offsets)]
    if axis == "levels":
        spanned = GridLayout.spanning(value, layout.features, 15, 8, 128)
        return encoding(points_on_rays(LEVELS_AT, device), spanned)
    views, size = (value, 64) if axis == "views" else (replay.views, value)
    return [rendering(ray_batch(nerf, views, size)), iteration(replay, views, size)]


def iteration(replay: Replay, views: int, size: int) -> Operation:
    """A typical iteration of so many views, with the update at `size`."""
    return Operation("iteration", lambda: lambda: replay.iterate_at(views, size), before=replay.restore)
