"""What the stages of the built-in prior's network share: convolutions by dimension, folding, waves of a noise level."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

CONVOLUTION: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
LAYOUT = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
"""Of examples and weights by dimension, fastest first for convolutions."""
WAVES = 64
"""How many numbers `waves` makes of a noise level."""


def fold(x: Tensor, patches: tuple[int, ...]) -> Tensor:
    """[B, C, *S] -> [B, C prod(patches), *(S / patches)]: pixel unshuffle in any dimension."""
    d = len(patches)
    split = [part for side, patch in zip(x.shape[2:], patches, strict=True) for part in (side // patch, patch)]
    axes = [*range(3, 3 + 2 * d, 2), *range(2, 2 + 2 * d, 2)]  # the places inside a patch, then the patches
    return x.reshape(*x.shape[:2], *split).permute(0, 1, *axes).flatten(1, 1 + d)


def unfold(x: Tensor, patches: tuple[int, ...]) -> Tensor:
    """The inverse of `fold`."""
    d = len(patches)
    x = x.unflatten(1, (-1, *patches))  # [B, C, *patches, *S]
    axes = [axis for place in range(d) for axis in (2 + d + place, 2 + place)]
    shape = [side * patch for side, patch in zip(x.shape[2 + d :], patches, strict=True)]
    return x.permute(0, 1, *axes).reshape(*x.shape[:2], *shape)


def waves(noise: Tensor) -> Tensor:
    """log sigma / 4 [B] as sines and cosines of 32 frequencies, [B, WAVES]."""
    angle = noise[:, None] * torch.exp(torch.linspace(0.0, math.log(100.0), WAVES // 2, device=noise.device))
    return torch.cat([angle.sin(), angle.cos()], -1)
