"""Pictures as unfinished work might show them, and their pieces in another order: what judges are hardened with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EMPTY = torch.tensor([0.0, 0.0, 0.0, -1.0])[:, None, None]
"""A pixel of nothing, in picture space."""


def corrupt(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, 4, H, W] in picture space as a NeRF might show them: moved, scaled, blurred, faded, noisy, and
    before other backgrounds, each at random. Clips [B, 4, F, H, W] are corrupted alike in all their frames, but for the
    noise.

    The judge must know a blurred car for a car, or it would score sharpness and not the thing.
    """
    b, device, frames = len(x), x.device, x.shape[2] if x.dim() == 5 else 0
    if frames:
        x = x.transpose(1, 2).flatten(0, 1)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        drawn = (low + (high - low) * torch.rand(b, *shape, generator=generator)).to(device)
        return drawn.repeat_interleave(frames, 0) if frames else drawn

    scale, turn = uniform(0.85, 1.2), uniform(-0.1, 0.1)
    move = uniform(-0.12, 0.12, 2)
    affine = torch.stack([turn.cos() / scale, -turn.sin() / scale, turn.sin() / scale, turn.cos() / scale], -1)
    affine = torch.cat([affine.unflatten(1, (2, 2)), move[:, :, None]], -1)
    empty = EMPTY.to(device)
    x = empty + F.grid_sample(x - empty, F.affine_grid(affine, list(x.shape), align_corners=False), align_corners=False)
    soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    x = torch.lerp(x, soft, uniform(0.0, 1.0, 1, 1, 1))
    gain, offset = uniform(0.85, 1.15, 1, 1, 1), uniform(-0.08, 0.08, 3, 1, 1)
    alpha = (x[:, 3:] + 1) / 2
    ground = uniform(-0.7, 0.7, 3, 1, 1) * (uniform(0.0, 1.0, 1, 1, 1) < 0.4)
    x = torch.cat([x[:, :3] * gain + offset * alpha + ground * (1 - alpha), x[:, 3:]], 1)
    noise = torch.randn(x.shape, generator=generator).to(device)
    x = x + uniform(0.0, 0.15, 1, 1, 1) * noise
    return x.unflatten(0, (b, frames)).transpose(1, 2) if frames else x


def scramble(x: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, C, H, W] cut in 16 or 64 tiles and put together at random: its pieces, and not the thing."""
    tiles = 4 if torch.rand((), generator=generator) < 0.5 else 8
    b, c, h, w = x.shape
    cut = x.reshape(b, c, tiles, h // tiles, tiles, w // tiles).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(b, tiles**2, generator=generator).argsort(-1).to(x.device)
    cut = cut.gather(1, order[:, :, None, None, None].expand_as(cut)).unflatten(1, (tiles, tiles))
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)
