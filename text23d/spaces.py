"""Picture space, in which priors of pictures work.

x [B, 4, H, W], row 0 at the top. Channels 0-2 are the colour composited over mid grey, 2 * premultiplied - alpha, in
[-1, 1]; channel 3 is coverage, 2 * alpha - 1, in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_picture(premultiplied: Tensor, alpha: Tensor) -> Tensor:
    """Premultiplied colour [..., 3, H, W] and alpha [..., 1, H, W], both in [0, 1] -> picture space [..., 4, H, W]."""
    return torch.cat([2 * premultiplied - alpha, 2 * alpha - 1], -3)


def from_picture(x: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `to_picture`: premultiplied colour [..., 3, H, W] and alpha [..., 1, H, W], not clamped."""
    alpha = (x[..., 3:, :, :] + 1) / 2
    return (x[..., :3, :, :] + alpha) / 2, alpha
