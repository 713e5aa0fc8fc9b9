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

from text23d.prior.builtin.layers import CONVOLUTION, LAYOUT, PLAIN
from text23d.settings import Positive, whole

SPAN = 3.0
"""Filters' answers are cut off at so many sigma: what is larger is no noise."""


@dataclass(frozen=True)
class LightConfig:
    """width: channels; blocks: residual ones; ceiling: the noise level from which on D is left alone."""

    width: Annotated[int, whole(1, 8192)] = 16
    blocks: Annotated[int, whole(1, 64)] = 3
    ceiling: Positive = 4.0


class Block(nn.Module):
    """conv, SiLU, conv (starting at zero), plus the input. Without a norm: most of a picture is empty, and how much of
    it must not matter for the rest."""

    def __init__(self, width: int, dimensions: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.conv1, self.conv2 = convolution(width, width, 3, padding=1), convolution(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(x)))


class LightStage(nn.Module):
    """F_light(D, F; log sigma / 4): by how much F is wrong, [B, C, *S]; 0 until it learns.

    The noise level is a channel of its own (Zhang et al. 2018, FFDNet): on a CPU, modulating channels by it as the UNet
    does takes longer than the convolutions between.
    """

    def __init__(self, config: LightConfig, channels: int, dimensions: int = 2) -> None:
        super().__init__()
        self.config, self.spread, self.layout = config, (-1, *[1] * (dimensions + 1)), LAYOUT[dimensions]
        convolution, width = CONVOLUTION[dimensions], config.width
        self.details = PLAIN[dimensions](channels, width, 3, padding=1, bias=False)
        self.inward = convolution(2 * channels + 1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width, dimensions) for _ in range(config.blocks)))
        self.outward = convolution(width, channels, 3, padding=1)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def share(self, sigma: Tensor) -> Tensor:
        """How much of c_out the correction gets: 1 where there is no noise, falling to 0 at the ceiling."""
        return (1 - (sigma / self.config.ceiling).square()).clamp(min=0)

    def forward(self, d: Tensor, f: Tensor, noise: Tensor) -> Tensor:
        """d, f [B, C, *S], noise [B] -> [B, C, *S], in the number type of the convolutions."""
        level = noise.reshape(self.spread)
        seen = torch.cat([d, f, level.expand_as(d[:, :1])], 1).contiguous(memory_format=self.layout)
        units = (d * (-4 * level).exp()).contiguous(memory_format=self.layout)
        h = self.inward(seen) + self.filtered(units).clamp(-SPAN, SPAN)
        return self.outward(F.silu(self.blocks(h)))

    def filtered(self, d: Tensor) -> Tensor:
        """What the filters see of d: as their weights are without their mean, nothing of a constant."""
        weight = self.details.weight
        means = weight.mean(tuple(range(2, weight.dim())), keepdim=True)
        return self.details._conv_forward(d, weight - means, None)
