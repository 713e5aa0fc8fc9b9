"""Inversion unit ([0047]-[0049]): neutral noise into x0, so that D'(x) ~ x0.

Every strategy starts at x = x0 + sigma n and returns D'(x) with x: the target unit needs that value, and nothing is
evaluated twice. NFE counts calls of D' on the whole batch, a backward pass as 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from text23d.method.noise import norm, spread

Denoise = Callable[[Tensor], Tensor]
"""D'(.; sigma, c') as a function of x alone."""


@dataclass(frozen=True)
class Inversion:
    """x [B, C, *S], denoised = D'(x) as x, nfe, residual = ||D'(x) - x0|| / ||D'(x0 + sigma n) - x0|| [B]."""

    x: Tensor
    denoised: Tensor
    nfe: int
    residual: Tensor


class Inverter(Protocol):
    def __call__(self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor) -> Inversion:
        """x0 and n [B, C, *S], sigma [] or [B]."""
        ...


@dataclass(frozen=True)
class Naive:
    """x = x0 + sigma n ([0047]): the baseline, poor at large sigma. 1 NFE; its relative residual is 1 by definition."""

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor) -> Inversion:
        x = x0 + spread(sigma, x0) * n
        return Inversion(x, denoise(x), nfe=1, residual=torch.ones_like(norm(x0)))


@dataclass(frozen=True)
class Backprop:
    """Adam on the x of ||D'(x) - x0||^2 ([0049]), with a learning rate of `lr` times sigma. 3 iterations + 1 NFE.

    Adam's step does not depend on the scale of its variable, so a rate of lr on n is a rate of lr sigma on x: the
    noise is what is optimised, and each sample may have its own sigma. The last x is returned, as in the patent.
    """

    iterations: int = 20
    lr: float = 0.05

    def __call__(self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor) -> Inversion:
        x0, n, level = x0.detach(), n.detach().clone().requires_grad_(), spread(sigma, x0)
        adam = torch.optim.Adam([n], lr=self.lr)
        start: Tensor | None = None
        for _ in range(self.iterations):
            with torch.enable_grad():
                error = denoise(x0 + level * n) - x0
                # A sum, so that neither the batch nor the size of the picture brings the gradient near Adam's epsilon.
                (n.grad,) = torch.autograd.grad(error.square().sum(), n)
            adam.step()
            start = norm(error.detach()) if start is None else start
        with torch.no_grad():
            x = x0 + level * n
            denoised = denoise(x)
            final = norm(denoised - x0)
        return Inversion(x, denoised, 3 * self.iterations + 1, _ratio(final, final if start is None else start))


@dataclass(frozen=True)
class FixedPoint:
    """x <- x - rho (D'(x) - x0) with step control and no backward pass. steps + 1 NFE.

    The Jacobian of an MMSE denoiser is Cov[x0 | x] / sigma^2, symmetric and positive semi-definite: the step
    contracts where its eigenvalues stay below 2 / rho. On multimodal data they need not, so each sample goes back to
    its best x and halves its rho whenever the residual did not fall: the residual returned is the lowest seen.
    Few steps: exact inversion of a sharp x0 needs noise far above sigma, which the noise ratio shows.
    """

    steps: int = 3
    rho: float = 1.0

    @torch.no_grad()
    def __call__(self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor) -> Inversion:
        x = x0 + spread(sigma, x0) * n
        denoised = denoise(x)
        start = residual = norm(denoised - x0)
        rho = torch.full_like(residual, self.rho)
        for _ in range(self.steps):
            x_try = x - spread(rho, x) * (denoised - x0)
            denoised_try = denoise(x_try)
            residual_try = norm(denoised_try - x0)
            better = residual_try < residual
            x = torch.where(spread(better, x), x_try, x)
            denoised = torch.where(spread(better, x), denoised_try, denoised)
            residual = torch.where(better, residual_try, residual)
            rho = torch.where(better, rho, rho / 2)
        return Inversion(x, denoised, self.steps + 1, _ratio(residual, start))


def _ratio(residual: Tensor, start: Tensor) -> Tensor:
    """residual / start [B]; an x0 that was exact from the start has nothing left to invert: 1, as for `Naive`."""
    return torch.where(start > 0, residual / start, torch.ones_like(start))
