"""Weights in 8 bits, half the size of float16: rows of a matrix as whole numbers times a scale of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from text23d.errors import UserError

LEAST = 4096
"""Numbers in the smallest tensor that is worth it."""
SCALE = ".scale"
"""Ends the name of the scales of a packed tensor."""


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Large matrices and kernels [N, *S] as int8 in [-127, 127] with a scale [N] of each row, its largest number's;
    others as float16."""
    made = {}
    for name, weight in tensors.items():
        if weight.dim() < 2 or weight.numel() < LEAST:
            made[name] = weight.half().contiguous().cpu()
            continue
        rows = weight.float().flatten(1).cpu()
        scale = rows.abs().amax(1).clamp(min=1e-12) / 127
        made[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(weight.shape)
        made[name + SCALE] = scale
    return made


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `packed`, within half a step of each row; what is not packed stays as it is. Raises UserError
    where scales are missing, or not one for each row."""
    made = {name: weight for name, weight in tensors.items() if not name.endswith(SCALE)}
    for name, weight in made.items():
        if weight.dtype == torch.int8:
            scale = tensors.get(name + SCALE)
            if scale is None or scale.shape != weight.shape[:1] or weight.dim() < 2:
                raise UserError(f"{name} has no scale for each of its rows")
            made[name] = weight.float() * scale.float().reshape(-1, *[1] * (weight.dim() - 1))
    return made
