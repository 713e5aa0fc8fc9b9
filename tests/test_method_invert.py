"""Inversion against its closed form on Gaussian data, and what step control promises on a sharp mixture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.method.invert import Backprop, FixedPoint, Inverter, Naive, Ode, _mix, renormed
from text23d.method.noise import rms
from text23d.prior.analytic import Empirical, Gaussian, GaussianMixture
from text23d.settings import build

MEAN, STD = 0.3, 0.5


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def level(value: float | list[float]) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def sample_norm(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1).sqrt()


class Counted:
    """D' as a function of x that counts forward and backward passes as the network would run them."""

    def __init__(self) -> None:
        self.forward, self.backward = 0, 0
        self.denoiser = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [0.3, 0.3])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.forward += 1
        denoised = self.denoiser(x, sigma)
        if denoised.requires_grad:
            denoised.register_hook(self._count)
        return denoised

    def _count(self, grad: Tensor) -> Tensor:
        self.backward += 1
        return grad


STRATEGIES = [Naive(), FixedPoint(0), FixedPoint(3), FixedPoint(5, rho=0.5), Backprop(0), Backprop(4), Backprop()]
STRATEGIES += [Ode(), Ode(5, solver="heun"), Ode(3, perturbed=False), FixedPoint(4, memory=2, shell=True)]
NFE = [1, 1, 4, 6, 1, 13, 61, 14, 12, 5, 5]


@pytest.mark.parametrize(("strategy", "nfe"), list(zip(STRATEGIES, NFE, strict=True)), ids=str)
def test_every_strategy_keeps_its_word(strategy: Inverter, nfe: int) -> None:
    """`denoised` is D' at the x returned, `residual` is its relative residual, `nfe` what the network did."""
    sigma = level([0.3, 1.0, 3.0])
    denoise, x0, n = Counted(), normal(0, 3, 2), normal(1, 3, 2)
    found = strategy(denoise, x0, sigma, n)

    assert found.nfe == denoise.forward + 2 * denoise.backward == nfe
    assert not found.x.requires_grad and not found.denoised.requires_grad
    torch.testing.assert_close(found.denoised, denoise(found.x, sigma))
    start = sample_norm(denoise(x0 + sigma[:, None] * n, sigma) - x0)
    torch.testing.assert_close(found.residual, sample_norm(found.denoised - x0) / start)


def test_naive_is_x0_plus_noise() -> None:
    sigma, x0, n = level([0.5, 2.0]), normal(0, 2, 4, 3, 3), normal(1, 2, 4, 3, 3)
    found = Naive()(Gaussian(MEAN, STD), x0, sigma, n)
    torch.testing.assert_close(found.x, x0 + torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1) * n)


