"""The light stage of the built-in prior: a few convolutions at full resolution that correct D where noise is low.

The UNet folds blocks of 4 x 4 pixels into channels, which is what makes it quick, and what it leaves of low noise has
the pattern of those blocks. That is small beside the picture itself: filters that see nothing of a constant, in units
of sigma, tell it apart (shrinkage of details, as Donoho and Johnstone 1994, but learned), and a few convolutions decide
what of it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.prior.builtin.layers import CONVOLUTION, LAYOUT, WAVES, fold, unfold, waves
from text23d.settings import Positive, whole

EMBEDDING = 64
SOFT = 4.0
"""A filter's answer, in units of sigma, that counts half."""


@dataclass(frozen=True)
class LightConfig:
    """patch: extent of the blocks folded into channels, 1 at full resolution; width: channels; blocks: residual ones;
    ceiling: the noise level from which on D is left alone."""

    patch: Annotated[int, whole(1, 64)] = 1
    width: Annotated[int, whole(1, 8192)] = 16
    blocks: Annotated[int, whole(1, 64)] = 3
    ceiling: Positive = 4.0


class Block(nn.Module):
    """conv, scale and shift by the embedding, SiLU, conv (starting at zero), plus the input. Without a norm: most of a
    picture is empty, and how much of it must not matter for the rest."""

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        convolution, self.spread = CONVOLUTION[dimensions], (1,) * dimensions
        self.conv1, self.conv2 = convolution(width, width, 3, padding=1), convolution(width, width, 3, padding=1)
        self.modulation = nn.Linear(EMBEDDING, 2 * width)
        for layer in (self.conv2, self.modulation):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).unflatten(1, (-1, *self.spread)).chunk(2, 1)
        return x + self.conv2(F.silu(torch.addcmul(shift, self.conv1(x), scale + 1)))


class LightStage(nn.Module):
    """F_light(D, F; log sigma / 4): by how much F is wrong, [B, C, *S]; 0 until it learns."""

    def __init__(self, config: LightConfig, channels: int, dimensions: int = 2) -> None:
        super().__init__()
        self.config, self.channels, self.dimensions = config, channels, dimensions
        convolution, width, folded = CONVOLUTION[dimensions], config.width, channels * config.patch**dimensions
        self.patches = (config.patch,) * dimensions
        self.details = convolution(folded, width, 3, padding=1, bias=False)
        self.inward = convolution(2 * folded, width, 3, padding=1)
        self.from_noise = nn.Linear(WAVES, EMBEDDING)
        self.blocks = nn.ModuleList(Block(width, dimensions) for _ in range(config.blocks))
        self.outward = convolution(width, folded, 3, padding=1)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def share(self, sigma: Tensor) -> Tensor:
        """How much of c_out the correction gets: 1 where there is no noise, falling to 0 at the ceiling."""
        return (1 - (sigma / self.config.ceiling).square()).clamp(min=0)

    def forward(self, d: Tensor, f: Tensor, noise: Tensor) -> Tensor:
        """d, f [B, C, *S], noise [B] -> [B, C, *S], in the number type of the convolutions."""
        layout = LAYOUT[self.dimensions]
        d, f = (fold(each, self.patches).contiguous(memory_format=layout) for each in (d, f))
        details = self.filtered(d)
        sigma = (4 * noise).exp().reshape(-1, *[1] * (self.dimensions + 1)).to(details.dtype)
        h = self.inward(torch.cat([d, f], 1)) + SOFT * F.softsign(details / (SOFT * sigma))
        e = F.silu(self.from_noise(waves(noise)))
        for block in self.blocks:
            h = block(h, e)
        return unfold(self.outward(F.silu(h)), self.patches)

    def filtered(self, d: Tensor) -> Tensor:
        """What the filters see of the folded D: as their weights are without their mean, nothing of a constant."""
        weight = self.details.weight.unflatten(1, (self.channels, -1))
        weight = weight - weight.mean(tuple(range(2, weight.dim())), keepdim=True)
        return self.details._conv_forward(d, weight.flatten(1, 2), None)
