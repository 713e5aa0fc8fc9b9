"""A NeRF as what a run makes: seen from all sides, it leaves a turntable and a mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from text23d.artifact.media import on_white, turntable
from text23d.artifact.mesh import EmptyField
from text23d.cameras import Cameras, orbit
from text23d.clock import Clock
from text23d.method.proposal import Rng
from text23d.representation.nerf import Nerf
from text23d.tasks.meshing import MeshSettings, export, read_settings
from text23d.tasks.task import Left

AZIMUTHS = 8
SHEET_SIZE = 128
JUDGED_ELEVATIONS = (0.0, 15.0, 30.0)


@dataclass(frozen=True)
class Solid:
    """Implements `subject.Subject`."""

    phi: Nerf
    device: torch.device

    file = "nerf.safetensors"
    columns = [f"azimuth {360 * index // AZIMUTHS}" for index in range(AZIMUTHS)]

    def prepare(self, iteration: int, draw: Rng) -> None:
        self.phi.refresh_occupancy(iteration, draw("occupancy"))

    def sheet(self) -> Tensor:
        """From AZIMUTHS sides."""
        return self.phi.render_image(orbit(AZIMUTHS, 15.0).to(self.device), SHEET_SIZE)

    def judged(self, size: int) -> Tensor:
        return self.phi.render_image(judged_views(self.device), size)

    def leave(self, prompt: str, folder: Path, cfg: DictConfig, clock: Clock) -> Left:
        """turntable.mp4 and the mesh's files."""
        with clock.stage("turntable"):
            frames = turn(self.phi, cfg.turntable.frames, cfg.turntable.size, self.device)
            turntable(frames, folder / "turntable.mp4")
        with clock.stage("mesh"):
            mesh = write_mesh(self.phi, prompt, folder, read_settings(cfg.mesh, "mesh."), self.device)
        fit = f", IoU {mesh['iou']:.2f}, {mesh['psnr']:.0f} dB" if mesh["files"] else ""
        return Left({"mesh": mesh}, f"{mesh['faces']} faces{fit}", mesh["notes"])


def judged_views(device: torch.device) -> Cameras:
    """24 cameras: 8 azimuths at each of JUDGED_ELEVATIONS."""
    return Cameras.cat([orbit(AZIMUTHS, elevation) for elevation in JUDGED_ELEVATIONS]).to(device)


def turn(nerf: Nerf, count: int, size: int, device: torch.device) -> Iterator[np.ndarray]:
    """The pictures of one turn around the object, one by one, uint8 [size, size, 3]."""
    for view in orbit(count, 20.0).to(device).each():
        yield from on_white(nerf.render_image(view, size))


def write_mesh(nerf: Nerf, name: str, folder: Path, settings: MeshSettings, device: torch.device) -> dict[str, Any]:
    """The mesh in its files; returns what reading them back found. A field without a surface leaves none, and its
    reason among the notes. Raises UserError if a file cannot be written."""
    try:
        return export(nerf, name, folder, settings, device)
    except EmptyField as error:
        return {"faces": 0, "watertight": False, "files": {}, "notes": [f"no mesh: {error}"]}