@pytest.mark.parametrize(("strategy", "tolerance"), [(FixedPoint(400), 1e-9), (Backprop(1500, lr=0.02), 1e-3)])
def test_converges_to_the_closed_form(strategy: Inverter, tolerance: float) -> None:
    """D'(x) = x0 on N(mu, s^2): x = mu + (x0 - mu)(s^2 + sigma^2) / s^2."""
    sigma, x0, n = level([0.3, 0.6, 1.0]), normal(0, 3, 4), normal(1, 3, 4)
    found = strategy(Gaussian(MEAN, STD), x0, sigma, n)
    expected = MEAN + (x0 - MEAN) * ((STD**2 + sigma**2) / STD**2)[:, None]
    torch.testing.assert_close(found.x, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rho", [0.5, 1.0, 1.5])
def test_fixed_point_contracts_at_its_rate(rho: float) -> None:
    """On N(mu, s^2) each step multiplies the residual by 1 - rho s^2 / (s^2 + sigma^2); k itself for rho = 1."""
    sigma, x0, n = level(0.8), normal(0, 5, 4), normal(1, 5, 4)
    rate = 1 - rho * STD**2 / (STD**2 + 0.8**2)
    for steps in (1, 2, 6):
        found = FixedPoint(steps, rho)(Gaussian(MEAN, STD), x0, sigma, n)
        torch.testing.assert_close(found.residual, torch.full((5,), rate**steps, dtype=torch.float64))


def test_one_backprop_step_is_adams() -> None:
    """Adam's first step moves each element by the learning rate, lr sigma, against the sign of its gradient."""
    sigma, x0, n = level([0.5, 2.0]), normal(0, 2, 4), normal(1, 2, 4)
    found = Backprop(1, lr=0.1)(Gaussian(MEAN, STD), x0, sigma, n)
    start = x0 + sigma[:, None] * n
    downhill = -torch.sign(Gaussian(MEAN, STD)(start, sigma) - x0)
    torch.testing.assert_close(found.x - start, 0.1 * sigma[:, None] * downhill, rtol=1e-6, atol=1e-6)


def test_step_control_never_turns_back() -> None:
    """Two points, sigma half their half-distance: the Jacobian reaches 4, the bare step overshoots, ours does not."""
    denoiser, sigma = Empirical([[-1.0], [1.0]]), level(0.5)
    x0, n = normal(0, 200, 1).clamp(-0.9, 0.9), normal(1, 200, 1)
    bare = x0 + 0.5 * n
    start = sample_norm(denoiser(bare, sigma) - x0)
    for _ in range(12):
        bare = bare - (denoiser(bare, sigma) - x0)
    grown = sample_norm(denoiser(bare, sigma) - x0) > start
    assert grown.sum() > 10

    found = [FixedPoint(k)(denoiser, x0, sigma, n) for k in range(13)]
    residuals = [inversion.residual for inversion in found]
    for inversion in found:  # where the last x was refused, `denoised` went back with x
        torch.testing.assert_close(inversion.denoised, denoiser(inversion.x, sigma))
    for before, after in pairwise(residuals):
        assert bool((after <= before).all())
    assert residuals[-1].median() < 0.02 and bool((residuals[-1] < 1).all())


def test_samples_of_a_batch_do_not_meet() -> None:
    sigma, x0, n = level([0.3, 0.5, 2.0]), normal(0, 3, 2), normal(1, 3, 2)
    denoiser = Empirical([[-1.0, 0.0], [1.0, 0.5]])
    for strategy in (FixedPoint(6), FixedPoint(6, memory=2, shell=True), Backprop(5), Ode(4, solver="heun")):
        together = strategy(denoiser, x0, sigma, n).x
        for i in range(3):
            alone = strategy(denoiser, x0[i : i + 1], sigma[i], n[i : i + 1]).x
            torch.testing.assert_close(together[i : i + 1], alone)


def test_an_exact_x0_stays() -> None:
    sigma, x0 = level(1.0), torch.full((2, 3), MEAN, dtype=torch.float64)
    found = FixedPoint(2)(Gaussian(MEAN, STD), x0, sigma, torch.zeros_like(x0))
    torch.testing.assert_close(found.x, x0)
    assert found.residual.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("perturbed", [False, True])
def test_the_ode_against_its_closed_form(solver: Literal["euler", "heun"], order: int, perturbed: bool) -> None:
    """On N(mu, s^2): x = mu + (x_min - mu) sqrt((s^2 + sigma^2) / (s^2 + sigma_min^2)), at the solver's own order."""
    sigma, x0, n, least = level([0.3, 1.0, 3.0]), normal(0, 3, 4), normal(1, 3, 4), 0.02
    begin = x0 + least * n if perturbed else x0
    exact = MEAN + (begin - MEAN) * ((STD**2 + sigma**2) / (STD**2 + least**2)).sqrt()[:, None]
    errors = []
    for steps in (64, 128, 256):
        found = Ode(steps, least, solver, perturbed)(Gaussian(MEAN, STD), x0, sigma, n)
        errors.append((found.x - exact).abs().amax().item())
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.1)
    torch.testing.assert_close(found.x, exact, rtol=0, atol=0.05 if order == 1 else 1e-3)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"steps": 0}, "steps=0: expected a whole number, 1 to 100000"),
        ({"sigma_min": 0.0}, "sigma_min=0.0: expected a number above 0 and at most 100"),
        ({"solver": "rk4"}, "solver=rk4: expected one of euler, heun"),
    ],
)
def test_impossible_odes_are_told(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=rf"^method\.inversion\.{problem}$"):
        build({"_target_": "text23d.method.invert.Ode", **settings}, "method.inversion")


