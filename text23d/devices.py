"""Where to compute."""

from __future__ import annotations

import torch

from text23d.errors import UserError


def find_device(name: str) -> torch.device:
    """auto, cpu or cuda as a torch device. Raises UserError for other names and where there is no GPU."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device=cuda: no GPU is visible to torch; use device=auto, or check python -m torch.utils.collect_env"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
