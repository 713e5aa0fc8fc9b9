"""Convolutions by the dimension of examples, and the layout in memory that they are quickest in."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

CONVOLUTION: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
LAYOUT = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}
"""Of examples and weights by dimension, fastest first for convolutions."""
