"""An object: a NeRF seen from all sides, which leaves a turntable and a mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.albedo import Light
from text23d.artifact.media import on_white, turntable
from text23d.artifact.mesh import EmptyField
from text23d.cameras import Cameras, orbit
from text23d.contracts import Constraint, Exported, Progress, Sampler, Shape, Stage, Task, each
from text23d.errors import UserError
from text23d.representation.nerf import Nerf
from text23d.representation.sdf import SdfNerf
from text23d.settings import read, whole
from text23d.tasks.building import seeded
from text23d.tasks.lighting import light_of
from text23d.tasks.meshing import MeshSettings, export

AZIMUTHS = 8
COARSE = 32
"""Side of the pictures that tell whether there is anything, or anything but a wall."""
PREVIEW_SIZE = 128
JUDGED_ELEVATIONS = (0.0, 15.0, 30.0)
TURNTABLE_ELEVATION = 20.0


@dataclass(frozen=True)
class Turntable:
    """frames of one turn, each of size x size pixels. Raises UserError for a size that is not divisible by 16."""

    frames: Annotated[int, whole(1, 10_000)] = 72
    size: Annotated[int, whole(16, 2048)] = 256

    def __post_init__(self) -> None:
        if self.size % 16:
            raise UserError(f"turntable.size={self.size}: expected a number divisible by 16, for the video's sake")


@dataclass(frozen=True)
class ObjectTask:
    """Implements `contracts.Task`."""

    turntable: Turntable
    mesh: MeshSettings
    light: Light | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    file = "nerf.safetensors"
    columns = tuple(f"azimuth {360 * index // AZIMUTHS}" for index in range(AZIMUTHS))
    single = False
    regions = None

    def build(self, section: Mapping[str, Any], seed: int, device: torch.device) -> Nerf:
        return seeded(section, seed, device, (Nerf, SdfNerf), "object")

    def bound(self, views: Sampler, constraint: Constraint[Any], device: torch.device) -> Task:
        return replace(self, device=device)

    def prepare(self, phi: Nerf, iteration: int, draw: Callable[[str], torch.Generator]) -> None:
        phi.refresh_occupancy(iteration, draw("occupancy"))

    def penalty(
        self, phi: Nerf, progress: float, draw: Callable[[str], torch.Generator]
    ) -> Callable[[], Tensor] | None:
        return phi.penalty(progress, draw("surface"))

    def fault(self, phi: Nerf) -> str:
        """Whether no ray, or nearly every ray that comes nearer to the centre than 0.9, is stopped: nearer to the edge
        of the ball of radius 1 the way through it is short."""
        views = orbit(AZIMUTHS, 15.0).to(self.device)
        origins, directions = views.rays((COARSE, COARSE))
        closest = torch.linalg.cross(origins, directions).norm(dim=-1)
        alpha = (phi.render_image(views, COARSE)[:, 3] + 1) / 2
        if alpha.max() < 0.05:
            return "the field is empty: no picture shows anything"
        if (alpha[closest < 0.9] > 0.99).float().mean() > 0.995:
            return "the field is opaque: all pictures show a full ball"
        return ""

    def preview(self, phi: Nerf) -> Tensor:
        """From AZIMUTHS sides."""
        return phi.render_image(orbit(AZIMUTHS, 15.0).to(self.device), PREVIEW_SIZE)

    def judged(self, phi: Nerf, shape: Shape) -> list[Tensor]:
        return [phi.render_image(judged_views(self.device), shape)]

    def export(self, phi: Nerf, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """turntable.mp4 and the mesh's files."""
        with stage("turntable"):
            turntable(turn(phi, self.turntable, self.device, progress), folder / "turntable.mp4")
        with stage("mesh"):
            mesh = write_mesh(phi, prompt, folder, self.mesh, self.device, self.light)
        return Exported({"mesh": mesh}, told(mesh), mesh["notes"])


def task(settings: Mapping[str, Any]) -> ObjectTask:
    """The task of a configuration, of which it reads the sections `turntable` and `mesh`, and the light of its world.
    Raises UserError for values out of range."""
    turntable, mesh = (settings.get(name, {}) for name in ("turntable", "mesh"))
    return ObjectTask(read(Turntable, turntable, "turntable."), read(MeshSettings, mesh, "mesh."), light_of(settings))


def judged_views(device: torch.device) -> Cameras:
    """24 cameras: 8 azimuths at each of JUDGED_ELEVATIONS."""
    return Cameras.cat([orbit(AZIMUTHS, elevation) for elevation in JUDGED_ELEVATIONS]).to(device)


def turn(nerf: Nerf, settings: Turntable, device: torch.device, progress: Progress) -> Iterator[np.ndarray]:
    """The pictures of one turn around the object, one by one, uint8 [size, size, 3]."""
    for index, view in enumerate(each(orbit(settings.frames, TURNTABLE_ELEVATION).to(device)), 1):
        yield from on_white(nerf.render_image(view, settings.size))
        progress("turntable", index, settings.frames)


def told(mesh: Mapping[str, Any]) -> str:
    """What a run says of its mesh in its last line."""
    if not mesh["files"]:
        return "no mesh"
    bodies = "1 body" if mesh["bodies"] == 1 else f"{mesh['bodies']} bodies"
    shape = f"{mesh['faces']} faces, {bodies}, genus {mesh['genus']}, roughness {mesh['roughness']:.1f} degrees"
    return f"{shape}, IoU {mesh['iou']:.2f}, {mesh['psnr']:.0f} dB"


def write_mesh(
    nerf: Nerf, name: str, folder: Path, settings: MeshSettings, device: torch.device, light: Light | None
) -> dict[str, Any]:
    """The mesh in its files; returns what reading them back found. A field without a surface leaves none, and its
    reason among the notes. Raises UserError if a file cannot be written."""
    try:
        return export(nerf, name, folder, settings, device, light=light)
    except EmptyField as error:
        return {"faces": 0, "watertight": False, "files": {}, "notes": [f"no mesh: {error}"]}