def test_anderson_is_exact_where_the_residual_is_linear() -> None:
    """On N(mu, diag(s^2)) with three different s, mixing three points solves D'(x) = x0 up to its damping, where the
    plain step still has a third of the residual."""
    denoiser, sigma = Gaussian(MEAN, [0.3, 0.5, 1.0]), level(1.0)
    x0, n = normal(0, 5, 3), normal(1, 5, 3)
    plain, mixed = (FixedPoint(6, memory=memory)(denoiser, x0, sigma, n) for memory in (0, 3))
    assert plain.residual.mean() > 0.3 and mixed.residual.max() < 0.05


def test_least_squares_by_hand() -> None:
    """m - g (m - m_1) with g = <r, r - r_1> / ||r - r_1||^2, undamped."""
    m, r, m_before, r_before = (normal(seed, 2, 4) for seed in range(4))
    change = r - r_before
    g = ((r * change).sum(1) / change.square().sum(1))[:, None]
    m_mixed, r_mixed = _mix(m, r, [(m_before, r_before)], damping=0.0)
    torch.testing.assert_close(m_mixed, m - g * (m - m_before))
    torch.testing.assert_close((r_mixed * change).sum(1), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(_mix(m, r, [])[0], m)


def test_on_the_shell_the_noise_is_that_of_real_data() -> None:
    """Data with a variance along one axis of ten: free steps make the noise grow to fit the others' last details; on
    the shell rms(x - D'(x)) stays what it is on real data, at a larger residual."""
    std = torch.where(torch.arange(400) % 10 == 0, STD, 0.02).double()
    sigma, x0, n = level(0.5), MEAN + std * normal(0, 3, 400), normal(1, 3, 400)
    expected = (0.5**4 / (std**2 + 0.5**2)).mean().sqrt()
    free, held = (
        FixedPoint(30, memory=2, shell=shell)(Gaussian(MEAN, std), x0, sigma, n, expected) for shell in (False, True)
    )
    assert (rms(free.x - free.denoised) / expected).min() > 1.1
    torch.testing.assert_close(rms(held.x - held.denoised), expected.expand(3), rtol=0.02, atol=0)
    assert bool((held.residual > free.residual).all()) and bool((held.residual < 0.9).all())


def test_renorm_scales_what_an_inversion_found() -> None:
    """On N(mu, s^2), against the formula, and the counts of what it cost."""
    sigma, x0, n = level([0.5, 2.0]), normal(0, 2, 400), normal(1, 2, 400)
    found = Naive()(Gaussian(MEAN, STD), x0, sigma, n)
    expected = 0.7 * rms(found.x - found.denoised)
    scaled = renormed(found, Gaussian(MEAN, STD), x0, sigma, expected)
    by_hand = found.denoised + 0.7 * (found.x - found.denoised)
    torch.testing.assert_close(scaled.x, by_hand)
    torch.testing.assert_close(scaled.denoised, Gaussian(MEAN, STD)(by_hand, sigma))
    torch.testing.assert_close(scaled.residual, sample_norm(scaled.denoised - x0) / sample_norm(found.denoised - x0))
    assert scaled.nfe == 2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"steps": -1}, "steps=-1: expected a whole number, 0 to 100000"),
        ({"memory": 1.5}, "memory=1.5: expected a whole number, 0 to 100"),
        ({"rho": 0.0}, "rho=0.0: expected a number above 0 and at most 100"),
    ],
)
def test_impossible_fixed_points_are_told(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=rf"^method\.inversion\.{problem}$"):
        build({"_target_": "text23d.method.invert.FixedPoint", **settings}, "method.inversion")


def test_nothing_is_mixed_where_nothing_changed() -> None:
    """A denoiser that answers the same to everything leaves no differences to solve with, beside one that does not."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(x[0]), x[1] / 2])

    x0 = torch.ones(2, 3)
    torch.set_flush_denormal(True)  # as every run does
    try:
        found = FixedPoint(steps=4, memory=2)(denoise, x0, torch.tensor(1.0), torch.full((2, 3), 3.0))
    finally:
        torch.set_flush_denormal(False)
    assert found.x.isfinite().all() and found.residual[0] == 1 and found.residual[1] < 1e-3
