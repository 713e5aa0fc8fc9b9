"""A learnable multiresolution hash grid over [-1, 1]^3 (Müller et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Protocol

import torch
from torch import Tensor, nn

from text23d.errors import UserError
from text23d.kernels import ops
from text23d.kernels.layout import GridLayout
from text23d.memory import expect_room
from text23d.settings import whole

Levels = Annotated[int, whole(2, 64)]
Features = Annotated[int, whole(1, 64)]
Log2 = Annotated[int, whole(1, 30)]
Cells = Annotated[int, whole(1, 2**20)]


class Encoding(Protocol):
    """Features of points of the cube [-1, 1]^3, learnt: a torch module."""

    @property
    def out_features(self) -> int: ...

    def forward(self, x: Tensor) -> Tensor:
        """Points [N, 3] -> [N, out_features]."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


def spanning(levels: int, features: int, log2_table: int, base: int, finest: int) -> GridLayout:
    """`GridLayout.spanning`; raises UserError where the levels do not go up."""
    if finest < base:
        raise UserError(
            f"a hash grid from base={base} to finest={finest} cells an axis: expected finest, at least base"
        )
    return GridLayout.spanning(levels, features, log2_table, base, finest)


class HashGrid(nn.Module):
    """Features of points of the cube [-1, 1]^3, looked up trilinearly in `layout.levels` grids.

    levels, features, log2_table   see `GridLayout`.
    base, finest                   cells per axis of the coarsest and finest level; those between run geometrically.
    generator                      draws the table, uniform in [-1e-4, 1e-4] (section 4); None: torch's default one.
    dtype                          float32 or float64.

    Raises UserError where the levels do not go up, and where the table would not fit into memory.
    """

    def __init__(
        self,
        levels: Levels = 12,
        features: Features = 2,
        log2_table: Log2 = 16,
        base: Cells = 8,
        finest: Cells = 256,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.layout = spanning(levels, features, log2_table, base, finest)
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
