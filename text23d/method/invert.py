"""Inversion unit ([0047]-[0049]): neutral noise into x0, so that D'(x) ~ x0.

Every strategy returns D'(x) with x: the target unit needs that value, and nothing is evaluated twice. NFE counts calls
of D' on the whole batch, a backward pass as 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor

from text23d.method.noise import norm, rms, spread
from text23d.method.ode import Denoise, integrate
from text23d.settings import Flag, number, whole

Steps = Annotated[int, whole(1, 100_000)]
Factor = Annotated[float, number(above=0, most=100)]


@dataclass(frozen=True)
class Inversion:
    """x [B, C, *S], denoised = D'(x) as x, nfe, residual = ||D'(x) - x0|| / ||D'(x0 + sigma n) - x0|| [B]."""

    x: Tensor
    denoised: Tensor
    nfe: int
    residual: Tensor


class Inverter(Protocol):
    def __call__(
        self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor, expected_rms: Tensor | None = None
    ) -> Inversion:
        """x0 and n [B, C, *S], sigma [] or [B]; expected_rms, as sigma: rms(x - D'(x)) on real data (None: sigma)."""
        ...


@dataclass(frozen=True)
class Naive:
    """x = x0 + sigma n ([0047]): the baseline, poor at large sigma. 1 NFE; its relative residual is 1 by definition."""

    @torch.no_grad()
    def __call__(
        self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor, expected_rms: Tensor | None = None
    ) -> Inversion:
        x = x0 + spread(sigma, x0) * n
        return Inversion(x, denoise(x, sigma), nfe=1, residual=torch.ones_like(norm(x0)))


@dataclass(frozen=True)
class Ode:
    """The probability-flow ODE upwards from sigma_min to sigma ([0048]), in `steps` steps even in log sigma.

    solver     euler, of first order and 1 NFE a step, or heun, of second and 2; see `ode.integrate`.
    perturbed  start at x0 + sigma_min n, the more robust form, instead of at x0, which the ODE leaves where it lies off
               the manifold.

    2 NFE more: D'(x), and D'(x0 + sigma n), which the relative residual is measured by.
    """

    steps: Steps = 12
    sigma_min: Factor = 0.02
    solver: Literal["euler", "heun"] = "euler"
    perturbed: Flag = True

    @torch.no_grad()
    def __call__(
        self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor, expected_rms: Tensor | None = None
    ) -> Inversion:
        sigma = sigma.expand(len(x0))
        x = x0 + self.sigma_min * n if self.perturbed else x0
        x = integrate(denoise, x, rising(self.sigma_min, sigma, self.steps), self.solver)
        denoised, start = denoise(x, sigma), denoise(x0 + spread(sigma, x0) * n, sigma)
        residual = _ratio(norm(denoised - x0), norm(start - x0))
        return Inversion(x, denoised, (2 if self.solver == "heun" else 1) * self.steps + 2, residual)


@dataclass(frozen=True)
class Backprop:
    """Adam on the x of ||D'(x) - x0||^2 ([0049]), with a learning rate of `lr` times sigma. 3 iterations + 1 NFE.

    Adam's step does not depend on the scale of its variable, so a rate of lr on n is a rate of lr sigma on x: the
    noise is what is optimised, and each sample may have its own sigma. The last x is returned, as in the patent.
    """

    iterations: Annotated[int, whole(0, 100_000)] = 20
    lr: Factor = 0.05

    def __call__(
        self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor, expected_rms: Tensor | None = None
    ) -> Inversion:
        x0, n, level = x0.detach(), n.detach().clone().requires_grad_(), spread(sigma, x0)
        adam = torch.optim.Adam([n], lr=self.lr)
        start: Tensor | None = None
        for _ in range(self.iterations):
            with torch.enable_grad():
                error = denoise(x0 + level * n, sigma) - x0
                # A sum, so that neither the batch nor the size of the picture brings the gradient near Adam's epsilon.
                (n.grad,) = torch.autograd.grad(error.square().sum(), n)
            adam.step()
            start = norm(error.detach()) if start is None else start
        with torch.no_grad():
            x = x0 + level * n
            denoised = denoise(x, sigma)
            final = norm(denoised - x0)
        return Inversion(x, denoised, 3 * self.iterations + 1, _ratio(final, final if start is None else start))


