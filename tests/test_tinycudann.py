"""tiny-cuda-nn as an encoding: what it is asked for, and what is said where it is missing."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from text23d.compose import compose
from text23d.errors import UserError
from text23d.representation.nerf import Nerf
from text23d.representation.tinycudann import TinyCudaGrid
from text23d.settings import build
from text23d.studies.benchmark import operations


class Encoding(nn.Module):
    """Stands in for tiny-cuda-nn's, with its arguments: every feature is the sum of the coordinates."""

    def __init__(self, dims: int, config: dict[str, Any], seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dims, self.config, self.seed = dims, config, seed
        self.params = nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        width = self.config["n_levels"] * self.config["n_features_per_level"]
        return self.params * x.sum(-1, keepdim=True).expand(-1, width)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("tinycudann")
    library.Encoding = Encoding  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tinycudann", library)


@pytest.mark.usefixtures("installed")
def test_encoding_is_asked_for_with_our_numbers() -> None:
    grid = TinyCudaGrid(5, 2, 10, 4, 64, torch.Generator().manual_seed(0))
    config = grid.grid.config
    assert config["base_resolution"] * config["per_level_scale"] ** 4 == pytest.approx(64)
    assert (grid.grid.dims, config["n_levels"], config["log2_hashmap_size"], grid.out_features) == (3, 5, 10, 10)
    assert grid.grid.seed == TinyCudaGrid(generator=torch.Generator().manual_seed(0)).grid.seed
    x = torch.tensor([[-1.0, 0, 1], [3, -3, -1]])
    assert grid(x).tolist() == [[1.5] * 10, [1.0] * 10]


@pytest.mark.usefixtures("installed")
def test_configuration_builds_a_field_on_it() -> None:
    nerf = build(compose("config", ["representation=nerf_tinycudann"])["representation"], "representation")
    assert isinstance(nerf.encoding, TinyCudaGrid) and nerf.query(torch.zeros(4, 3))[1].shape == (4, 3)


def test_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(UserError, match=r"tiny-cuda-nn does not serve here .*or choose HashGrid") as told:
        TinyCudaGrid()
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("installed")
def test_the_benchmark_measures_it_where_it_is_installed() -> None:
    seen = operations.ray_batch(Nerf(generator=torch.Generator().manual_seed(0)), 1, 8)
    found = {each.name: each.make() for each in operations.rivals(seen)}
    assert list(found) == ["encode by tiny-cuda-nn", "encode by tiny-cuda-nn, backward"]
    points = seen.samples.positions(seen.origins, seen.directions)
    encoded: Any = found["encode by tiny-cuda-nn"]()
    sums = ((points + 1) / 2).clamp(0, 1).sum(-1)
    torch.testing.assert_close(encoded, sums[:, None].expand(-1, seen.nerf.encoding.layout.out_features))
    gradients: Any = found["encode by tiny-cuda-nn, backward"]()
    assert gradients[0].item() == pytest.approx(float(encoded.sum()), rel=1e-4)


def test_the_benchmark_goes_without_it() -> None:
    assert operations.rivals(operations.ray_batch(Nerf(generator=torch.Generator().manual_seed(0)), 1, 8)) == []
