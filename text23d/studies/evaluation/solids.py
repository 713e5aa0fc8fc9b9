"""The toy box's own objects, meshed and seen as NeRFs are: what the figures of meshes are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from text23d.artifact.cast import cast
from text23d.artifact.mesh import SIDE, extract
from text23d.artifact.shape import shape
from text23d.cameras import Cameras
from text23d.files import read_json, write_json
from text23d.meter import Meter
from text23d.paths import slug
from text23d.studies.records import check_settings, number, reading
from text23d.studies.runs import MESH
from text23d.studies.suite import WORLD, Suite
from text23d.tasks.meshing import MeshSettings, export
from text23d.worlds.objects.parts import Mesh, Object
from text23d.worlds.objects.render import pictures, render
from text23d.worlds.objects.scene import make

DENSE = 100.0  # per scene unit, of a solid: a ray is half absorbed within half a cell of the default resolution
COLUMNS = 2  # along a side of a cell, by whose centres its share is measured
PASSED = 1e-5  # scene units behind a face from which the next one is looked for
OBJECTS = 4  # of a prompt whose genus is looked at: that of one kind differs with the bars and loops it is given
GENUS = ("genus_least", "genus_most")
REPORT = "mesh.json"


def world_meshes(suite: Suite, folder: Path, seed: int, settings: MeshSettings) -> dict[str, dict[str, float]]:
    """For each prompt the MESH figures of an object of the world, exported below `folder` as a run exports its mesh,
    and the least and the greatest GENUS of OBJECTS of them. What is there already is not made again.

    Raises UserError where the folder holds meshes of other settings.
    """
    check_settings(folder, {"mesh": asdict(settings), "seed": seed})
    found = {}
    for index, prompt in enumerate(Meter().along(suite.prompts, "meshes of the world, prompt")):
        path = world_folder(folder, prompt) / REPORT
        if not path.exists():
            solids = [
                Solid(make(suite.caption[prompt], np.random.default_rng([seed, index, one])), settings.resolution)
                for one in range(OBJECTS)
            ]
            write_json(path, measured(solids, prompt, path.parent, settings))
        report = read_json(path)
        with reading(path):
            found[prompt] = {name: number(report, name) for name in (*MESH, *GENUS)}
    return found


def world_folder(folder: Path, prompt: str) -> Path:
    """Where the mesh of the world's own object for a prompt lies."""
    return folder / slug(prompt)


class Solid:
    """An object of the world as a field, of which an export asks what it asks of a NeRF (`meshing.Radiance`)."""

    def __init__(self, thing: Object, resolution: int) -> None:
        self.thing = thing
        share = torch.from_numpy(filled(thing, resolution)).permute(2, 1, 0)  # z, y, x, as grid_sample takes a volume
        self.field = DENSE * share[None, None]
        self.colour = torch.tensor([part.colour for part in thing.parts], dtype=torch.float32).mean(0)

    @property
    def occupancy(self) -> Solid:
        return self

    def occupied(self, points: Tensor) -> Tensor:
        return self.density(points) > 0

    def density(self, x: Tensor) -> Tensor:
        return grid_sample(self.field, x.view(1, 1, 1, -1, 3), align_corners=False).view(-1)

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The colour, which paints what no picture shows, is the mean of the parts'."""
        return self.density(x), self.colour.expand(len(x), 3)

    def render_image(self, views: Cameras, shape: int) -> Tensor:
        return pictures(render(self.thing, views, size=shape))


def measured(solids: Sequence[Solid], name: str, folder: Path, settings: MeshSettings) -> dict[str, Any]:
    """What the export of the first of the solids finds of its mesh, and the least and the greatest GENUS of all."""
    report = export(solids[0], name, folder, replace(settings, format=("glb",)), torch.device("cpu"), light=WORLD.light)
    others = (extract(each.density, settings.resolution, settings.threshold, settings.faces) for each in solids[1:])
    genera = [report["genus"], *(shape(mesh)["genus"] for mesh in others)]
    return {**report, **dict(zip(GENUS, (min(genera), max(genera)), strict=True))}


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