@dataclass(frozen=True)
class FixedPoint:
    """x <- x - rho (D'(x) - x0) with step control and no backward pass. steps + 1 NFE.

    The Jacobian of an MMSE denoiser is Cov[x0 | x] / sigma^2, symmetric and positive semi-definite: the step
    contracts where its eigenvalues stay below 2 / rho. On multimodal data they need not, so each sample goes back to
    its best x and halves its rho whenever the residual did not fall: the residual returned is the lowest seen.

    memory  so many earlier points are mixed in, for the least residual to first order: Anderson (1965), Type II.
    shell   every step is scaled so that rms(x - D'(x)) is what it is on real data: exact inversion of a sharp x0
            needs noise far above sigma, which a later denoiser would take for a part of the picture.

    """

    steps: Annotated[int, whole(0, 100_000)] = 3
    rho: Factor = 1.0
    memory: Annotated[int, whole(0, 100)] = 0
    shell: Flag = False

    @torch.no_grad()
    def __call__(
        self, denoise: Denoise, x0: Tensor, sigma: Tensor, n: Tensor, expected_rms: Tensor | None = None
    ) -> Inversion:
        m = spread(sigma, x0) * n  # x - x0
        r = denoise(x0 + m, sigma) - x0
        start = residual = norm(r)
        rho, past = torch.full_like(residual, self.rho), list[tuple[Tensor, Tensor]]()
        for _ in range(self.steps):
            m_mixed, r_mixed = _mix(m, r, past[-self.memory :] if self.memory else [])
            m_try = m_mixed - spread(rho, m) * r_mixed
            if self.shell:
                goal = sigma if expected_rms is None else expected_rms
                m_try = spread(goal / rms(m_try - r_mixed), m) * m_try
            r_try = denoise(x0 + m_try, sigma) - x0
            residual_try = norm(r_try)
            better = residual_try < residual
            (m, m_left), (r, r_left) = _sort(better, m_try, m), _sort(better, r_try, r)
            past.append((m_left, r_left))
            residual = torch.where(better, residual_try, residual)
            rho = torch.where(better, rho, rho / 2)
        return Inversion(x0 + m, x0 + r, self.steps + 1, _ratio(residual, start))


def _mix(m: Tensor, r: Tensor, past: list[tuple[Tensor, Tensor]], damping: float = 1e-3) -> tuple[Tensor, Tensor]:
    """(m, r) - sum_i g_i (m - m_i, r - r_i), with the g of the least squares in its r; `damping` is relative."""
    if not past:
        return m, r
    dm = torch.stack([m - before for before, _ in past], 1).flatten(2)
    dr = torch.stack([r - before for _, before in past], 1).flatten(2)
    gram, towards = dr @ dr.mT, dr @ r.flatten(1)[..., None]
    largest = gram.diagonal(dim1=1, dim2=2).amax(1)[:, None, None]
    largest = largest.where(largest > torch.finfo(r.dtype).tiny, torch.inf)  # nothing changed: nothing to mix, g = 0
    g = torch.linalg.solve(gram / largest + damping * torch.eye(len(past)).to(r), towards / largest)
    return m - (g * dm).sum(1).view_as(m), r - (g * dr).sum(1).view_as(r)


def _sort(better: Tensor, new: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """What each sample goes on with, and what it leaves behind."""
    choose = spread(better, new)
    return torch.where(choose, new, old), torch.where(choose, old, new)


def renormed(found: Inversion, denoise: Denoise, x0: Tensor, sigma: Tensor, expected_rms: Tensor) -> Inversion:
    """x = D'(x) + (x - D'(x)) expected_rms / rms(x - D'(x)), for 1 NFE more; shapes as for `Inverter`."""
    noise = found.x - found.denoised
    x = found.denoised + spread(expected_rms / rms(noise), noise) * noise
    denoised = denoise(x, sigma)
    change = _ratio(norm(denoised - x0), norm(found.denoised - x0))
    return Inversion(x, denoised, found.nfe + 1, found.residual * change)


def rising(low: float, high: Tensor, steps: int) -> Tensor:
    """Noise levels [steps + 1, B], even in their logarithms, from `low` to `high` [B]."""
    part = torch.linspace(0, 1, steps + 1, dtype=high.dtype, device=high.device)[:, None]
    return low ** (1 - part) * high**part


def _ratio(residual: Tensor, start: Tensor) -> Tensor:
    """residual / start [B]; an x0 that was exact from the start has nothing left to invert: 1, as for `Naive`."""
    return torch.where(start > 0, residual / start, torch.ones_like(start))
