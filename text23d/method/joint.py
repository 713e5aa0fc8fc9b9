"""Rivals of Algorithm 1 for what is larger than a prior's examples: windows sampled together.

Each is a sampler of the whole whose state is split in two: phi holds the denoised windows, averaged where they overlap
(`update.Replace`), and `warm.SharedNoise` the noise, averaged likewise, so that x = phi + sigma n at every level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from text23d.contracts import Stage, unwatched
from text23d.guide import Guide, cost
from text23d.method.baselines import Guided, unmeasured
from text23d.method.noise import rms, spread
from text23d.method.ode import integrate
from text23d.method.proposal import Proposal, Rng
from text23d.settings import NonNegative, number, whole


@dataclass(frozen=True)
class MultiDiffusion:
    """x0_hat = D(x), and the noise (x - D(x)) / sigma goes on to the next level: DDIM of all windows, averaged where
    they overlap at each step (Bar-Tal et al. 2023, Eq. 5 with uniform weights). On windows that do not overlap it
    samples each on its own."""

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        x = x0 + spread(sigma, x0) * n
        with stage("score"):
            guided = Guided.at(guide, x, sigma)
        return Proposal(guided.D, (x - guided.D) / spread(sigma, x), guided.nfe, unmeasured(x0), guided.noise_ratio)


@dataclass(frozen=True)
class SyncDiffusion:
    """`MultiDiffusion` that first moves each window against the gradient of how different D finds it from the first
    (Lee et al. 2023, Algorithm 1):

        x_i <- x_i - weight sigma grad_{x_i} |s(D(x_i)) - s(D(x_0))|^2

    Where the paper compares by LPIPS, which is a network for photographs, s is the mean and the standard deviation of
    each channel, so that it serves every medium. The step counts as 3 evaluations of D'.
    """

    weight: Annotated[float, number(least=0, most=1e6)] = 20.0

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        x = x0 + spread(sigma, x0) * n
        with stage("synchronise"), torch.enable_grad():  # type: ignore[no-untyped-call]
            moved = x.detach().requires_grad_()
            style = statistics(guide.D_aux(moved, sigma))
            (style - style[:1].detach()).square().sum().backward()  # type: ignore[no-untyped-call]
            assert moved.grad is not None
        x = x - self.weight * spread(sigma, x) * moved.grad
        with stage("score"):
            guided = Guided.at(guide, x, sigma)
        nfe = guided.nfe + 3 * cost(guide.aux)
        return Proposal(guided.D, (x - guided.D) / spread(sigma, x), nfe, unmeasured(x0), guided.noise_ratio)


@dataclass(frozen=True)
class StochSync:
    """x0_hat is a sample of the ODE from x0 + sigma n, n fresh, in `steps` steps down to sigma_min: score distillation
    with as much noise as there can be and more than one step to the target (Yeo et al. 2025, section 4), which windows
    take over where they overlap (`update.Replace`).

    guided: noise levels that are not above it have no guidance, which changes little there (Kynkaanniemi et al. 2024)
    and costs as much again.
    """

    steps: Annotated[int, whole(1, 1000)] = 4
    sigma_min: Annotated[float, number(above=0, below=1000)] = 0.05
    guided: NonNegative = 0.0

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        x, low = x0 + spread(sigma, x0) * n, sigma.clamp(max=self.sigma_min)
        shares = torch.linspace(0, 1, self.steps + 1, dtype=sigma.dtype, device=sigma.device)
        levels = torch.stack([sigma ** (1 - share) * low**share for share in shares])
        plain = guide.with_guidance(1)

        def leads(level: Tensor) -> bool:
            return bool((level > self.guided).any())

        def denoise(x: Tensor, level: Tensor) -> Tensor:
            return guide.D(x, level) if leads(level) else plain(x, level)

        with stage("sample"):
            found = denoise(integrate(denoise, x, levels), low)
        nfe = sum(cost(guide.main if leads(level) else guide.unguided, level) for level in (*levels[:-1], low))
        return Proposal(found, n, nfe, torch.ones_like(rms(x0)), rms(n))  # nothing is inverted


def statistics(x: Tensor) -> Tensor:
    """Mean and standard deviation of each channel: [B, C, *S] -> [B, 2 C]."""
    flat = x.flatten(2)
    return torch.cat([flat.mean(2), (flat.var(2, correction=0) + 1e-8).sqrt()], 1)
