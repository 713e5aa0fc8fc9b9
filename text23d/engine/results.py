"""What a run leaves in its folder: pictures as it goes, then video, mesh and score."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text23d.artifact import media
from text23d.artifact.mesh import EmptyField
from text23d.contracts import Cameras, from_picture
from text23d.engine.build import Run
from text23d.engine.meshing import MeshSettings, export
from text23d.files import save_tensors
from text23d.judge.network import Asked, Judge
from text23d.representation.cameras import orbit
from text23d.representation.nerf import Nerf

AZIMUTHS = 8
SHEET_SIZE = 128
JUDGED_ELEVATIONS = (0.0, 15.0, 30.0)


class ContactSheet:
    """contact.png: a row of AZIMUTHS views for every stage of the run so far, written anew with each row."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, list[tuple[str, list[np.ndarray]]]()

    def add(self, label: str, nerf: Nerf, device: torch.device) -> None:
        """Render the NeRF as it is now and write the sheet. Raises UserError if it cannot be written."""
        views = orbit(AZIMUTHS, 15.0)
        pictures = list(on_white(nerf.render_image(views.to(device), SHEET_SIZE)))
        self.rows.append((label, pictures))
        media.contact_sheet(self.rows, self.path, [f"azimuth {azimuth:.0f}" for azimuth in views.azimuth.tolist()])


def on_white(x: Tensor) -> np.ndarray:
    """Picture space [B, 4, H, W] -> uint8 [B, H, W, 3] over white."""
    return media.composite_on(media.WHITE, *from_picture(x))


def frames(nerf: Nerf, count: int, size: int, device: torch.device) -> Iterator[np.ndarray]:
    """The pictures of one turn around the object, one by one, uint8 [size, size, 3]."""
    views = orbit(count, 20.0).to(device)
    for index in range(count):
        yield from on_white(nerf.render_image(views.rows(slice(index, index + 1)), size))


def write_mesh(run: Run, folder: Path, settings: MeshSettings) -> dict[str, Any]:
    """The mesh in its files, named after the prompt; returns what reading them back found. A field without a surface
    leaves none, and its reason among the notes. Raises UserError if a file cannot be written."""
    try:
        return export(run.nerf, run.prompt, folder, settings, run.device)
    except EmptyField as error:
        return {"faces": 0, "watertight": False, "files": {}, "notes": [f"no mesh: {error}"]}


def judged_views(device: torch.device) -> Cameras:
    """24 cameras: 8 azimuths at each of JUDGED_ELEVATIONS."""
    return Cameras.cat([orbit(AZIMUTHS, elevation) for elevation in JUDGED_ELEVATIONS]).to(device)


def score(run: Run, judge: Judge) -> dict[str, float] | None:
    """The judge's mean probability and accuracy of the prompt's kind and colours over `judged_views`.

    None for what the judge knows nothing of: a prompt from outside the toy world, one without a kind, a pair.
    """
    caption = run.caption
    if caption is None or caption.kind is None or caption.other is not None:
        return None
    pictures = run.nerf.render_image(judged_views(run.device), run.pair.size).cpu()
    return judge.score(pictures, Asked(caption.kind, caption.colour, caption.parts))


def save_nerf(run: Run, path: Path) -> None:
    """The NeRF's weights and occupancy as safetensors."""
    # One note: safetensors writes several in an order that changes from run to run.
    facts = {"prompt": run.prompt, "iteration": run.iteration}
    save_tensors(path, run.nerf.state_dict(), {"run": json.dumps(facts)})
