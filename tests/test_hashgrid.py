"""The hash grid as a module: where its points lie, how it starts, and that it learns."""

from __future__ import annotations

import torch

from text23d.representation.hashgrid import HashGrid


def small(seed: int = 0, dtype: torch.dtype = torch.float32) -> HashGrid:
    return HashGrid(4, 2, 10, 4, 16, torch.Generator().manual_seed(seed), dtype)


def test_table_starts_uniform_from_the_generator() -> None:
    grid = small()
    assert torch.equal(grid.table, small().table) and not torch.equal(grid.table, small(1).table)
    assert grid.table.abs().max() <= 1e-4
    spread = grid.table.detach().double().std()
    assert abs(float(spread) / (1e-4 / 3**0.5) - 1) < 0.05


def test_dense_level_interpolates_a_linear_field_exactly() -> None:
    grid = HashGrid(2, 1, 12, 4, 8, dtype=torch.float64)
    cells = grid.layout.resolutions[0]
    at = torch.linspace(-1, 1, cells + 1, dtype=torch.float64)
    k, j, i = torch.meshgrid(at, at, at, indexing="ij")  # the x index runs fastest
    with torch.no_grad():
        grid.table[: grid.layout.sizes[0], 0] = (2 * i - 3 * j + 0.5 * k).reshape(-1)
    x = 2 * torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    x.requires_grad_()
    field = grid(x)[:, 0]
    slope = torch.tensor([2, -3, 0.5], dtype=torch.float64)
    torch.testing.assert_close(field, x @ slope)
    (gradient,) = torch.autograd.grad(field.sum(), x)
    torch.testing.assert_close(gradient, slope.expand(50, 3))


def test_grid_learns_a_field() -> None:
    grid = small()
    x = 2 * torch.rand(512, 3, generator=torch.Generator().manual_seed(1)) - 1
    wanted = torch.sin(3 * x[:, 0]) * x[:, 1]
    head = torch.full((grid.out_features,), 0.5)
    optimiser = torch.optim.Adam(grid.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        loss = (grid(x) @ head - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]


def test_shapes_and_state() -> None:
    grid = small()
    assert grid(torch.zeros(3, 3)).shape == (3, grid.out_features) == (3, 8)
    assert list(grid.state_dict()) == ["table"]
    assert str(grid.layout.entries) in repr(grid)
