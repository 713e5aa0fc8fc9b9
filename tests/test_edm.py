"""EDM against its own tables and equations (Karras et al. 2022), on stub networks and a prior in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from text23d.method.ode import integrate, multistep
from text23d.prior.analytic import Gaussian
from text23d.prior.builtin import edm
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.unet import UNet

NOTHING = Condition(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 6))
SIGMAS = torch.tensor([0.05, 0.7, 12.0])


class Recorder(nn.Module):
    """F(x, noise, c) = 0.3 x + noise / 10, keeping what it was asked."""

    light = None

    def __init__(self, answer: float = 0.3) -> None:
        super().__init__()
        self.answer, self.asked = answer, list[tuple[Tensor, Tensor, Any]]()

    def forward(self, x: Tensor, noise: Tensor, c: Any) -> Tensor:
        self.asked.append((x, noise, c))
        return self.answer * (x + noise[:, None, None, None] / 3)


def preconditioned(network: nn.Module, **settings: Any) -> edm.Preconditioned:
    return edm.Preconditioned(cast(UNet, network), **settings)


def pictures(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma_data", [0.5, 0.8])
def test_preconditioning_is_table_1(sigma_data: float) -> None:
    network = Recorder()
    x = pictures(0, 3, 4, 8, 8)
    got = preconditioned(network, sigma_data=sigma_data)(x, SIGMAS, NOTHING)
    seen, noise, c = network.asked[0]
    assert c is NOTHING
    for row, sigma in enumerate(SIGMAS.tolist()):
        total = math.sqrt(sigma**2 + sigma_data**2)
        c_skip, c_out, c_in = sigma_data**2 / total**2, sigma * sigma_data / total, 1 / total
        c_noise = math.log(sigma) / 4
        torch.testing.assert_close(seen[row], c_in * x[row])
        assert noise[row].item() == pytest.approx(c_noise, rel=1e-5)
        f = 0.3 * (c_in * x[row] + c_noise / 3)
        torch.testing.assert_close(got[row], c_skip * x[row] + c_out * f)


def test_one_noise_level_serves_the_whole_batch() -> None:
    d, x = preconditioned(Recorder()), pictures(1, 3, 4, 8, 8)
    together = d(x, torch.tensor(0.7), NOTHING)
    torch.testing.assert_close(together, d(x, torch.full((3,), 0.7), NOTHING))


def test_only_the_network_computes_in_low_precision() -> None:
    """The skip connection carries the small noise levels: in bfloat16 it would lose them."""

    class Convolution(nn.Conv2d):
        light = None

        def forward(self, x: Tensor, noise: Tensor, c: Any) -> Tensor:  # type: ignore[override]
            self.made = super().forward(x).dtype
            return torch.zeros_like(x, dtype=self.made)

    network = Convolution(4, 4, 1)
    x, sigma = pictures(2, 3, 4, 8, 8), torch.tensor(0.01)
    got = preconditioned(network, precision=torch.bfloat16)(x, sigma, NOTHING)
    assert network.made == torch.bfloat16 and got.dtype == torch.float32
    torch.testing.assert_close(got, x * (0.25 / (0.25 + 1e-4)))


def test_loss_is_equation_8() -> None:
    d, x0, noise = preconditioned(Recorder()), pictures(3, 3, 4, 8, 8), pictures(4, 3, 4, 8, 8)
    got = edm.loss(d, x0, SIGMAS, noise, NOTHING)
    assert got.shape == (3,)
    for row, sigma in enumerate(SIGMAS.tolist()):
        weight = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
        x = x0 + SIGMAS[:, None, None, None] * noise
        error = d(x, SIGMAS, NOTHING)[row] - x0[row]
        assert got[row].item() == pytest.approx(weight * error.square().mean().item(), rel=1e-5)


def test_an_untrained_network_has_loss_1_at_every_level() -> None:
    """What Table 1 is made for: F = 0 on data of deviation sigma_data is equally wrong everywhere."""
    d, silent = preconditioned(Recorder(0.0)), Condition(torch.zeros(256, 4, dtype=torch.int64), torch.zeros(256, 6))
    x0, noise = 0.5 * pictures(5, 256, 4, 8, 8), pictures(6, 256, 4, 8, 8)
    for sigma in SIGMAS:
        assert edm.loss(d, x0, sigma.expand(256), noise, silent).mean().item() == pytest.approx(1, abs=0.03)


def test_training_levels_are_log_normal() -> None:
    drawn = edm.draw_sigma(20_000, torch.Generator().manual_seed(0), mean=-1.2, std=1.2).log()
    assert drawn.mean().item() == pytest.approx(-1.2, abs=0.03) and drawn.std().item() == pytest.approx(1.2, abs=0.03)
    again = edm.draw_sigma(20_000, torch.Generator().manual_seed(0), mean=-1.2, std=1.2).log()
    assert torch.equal(drawn, again)
    usual = edm.draw_sigma(20_000, torch.Generator().manual_seed(1))
    share = ((usual > 1) & (usual < 5)).float().mean().item()
    assert share == pytest.approx(0.445, abs=0.015), "the share that the docstring promises"


@pytest.mark.parametrize(("steps", "rho"), [(2, 7.0), (18, 7.0), (18, 1.0)])
def test_levels_are_equation_5(steps: int, rho: float) -> None:
    levels = edm.sigma_steps(steps, 0.02, 40.0, rho)
    assert levels.shape == (steps + 1,) and levels[-1] == 0
    for i in range(steps):
        root = 40.0 ** (1 / rho) + i / (steps - 1) * (0.02 ** (1 / rho) - 40.0 ** (1 / rho))
        assert levels[i].item() == pytest.approx(root**rho, rel=1e-4)


def integration_error(steps: int, solve: Callable[..., Tensor]) -> float:
    """Of the solver's x at the lowest level above 0. The probability flow dx/dsigma = (x - D) / sigma of N(mu, s^2)
    gives x(sigma) = mu + (x - mu) sqrt((s^2 + sigma^2) / (s^2 + start^2))."""
    mean, std = 0.3, 0.5
    levels = edm.sigma_steps(steps, 0.02, 10.0).double()[:-1]
    x = 10.0 * pictures(7, 4, 4, 2, 2).double()
    ratio = ((std**2 + levels[-1] ** 2) / (std**2 + levels[0] ** 2)).sqrt()
    exact = mean + (x - mean) * ratio
    return (solve(Gaussian(mean, std), x, levels) - exact).abs().max().item()


@pytest.mark.parametrize("solve", [partial(integrate, solver="heun"), multistep])
def test_solvers_converge_with_order_2(solve: Callable[..., Tensor]) -> None:
    errors = [integration_error(steps, solve) for steps in (33, 65, 129, 257)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] < 3e-4 and all(abs(order - 2) < 0.15 for order in orders), (errors, orders)


def test_heun_ends_on_a_denoised_picture_with_two_evaluations_a_step() -> None:
    """Algorithm 1: no second evaluation at level 0, so the last step is Euler's and lands on D itself."""
    prior, asked = Gaussian(0.3, 0.5), list[float]()

    def counted(x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        asked.append(sigma.item())
        assert c == "what was asked for"
        return prior(x, sigma)

    levels, x = edm.sigma_steps(9, 0.02, 10.0), 10.0 * pictures(8, 4, 4, 2, 2)
    sample = integrate(partial(counted, c="what was asked for"), x, levels, "heun")
    assert len(asked) == 2 * 9 - 1 and min(asked) > 0
    before = integrate(prior, x, levels[:-1], "heun")
    torch.testing.assert_close(sample, prior(before, levels[-2]))


def test_multistep_is_dpm_solver_written_out() -> None:
    """Lu et al. 2022, Algorithm 2, in lambda = -log sigma with alpha = 1: x' = (s'/s) x - expm1(-h) ((1 + 1/2r) D -
    1/2r D_before), r = h_before / h; of first order at the first step and down to 0. One evaluation a step."""
    prior, asked = Gaussian(0.3, 0.5), list[float]()

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return prior(x, sigma)

    a, b, c = 3.0, 1.0, 0.5
    levels = torch.tensor([a, b, c, 0.0], dtype=torch.float64)
    x0 = 3 * pictures(8, 4, 4, 2, 2).double()
    found = multistep(counted, x0, levels)
    assert asked == [a, b, c]
    first = prior(x0, levels[0])
    x1 = b / a * x0 - math.expm1(-math.log(a / b)) * first
    second, r = prior(x1, levels[1]), math.log(a / b) / math.log(b / c)
    x2 = c / b * x1 - math.expm1(-math.log(b / c)) * ((1 + 1 / (2 * r)) * second - 1 / (2 * r) * first)
    torch.testing.assert_close(found, prior(x2, levels[2]))
    each = torch.stack([multistep(prior, x, levels) for x in x0[:, None]])[:, 0]
    torch.testing.assert_close(multistep(prior, x0, levels[:, None].expand(-1, len(x0))), each)


def test_heun_samples_the_prior() -> None:
    levels = edm.sigma_steps(32)
    x = levels[0] * pictures(9, 4000, 1, 1, 1)
    samples = integrate(Gaussian(0.3, 0.5), x, levels, "heun")
    assert samples.mean().item() == pytest.approx(0.3, abs=0.03)
    assert samples.std().item() == pytest.approx(0.5, abs=0.02)
