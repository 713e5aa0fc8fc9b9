"""The toy box's own objects, meshed and seen as NeRFs are: what the figures of meshes are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from text23d.artifact.cast import cast
from text23d.artifact.mesh import SIDE, extract
from text23d.artifact.score import half_covered, look, overlap
from text23d.artifact.shape import shape
from text23d.meter import Meter
from text23d.studies.suite import Suite
from text23d.tasks.meshing import SCORED_SIZE, MeshSettings, scored
from text23d.worlds.objects.parts import Mesh, Object
from text23d.worlds.objects.render import pictures, render
from text23d.worlds.objects.scene import make

DENSE = 100.0  # per scene unit, of a solid: a ray is half absorbed within half a cell of the default resolution
COLUMNS = 2  # along a side of a cell, by whose centres its share is measured
PASSED = 1e-5  # scene units behind a face from which the next one is looked for


def world_meshes(suite: Suite, seed: int, settings: MeshSettings) -> dict[str, dict[str, float]]:
    """For each prompt, what the mesh of an object of the world measures, as the mesh of a run is measured."""
    cameras, found = scored(), {}
    for number, prompt in enumerate(Meter().along(suite.prompts, "meshes of the world, prompt")):
        thing = make(suite.caption[prompt], np.random.default_rng([seed, number, 0]))
        seen = pictures(render(thing, cameras, size=SCORED_SIZE))
        found[prompt] = measured(filled(thing, settings.resolution), seen, settings)
    return found


def measured(volume: np.ndarray, seen: Tensor, settings: MeshSettings) -> dict[str, Any]:
    """The figures of the mesh of what fills the cells by `volume` [R, R, R], beside pictures of it in picture space by
    the `scored` cameras."""
    field = DENSE * torch.from_numpy(volume).permute(2, 1, 0)[None, None]

    def density(points: Tensor) -> Tensor:
        return grid_sample(field, points.view(1, 1, 1, -1, 3), align_corners=False).view(-1)

    mesh = extract(density, len(volume), settings.threshold, settings.faces)
    hit, _ = look(mesh, scored(), seen.shape[-1])
    covered = (seen[:, 3] > 0).numpy()  # alpha above 1/2
    return {**shape(mesh), "iou": overlap(covered, hit), "half_covered": half_covered(seen)}


def filled(thing: Object, resolution: int) -> np.ndarray:
    """The share [R, R, R] (x, y, z; float32) of each cell of the cube [-1, 1]^3 that the solids of `thing` fill: exact
    along Z, the mean of COLUMNS^2 columns across; of solids that overlap in a column, the one that fills more."""
    fine = COLUMNS * resolution
    share = np.zeros((fine, fine, resolution), np.float32)
    for part in thing.parts:
        _fill(share, part.mesh)
    return share.reshape(resolution, COLUMNS, resolution, COLUMNS, resolution).mean((1, 3))


def _fill(share: np.ndarray, mesh: Mesh) -> None:
    """Raise the share of the cells of columns [N, N, R] to that of a closed solid: from each face that a ray upwards
    enters to the one that it leaves by."""
    fine, _, resolution = share.shape
    reach = (mesh.vertices[:, :2] / SIDE + 0.5) * fine
    first, last = reach.min(0).astype(int).clip(0), (reach.max(0).astype(int) + 1).clip(max=fine)
    x, y = (each.ravel() for each in np.mgrid[first[0] : last[0], first[1] : last[1]])
    floor = np.linspace(-SIDE / 2, SIDE / 2, resolution + 1)
    origins = np.stack([(x + 0.5) * SIDE / fine - 1, (y + 0.5) * SIDE / fine - 1, np.full(len(x), -2.0)], -1)
    while len(x):
        bottom = _above(mesh, origins)
        origins[:, 2] = bottom + PASSED
        top = _above(mesh, origins)
        inside = np.minimum(top[:, None], floor[1:]) - np.maximum(bottom[:, None], floor[:-1])
        share[x, y] = np.maximum(share[x, y], inside.clip(0) * (resolution / SIDE))
        origins[:, 2] = top + PASSED
        on = np.isfinite(top)
        x, y, origins = x[on], y[on], origins[on]


def _above(mesh: Mesh, origins: np.ndarray) -> np.ndarray:
    """The height [N] of the first face above points [N, 3]; inf where there is none, and above inf."""
    height, there = np.full(len(origins), np.inf), np.isfinite(origins[:, 2])
    up = np.broadcast_to((0.0, 0.0, 1.0), origins[there].shape)
    height[there] = origins[there, 2] + cast(mesh.vertices, mesh.faces, origins[there], up).distance
    return height
