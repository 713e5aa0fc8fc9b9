"""A learnable multiresolution hash grid over [-1, 1]^3 (Müller et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from text23d.kernels import ops
from text23d.kernels.layout import GridLayout
from text23d.kernels.memory import expect_room


class HashGrid(nn.Module):
    """Features of points of the cube [-1, 1]^3, looked up trilinearly in `layout.levels` grids.

    levels, features, log2_table   see `GridLayout`.
    base, finest                   cells per axis of the coarsest and finest level; those between run geometrically.
    generator                      draws the table, uniform in [-1e-4, 1e-4] (section 4); None: torch's default one.
    dtype                          float32 or float64.

    Raises ValueError where `GridLayout` does, UserError where the table would not fit into memory.
    """

    def __init__(
        self,
        levels: int = 12,
        features: int = 2,
        log2_table: int = 16,
        base: int = 8,
        finest: int = 256,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.layout = GridLayout.spanning(levels, features, log2_table, base, finest)
        wanted = 4 * self.layout.entries * features * dtype.itemsize  # with its gradient and Adam's moments
        expect_room(wanted, torch.device("cpu"), str(self.layout), "lower log2_table, levels or features")
        table = torch.empty(self.layout.entries, features, dtype=dtype)
        self.table = nn.Parameter(table.uniform_(-1e-4, 1e-4, generator=generator))

    @property
    def out_features(self) -> int:
        """Columns of an encoding."""
        return self.layout.out_features

    def forward(self, x: Tensor) -> Tensor:
        """World points x [N, 3] in [-1, 1], clamped to it -> features [N, out_features], differentiable in x."""
        return ops.encode((x + 1) / 2, self.table, self.layout)

    def extra_repr(self) -> str:
        return f"{self.layout}, cells {self.layout.resolutions}, {self.layout.entries} entries"
