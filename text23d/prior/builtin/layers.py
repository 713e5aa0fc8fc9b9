"""Convolutions by the dimension of examples, and the layouts in memory that they are quickest in."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrameConvolution(nn.Conv2d):
    """A convolution of each frame of clips [B, C, F, H, W]."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # In channels_last_3d none of these views copies anything.
        y = super()._conv_forward(x.transpose(1, 2).flatten(0, 1), weight, bias)
        return y.unflatten(0, (len(x), -1)).transpose(1, 2)


class TimedConvolution(FrameConvolution):
    """A convolution of clips: of each frame, and then of each channel along time ("(2+1)D", Tran et al. 2018, with a
    depthwise second half).

    Against one of three dimensions it has a third of the weights and, on CPUs, takes less than half the time. oneDNN's
    gradient of the weights of a Conv3d in bfloat16 reads memory that nobody wrote where extents are small; that of a
    Conv2d does not. Before training it leaves time alone, so that the weights of a prior of pictures can begin it.
    """

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inward, outward, kernel, stride, padding)
        self.steps, self.reach = stride, padding
        alone = torch.zeros(outward, 1, kernel, 1)
        alone[:, :, kernel // 2 : kernel // 2 + stride] = 1 / stride
        self.time = nn.Parameter(alone) if kernel > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.time is None:
            return y
        along = F.conv2d(y.flatten(3), self.time, None, (self.steps, 1), (self.reach, 0), groups=self.out_channels)
        return along.unflatten(3, y.shape[3:])


class Doubling(nn.ConvTranspose2d):
    """Clips [B, C, F, H, W] with twice each extent: a transposed convolution of each frame, which comes twice."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y = super().forward(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).transpose(1, 2)
        return y.repeat_interleave(2, 2)


PLAIN: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: FrameConvolution}
"""Convolutions by dimension: of clips, of each frame."""
CONVOLUTION = PLAIN | {3: TimedConvolution}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: Doubling}
LAYOUT = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
"""Of examples by dimension, fastest first for convolutions."""
WEIGHTS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last}
"""Of weights."""
