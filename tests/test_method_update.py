"""Target, update and schedules against their formulas, by hand and by autograd."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.contracts import Shape
from text23d.errors import UserError
from text23d.method.average import Average
from text23d.method.schedule import Constant, Linear, LogLinear, Piecewise, Random
from text23d.method.target import target
from text23d.method.update import InPixels, Replace, Update
from text23d.settings import build


class Waves(torch.nn.Module):
    """A picture [B, 1, *shape] that depends on two parameters and on the view, at any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = torch.nn.Parameter(torch.tensor([0.5, -1.0], dtype=torch.float64))

    def render(self, views: Tensor, shape: Shape) -> Tensor:
        row, column = ((torch.arange(side, dtype=torch.float64) + 0.5) / side for side in shape)
        picture = torch.sin(self.phi[0] * row[:, None] + views[:, None, None]) * self.phi[1] * column
        return picture[:, None]


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
    losses = Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=1)(phi, VIEWS, x0_hat, (8, 8))

    loss = (phi.render(VIEWS, (8, 8)) - x0_hat.detach()).square().sum() / (2 * 8 * 8)
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
        loss = (by_hand.render(VIEWS, (8, 8)) - x0_hat).square().mean() + 0.1 * by_hand.phi.square().sum()
        (grad,) = torch.autograd.grad(loss, by_hand.phi)
        by_hand.phi.data -= 0.2 * grad
        expected.append(loss.item())

    sgd = torch.optim.SGD(phi.parameters(), lr=0.2)
    update = Update(sgd, 3, [lambda: 0.1 * phi.phi.square().sum()], split)
    assert update(phi, VIEWS, x0_hat, (8, 8)) == pytest.approx(expected)
    torch.testing.assert_close(phi.phi, by_hand.phi)
    assert expected[0] > expected[1] > expected[2]


class Rows(torch.nn.Module):
    """A picture [B, 1, H, W] of its own parameters, of which views (a batch, first, step) are every step-th row."""

    def __init__(self) -> None:
        super().__init__()
        self.phi = torch.nn.Parameter(normal(3, 2, 1, 8, 6))

    def render(self, views: tuple[Tensor, int, int], shape: Shape) -> Tensor:
        which, first, step = views
        picture = self.phi[which, :, first::step]
        assert tuple(picture.shape[2:]) == tuple(shape)
        return picture


@pytest.mark.parametrize("fields", [2, 4])
def test_inner_steps_see_the_fields_of_a_picture_in_turn(fields: int) -> None:
    """Each step moves the rows of its own field alone; after one round all have been moved, as by hand."""
    phi, x0_hat = Rows(), normal(0, 2, 1, 8, 6)
    before = phi.phi.detach().clone()
    update = Update(
        torch.optim.SGD(phi.parameters(), lr=1.0),
        fields,
        split=lambda views: [torch.tensor([index]) for index in views],
        fields=lambda which: [(which, first, fields) for first in range(fields)],
    )
    losses = update(phi, (0, 1), x0_hat, (8, 6))
    error = before - x0_hat
    assert losses == pytest.approx([error[:, :, first::fields].square().mean().item() for first in range(fields)])
    torch.testing.assert_close(phi.phi.detach(), before - 2 * error / (error.numel() / fields))


def test_a_height_without_whole_fields_is_seen_at_once() -> None:
    phi, x0_hat = Waves(), normal(0, 2, 1, 7, 8)
    whole, parted = (
        Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=2, fields=fields)(phi, VIEWS, x0_hat, (7, 8))
        for fields in (None, lambda views: [views, views])
    )
    assert parted == whole


def test_coarser_update_sees_area_means() -> None:
    phi, x0_hat = Waves(), normal(0, 2, 1, 8, 8)
    corners = [(i, j) for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)]
    coarse = torch.stack([x0_hat[..., i : i + 2, j : j + 2].mean((-1, -2)) for i, j in corners], -1)
    expected = (phi.render(VIEWS, (4, 4)) - coarse.reshape(2, 1, 4, 4)).square().mean().item()
    losses = Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=1)(phi, VIEWS, x0_hat, (4, 4))
    assert losses == pytest.approx([expected])


