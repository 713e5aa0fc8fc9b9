"""Target, update and schedules against their formulas, by hand and by autograd."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.contracts import UserError
from text23d.method.schedule import Constant, Linear, LogLinear, Piecewise
from text23d.method.target import target
from text23d.method.update import Update


class Waves:
    """A picture [B, 1, size, size] that depends on two parameters and on the view, at any size."""

    def __init__(self) -> None:
        self.phi = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))

    def render(self, views: Tensor, size: int) -> Tensor:
        at = (torch.arange(size, dtype=torch.float64) + 0.5) / size
        picture = torch.sin(self.phi[0] * at[:, None] + views[:, None, None]) * self.phi[1] * at
        return picture[:, None]

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.phi]


VIEWS = torch.tensor([0.0, 1.0], dtype=torch.float64)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_target_cancels_the_bias() -> None:
    """x0_hat - D'(x') = x0 - D'(x), whatever constant error D' makes; the leak moves x0 to D'(x)."""
    x0, denoised, denoised_next, bias = (normal(seed, 2, 4, 3, 3) for seed in range(4))
    x0_hat = target(x0, denoised, denoised_next)
    torch.testing.assert_close(x0_hat - denoised_next, x0 - denoised)
    torch.testing.assert_close(target(x0, denoised + bias, denoised_next + bias), x0_hat)
    torch.testing.assert_close(target(x0, denoised, denoised_next, leak=1.0), denoised_next)
    torch.testing.assert_close(target(x0, denoised, denoised_next, leak=0.3) - x0_hat, 0.3 * (denoised - x0))


def test_gradient_is_autograd_of_the_written_loss() -> None:
    phi, x0_hat = Waves(), normal(0, 2, 1, 8, 8).requires_grad_()
    losses = Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=1)(phi, VIEWS, x0_hat, 8)

    loss = (phi.render(VIEWS, 8) - x0_hat.detach()).square().sum() / (2 * 8 * 8)
    (expected,) = torch.autograd.grad(loss, phi.phi)
    assert phi.phi.grad is not None and x0_hat.grad is None
    torch.testing.assert_close(phi.phi.grad, expected)
    assert losses == pytest.approx([loss.item()])


@pytest.mark.parametrize("split", [None, lambda views: views.split(1)], ids=["at once", "view by view"])
def test_inner_steps_and_penalty_are_the_optimisers(split: Callable[[Tensor], Any] | None) -> None:
    """Three inner SGD steps, by hand, of the picture's loss plus a penalty."""
    phi, x0_hat = Waves(), normal(0, 2, 1, 8, 8)
    by_hand, expected = Waves(), []
    for _ in range(3):
        loss = (by_hand.render(VIEWS, 8) - x0_hat).square().mean() + 0.1 * by_hand.phi.square().sum()
        (grad,) = torch.autograd.grad(loss, by_hand.phi)
        by_hand.phi.data -= 0.2 * grad
        expected.append(loss.item())

    sgd = torch.optim.SGD(phi.parameters(), lr=0.2)
    update = Update(sgd, 3, lambda: 0.1 * phi.phi.square().sum(), split)
    assert update(phi, VIEWS, x0_hat, 8) == pytest.approx(expected)
    torch.testing.assert_close(phi.phi, by_hand.phi)
    assert expected[0] > expected[1] > expected[2]


def test_coarser_update_sees_area_means() -> None:
    phi, x0_hat = Waves(), normal(0, 2, 1, 8, 8)
    corners = [(i, j) for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)]
    coarse = torch.stack([x0_hat[..., i : i + 2, j : j + 2].mean((-1, -2)) for i, j in corners], -1)
    expected = (phi.render(VIEWS, 4) - coarse.reshape(2, 1, 4, 4)).square().mean().item()
    losses = Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=1)(phi, VIEWS, x0_hat, 4)
    assert losses == pytest.approx([expected])


def test_not_finite_is_said_aloud() -> None:
    phi = Waves()
    before = phi.phi.detach().clone()
    sgd = torch.optim.SGD(phi.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match="loss is nan"):
        Update(sgd)(phi, VIEWS, torch.full((2, 1, 8, 8), float("nan")), 8)

    def kink() -> Tensor:
        return (phi.phi - before).square().sum().sqrt()  # 0 here, and its derivative is not finite

    with pytest.raises(FloatingPointError, match="gradient norm is"):
        Update(sgd, penalty=kink)(phi, VIEWS, normal(0, 2, 1, 8, 8), 8)
    torch.testing.assert_close(phi.phi.detach(), before, rtol=0, atol=0)


def test_schedules_closed_forms() -> None:
    assert [LogLinear(4.0, 0.25)(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([4, 2, 1, 0.25])
    assert [Linear(4.0, 1.0)(p) for p in (0, 0.5, 1)] == pytest.approx([4, 2.5, 1])
    assert [Constant(0.3)(p) for p in (0, 1)] == [0.3, 0.3]
    stages = Piecewise([(0.0, 32), (0.5, 64), (0.9, 128)])
    assert [stages(p) for p in (0, 0.49, 0.5, 0.89, 0.9, 1)] == [32, 32, 64, 64, 128, 128]


@pytest.mark.parametrize("kind", [Linear, LogLinear])
@pytest.mark.parametrize(("start", "end"), [(0.5, 3.0), (3.0, 0.0), (3.0, -1.0), (math.inf, 1.0), (3.0, math.nan)])
def test_impossible_levels_are_named(kind: type[Linear | LogLinear], start: float, end: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"from {start} (maximum) to {end} (minimum)")):
        kind(start, end)


@pytest.mark.parametrize("starts", [[], [0.1], [0.0, 0.0], [0.0, 0.6, 0.5], [0.0, 2.0]])
def test_impossible_stages_are_refused(starts: list[float]) -> None:
    with pytest.raises(UserError, match="expected rising numbers"):
        Piecewise([(start, 32) for start in starts])


@pytest.mark.parametrize("schedule", [Constant(1.0), Linear(2.0, 1.0), LogLinear(2.0, 1.0), Piecewise([(0.0, 1.0)])])
@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_outside_the_run(schedule: Constant | Linear | LogLinear | Piecewise, progress: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        schedule(progress)
