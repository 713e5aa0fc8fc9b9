"""What a run left, read again: the folder may be anybody's, and is data."""

from __future__ import annotations

from pathlib import Path

import torch

from text23d.engine.resume import read_config
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.representation.nerf import Nerf
from text23d.settings import build

NERF, IMAGE = "nerf.safetensors", "image.safetensors"


def read_nerf(folder: Path, device: torch.device | str = "cpu") -> Nerf:
    """The NeRF that a run left in its folder. Raises UserError where it is missing or damaged, or where its own
    settings are not those in config.yaml."""
    cfg = read_config(folder)
    if (folder / IMAGE).is_file() and not (folder / NERF).is_file():
        raise UserError(f"the run in {folder} made an image, which has no mesh and no other sides: see image.png there")
    tensors, facts = load_tensors(folder / NERF, "nerf")
    settings = facts.get("representation", cfg["representation"])  # files of version 0.1.0 have none
    if settings != cfg["representation"]:
        raise UserError(
            f"{folder / 'config.yaml'} has another representation than {folder / NERF} was made with: restore it, or "
            "repeat the run"
        )
    nerf: Nerf = build(settings, "representation", Nerf)
    try:
        nerf.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{folder / NERF} does not fit its own settings: repeat the run") from error
    return nerf.to(device).eval().requires_grad_(False)
