"""What a run left, read again: the folder may be anybody's, and is data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from text23d.engine.resume import read_config
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.representation.image import MlpImage, PixelImage
from text23d.representation.nerf import Nerf
from text23d.settings import build

NERF, IMAGE = "nerf.safetensors", "image.safetensors"


def read_nerf(folder: Path, device: torch.device | str = "cpu") -> Nerf:
    """The NeRF that a run left in its folder. Raises UserError where it is missing or damaged, or where its own
    settings are not those in config.yaml."""
    cfg = read_config(folder)
    if (folder / IMAGE).is_file() and not (folder / NERF).is_file():
        raise UserError(f"the run in {folder} made an image, which has no mesh and no other sides: see image.png there")
    nerf: Nerf = _read(folder, NERF, cfg, Nerf)
    return nerf.to(device)


def read_image(folder: Path) -> PixelImage | MlpImage:
    """The picture that a run left in its folder, as it was optimised. Raises UserError as `read_nerf` does."""
    image: PixelImage | MlpImage = _read(folder, IMAGE, read_config(folder), PixelImage | MlpImage)
    return image


def _read(folder: Path, name: str, cfg: dict[str, Any], kind: Any) -> Any:
    tensors, facts = load_tensors(folder / name, Path(name).stem)
    settings = facts.get("representation", cfg["representation"])  # files of version 0.1.0 have none
    if settings != cfg["representation"]:
        raise UserError(
            f"{folder / 'config.yaml'} has another representation than {folder / name} was made with: restore it, or "
            "repeat the run"
        )
    phi = build(settings, "representation", kind)
    try:
        phi.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{folder / name} does not fit its own settings: repeat the run") from error
    return phi.eval().requires_grad_(False)
