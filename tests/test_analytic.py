"""The closed-form denoisers against quadrature, Tweedie's formula and loops; guidance against its formula."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.prior.analytic import Empirical, Gaussian, GaussianMixture
from text23d.prior.wrappers.guidance import Guided

WEIGHTS, STDS = [0.2, 0.5, 0.3], [0.3, 0.1, 0.7]
MEANS = [[-1.0, 0.5], [1.0, -0.5], [0.2, 1.5]]


def normal(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    variance = torch.as_tensor(variance, dtype=x.dtype)
    return torch.exp(-(x - mean).square() / (2 * variance)) / (2 * math.pi * variance).sqrt()


def points(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
def test_posterior_mean_by_quadrature(sigma: float) -> None:
    x0 = torch.linspace(-8, 8, 20001, dtype=torch.float64)
    x = torch.tensor([[-1.3], [0.1], [2.0]], dtype=torch.float64)
    likelihood = normal(x, x0, sigma**2)
    level = torch.tensor(sigma, dtype=torch.float64)
    mixture = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.3, 0.5])

    cases: list[tuple[Tensor, Denoiser]] = [
        (normal(x0, 0.4, 0.36), Gaussian(0.4, 0.6)),
        (0.3 * normal(x0, -1, 0.09) + 0.7 * normal(x0, 1, 0.25), mixture),
    ]
    for density, denoiser in cases:
        expected = (likelihood * density * x0).sum(1) / (likelihood * density).sum(1)
        torch.testing.assert_close(denoiser(x, level)[:, 0], expected, rtol=1e-9, atol=1e-9)


def test_mixture_is_tweedie_of_its_density() -> None:
    """D = x + sigma^2 grad log p(x; sigma), each sample with its own sigma."""
    x, sigma = points(5, 2).requires_grad_(), torch.tensor([0.1, 0.5, 1.0, 2.0, 5.0], dtype=torch.float64)
    density = torch.zeros(5, dtype=torch.float64)
    for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
        total = std**2 + sigma**2
        density = density + weight * normal(x[:, 0], mean[0], total) * normal(x[:, 1], mean[1], total)
    (score,) = torch.autograd.grad(density.log().sum(), x)

    denoised = GaussianMixture(WEIGHTS, MEANS, STDS)(x, sigma)
    torch.testing.assert_close(denoised, x + sigma[:, None].square() * score, rtol=1e-10, atol=1e-10)


def test_mixture_jacobian_is_symmetric_and_positive() -> None:
    """It is Cov[x0 | x] / sigma^2, which is why fixed-point inversion contracts."""
    denoiser, sigma = GaussianMixture(WEIGHTS, MEANS, STDS), torch.tensor(0.6, dtype=torch.float64)
    for x in points(8, 2):
        jacobian = torch.autograd.functional.jacobian(lambda x: denoiser(x, sigma), x[None])[0, :, 0]
        torch.testing.assert_close(jacobian, jacobian.T)
        assert torch.linalg.eigvalsh(jacobian).min() > 0


def test_mixture_conditioning_replaces_the_weights() -> None:
    x, sigma = points(3, 2), torch.tensor(0.7, dtype=torch.float64)
    conditioned = GaussianMixture(WEIGHTS, MEANS, STDS)(x, sigma, torch.eye(3))
    for k in range(3):
        alone = Gaussian(MEANS[k], STDS[k])(x[k : k + 1], sigma)
        torch.testing.assert_close(conditioned[k : k + 1], alone)


@pytest.mark.parametrize("shape", [(2,), (4, 3, 3)])
def test_empirical_by_loop(shape: tuple[int, ...]) -> None:
    data, x, sigma = points(6, *shape), points(8, *shape)[6:], torch.tensor([0.5, 1.5], dtype=torch.float64)
    denoised = Empirical(data)(x, sigma)
    for i in range(2):
        weight = [math.exp(-float((x[i] - p).square().sum()) / (2 * float(sigma[i]) ** 2)) for p in data]
        expected = sum(w * p for w, p in zip(weight, data, strict=True)) / sum(weight)
        torch.testing.assert_close(denoised[i], expected)


@pytest.mark.parametrize(
    "denoiser", [Gaussian(MEANS[0], STDS[0]), GaussianMixture(WEIGHTS, MEANS, STDS), Empirical(MEANS)]
)
def test_derivatives_and_precision(denoiser: Gaussian | GaussianMixture | Empirical) -> None:
    x, sigma = points(3, 2), torch.tensor(0.8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: denoiser(x, sigma), x.clone().requires_grad_())
    single = denoiser(x.float(), sigma.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), denoiser(x, sigma), rtol=1e-5, atol=1e-5)


@dataclass(frozen=True)
class Shift:
    by: Tensor

    def unconditional(self) -> Shift:
        return Shift(torch.zeros_like(self.by))

    @staticmethod
    def cat(parts: list[Shift]) -> Shift:
        return Shift(torch.cat([part.by for part in parts]))


class Shrink:
    """x / (1 + sigma^2) + c x^2, counting its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.calls += 1
        return x / (1 + sigma.reshape(-1, 1).square()) + c.by[:, None] * x.square()


@pytest.mark.parametrize("sigma", [torch.tensor(2.0), torch.tensor([2.0, 1.0, 0.5])])
def test_guidance_formula(sigma: Tensor) -> None:
    x, c, network = points(3, 2).float(), Shift(torch.tensor([0.5, -1.0, 2.0])), Shrink()
    bare = x / (1 + sigma.reshape(-1, 1).square())
    for scale in (0.0, 1.0, 3.0):
        guided = Guided(network, scale)(x, sigma, c)
        torch.testing.assert_close(guided, bare + scale * c.by[:, None] * x.square())


def test_guidance_counts_its_evaluations() -> None:
    network = Shrink()
    assert Guided(network, 1.0).evaluations == 1
    assert Guided(network, 2.0).evaluations == 2
    assert Guided(Guided(network, 2.0), 2.0).evaluations == 4
    Guided(network, 2.0)(points(3, 2), torch.tensor(1.0), Shift(torch.ones(3)))
    assert network.calls == 1, "both halves travel in one batch"


def test_guidance_needs_conditioning() -> None:
    with pytest.raises(UserError, match=r"scale 2\.0 without conditioning"):
        Guided(Shrink(), 2.0)(points(3, 2), torch.tensor(1.0))