def test_not_finite_is_said_aloud() -> None:
    phi = Waves()
    before = phi.phi.detach().clone()
    sgd = torch.optim.SGD(phi.parameters(), lr=0.1)
    with pytest.raises(FloatingPointError, match="loss is nan"):
        Update(sgd)(phi, VIEWS, torch.full((2, 1, 8, 8), float("nan")), (8, 8))

    def kink() -> Tensor:
        return (phi.phi - before).square().sum().sqrt()  # 0 here, and its derivative is not finite

    with pytest.raises(FloatingPointError, match="gradient norm is"):
        Update(sgd, penalties=[kink])(phi, VIEWS, normal(0, 2, 1, 8, 8), (8, 8))
    torch.testing.assert_close(phi.phi.detach(), before, rtol=0, atol=0)


def test_schedules_closed_forms() -> None:
    assert [LogLinear(4.0, 0.25)(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([4, 2, 1, 0.25])
    assert [Linear(4.0, 1.0)(p) for p in (0, 0.5, 1)] == pytest.approx([4, 2.5, 1])
    assert [Constant(0.3)(p) for p in (0, 1)] == [0.3, 0.3]
    stages = Piecewise(((0.0, 32), (0.5, 64), (0.9, 128)))
    assert [stages(p) for p in (0, 0.49, 0.5, 0.89, 0.9, 1)] == [32, 32, 64, 64, 128, 128]


@pytest.mark.parametrize("kind", [Linear, LogLinear])
@pytest.mark.parametrize(("start", "end"), [(0.5, 3.0), (3.0, 0.0), (3.0, -1.0), (math.inf, 1.0), (3.0, math.nan)])
def test_impossible_levels_are_named(kind: type[Linear | LogLinear], start: float, end: float) -> None:
    with pytest.raises(UserError, match=re.escape(f"from {start} (maximum) to {end} (minimum)")):
        kind(start, end)


@pytest.mark.parametrize("starts", [[], [0.1], [0.0, 0.0], [0.0, 0.6, 0.5], [0.0, 2.0]])
def test_impossible_stages_are_refused(starts: list[float]) -> None:
    with pytest.raises(UserError, match="expected rising numbers"):
        Piecewise(tuple((start, 32) for start in starts))


@pytest.mark.parametrize("schedule", [Constant(1.0), Linear(2.0, 1.0), LogLinear(2.0, 1.0), Piecewise(((0.0, 1.0),))])
@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_outside_the_run(schedule: Constant | Linear | LogLinear | Piecewise, progress: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        schedule(progress)


class Grid:
    """A picture whose views are crops of it, top left corners (row, column), of 4 x 4."""

    def __init__(self) -> None:
        self.x = torch.nn.Parameter(normal(5, 1, 2, 8, 8))

    def render(self, views: list[tuple[int, int]], shape: Shape) -> Tensor:
        return torch.cat([self.x[..., i : i + shape[0], j : j + shape[1]] for i, j in views])

    def parameters(self) -> list[torch.nn.Parameter]:
        return [self.x]

    def replace(self, views: list[tuple[int, int]], x0_hat: Tensor) -> None:
        for (i, j), crop in zip(views, x0_hat, strict=True):
            self.x[..., i : i + 4, j : j + 4] = crop


def test_direct_replacement_of_crops() -> None:
    grid, before, x0_hat = Grid(), Grid().x.detach(), normal(6, 2, 2, 4, 4)
    losses = Replace()(grid, [(0, 0), (4, 2)], x0_hat, (32, 32))
    assert losses == pytest.approx([(Grid().render([(0, 0), (4, 2)], (4, 4)) - x0_hat).square().mean().item()])
    torch.testing.assert_close(grid.render([(0, 0), (4, 2)], (4, 4)).detach(), x0_hat)
    torch.testing.assert_close(grid.x[..., :4, 4:], before[..., :4, 4:])
    with pytest.raises(FloatingPointError, match="loss is nan"):
        Replace()(grid, [(0, 0)], x0_hat[:1] * math.nan, (32, 32))
    assert bool(grid.x.isfinite().all())


def test_loss_in_pixels_is_of_the_decoded_target() -> None:
    """A code of 4 x 4 whose decoder repeats each element thrice: the gradient is that of the loss on 8 x 8 pixels."""
    phi, code = Waves(), normal(7, 2, 1, 4, 4)
    colour = 3 * code.repeat_interleave(2, -1).repeat_interleave(2, -2)
    (expected,) = torch.autograd.grad((phi.render(VIEWS, (8, 8)) - colour).square().mean(), phi.phi)
    update = Update(torch.optim.SGD(phi.parameters(), lr=0.0), inner=1)

    def decode(x: Tensor) -> Tensor:
        return 3 * x.repeat_interleave(2, -1).repeat_interleave(2, -2)

    in_pixels = InPixels(update, phi, decode, 2)
    losses = in_pixels(Grid(), VIEWS, code, (4, 4))
    assert losses == pytest.approx([(phi.render(VIEWS, (8, 8)) - colour).square().mean().item()])
    assert phi.phi.grad is not None
    torch.testing.assert_close(phi.phi.grad, expected)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_by_hand(decay: float) -> None:
    phi = Waves()
    average, values, expected = Average(phi.parameters(), decay), normal(8, 6, 2), torch.zeros(2, dtype=torch.float64)
    for k, value in enumerate(values):
        phi.phi.data = value.clone()
        average.add()
        kept = min(decay, k / (k + 1))
        expected = kept * expected + (1 - kept) * value
        resumed = Average(phi.parameters(), decay)
        resumed.load(average.state())
        average = resumed
    if decay == 0.999:
        torch.testing.assert_close(expected, values.mean(0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(seen(average, phi).phi, expected)
    torch.testing.assert_close(phi.phi.detach(), values[-1])


def seen(average: Average, phi: Waves) -> Waves:
    view = average.view(phi)
    assert isinstance(view, Waves)
    return view


def test_a_view_of_the_average_leaves_phi_alone() -> None:
    """It renders the means, follows them, learns nothing, and shares what else there is of phi; before there is an
    average it is phi."""
    phi = Waves()
    phi.register_buffer("grid", torch.zeros(3))
    average = Average(phi.parameters(), 0.5)
    assert average.view(phi) is phi
    average.add()
    phi.phi.data = torch.tensor([2.0, 3.0], dtype=torch.float64)
    view = seen(average, phi)
    assert torch.equal(view.phi, Waves().phi) and not view.phi.requires_grad and phi.phi.requires_grad
    assert torch.equal(view.render(VIEWS, (4, 4)), Waves().render(VIEWS, (4, 4)))
    assert view.get_buffer("grid") is phi.get_buffer("grid")
    average.add()
    torch.testing.assert_close(view.phi, (Waves().phi.detach() + phi.phi.detach()) / 2)
    assert view is not phi and phi.phi.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan, "much", True])
def test_an_average_needs_a_decay(decay: object) -> None:
    with pytest.raises(UserError, match=r"^method\.ema=\S+: expected a number at least 0 and below 1$"):
        build({"_target_": "text23d.engine.recipe.LangevinRecipe", "ema": decay}, "method")


def test_levels_drawn_for_each_view_or_for_all() -> None:
    """Uniform in the logarithm between two annealed bounds, and the same from the same stream."""
    low, high = LogLinear(1.0, 0.1), LogLinear(4.0, 0.2)
    stream = torch.Generator().manual_seed(0)
    drawn = Random(low, high).draw(0.5, 4000, stream)
    bounds = math.log(low(0.5)), math.log(high(0.5))
    place = (drawn.log() - bounds[0]) / (bounds[1] - bounds[0])
    assert 0 <= place.min() < 0.01 and 0.99 < place.max() <= 1 and abs(place.mean() - 0.5) < 4 * (1 / 12 / 4000) ** 0.5
    again = Random(low, high).draw(0.5, 4000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    one = Random(low, high, together=True).draw(0.5, 4000, stream)
    assert one.shape == () and low(0.5) <= one <= high(0.5)
