"""tiny-cuda-nn's hash grid (Müller 2021) as another encoding, where that package is installed."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor, nn

from text23d.errors import UserError
from text23d.representation.hashgrid import Cells, Features, Levels, Log2, spanning


class TinyCudaGrid(nn.Module):
    """The arguments of `HashGrid`, computed by tiny-cuda-nn: CUDA only, float32 outside and as its build says inside.

    Its levels have vertices half a cell from the faces of the cube, so its tables and ours are not interchangeable.
    It draws its own initial table, from `generator`'s next number as a seed.
    Raises UserError where tiny-cuda-nn is missing or finds no GPU, and where the levels do not go up.
    """

    out_features: int

    def __init__(
        self,
        levels: Levels = 12,
        features: Features = 2,
        log2_table: Log2 = 16,
        base: Cells = 8,
        finest: Cells = 256,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        layout = spanning(levels, features, log2_table, base, finest)
        config = {
            "otype": "HashGrid",
            "n_levels": levels,
            "n_features_per_level": features,
            "log2_hashmap_size": log2_table,
            "base_resolution": base,
            "per_level_scale": layout.growth,
            "interpolation": "Linear",
        }
        seed = int(torch.randint(2**31, (), generator=generator))
        try:
            library = import_module("tinycudann")
            self.grid = library.Encoding(3, config, seed=seed, dtype=torch.float32)
        # It raises OSError where it finds no GPU, and what its build failed with.
        except Exception as error:
            message = f"encoding TinyCudaGrid: tiny-cuda-nn does not serve here ({error})"
            raise UserError(f"{message}: install it on a machine with a GPU, or choose HashGrid") from error
        self.out_features = layout.out_features

    def forward(self, x: Tensor) -> Tensor:
        """World points x [N, 3] in [-1, 1], clamped to it -> features [N, out_features], differentiable in x."""
        return self.grid(((x + 1) / 2).clamp(0, 1))
