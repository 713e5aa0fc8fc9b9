"""The rivals of Algorithm 1 behind the same step: score distillation, each as the gradient g of its paper on x0.

All are written for the variance-exploding process x = x0 + sigma n with eps(x; sigma, c) = (x - D(x; sigma, c)) /
sigma, and all weigh a difference of two eps by w(sigma) = sigma: a step of 1 against the g of SDS then lands on D(x).
Where the paper uses the unconditional prior, so is D taken without its guidance: `Guide.D_unconditional`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from text23d.contracts import Stage, unwatched
from text23d.guide import Guide, cost
from text23d.method.invert import Factor, Steps, rising
from text23d.method.noise import rms, spread
from text23d.method.ode import integrate
from text23d.method.proposal import Proposal, Rng
from text23d.settings import number


@dataclass(frozen=True)
class SDS:
    """Score distillation sampling: g = w(sigma) (eps(x; sigma, c) - n) (Poole et al. 2023, DreamFusion, Eq. 3)."""

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        x = x0 + spread(sigma, x0) * n
        with stage("score"):
            guided = Guided.at(guide, x, sigma)
        return Proposal(guided.D, n, guided.nfe, torch.ones_like(rms(x0)), guided.noise_ratio)


@dataclass(frozen=True)
class VSD:
    """Variational score distillation: g = w(sigma) (eps(x; sigma, c) - eps_phi(x; sigma, c)) (Wang et al. 2023,
    ProlificDreamer, Eq. 9), where eps_phi, the guide's `learner`, learns the renderings' own score by the denoising
    loss of its Eq. 8.

    Both equations are taken at the same x, as in the paper's algorithm, so that eps_phi is evaluated once. Raises
    ValueError where the guide has no learner.
    """

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        if guide.learner is None:
            raise ValueError("VSD requires a guide with a learner, which follows the renderings' distribution")
        x = x0 + spread(sigma, x0) * n
        with stage("score"):
            guided = Guided.at(guide, x, sigma)
        with stage("learn"):
            D_phi = guide.learner(x0, x, sigma, guide.c)
        nfe = guided.nfe + guide.learner.evaluations
        return Proposal(x0 - (D_phi - guided.D), n, nfe, torch.ones_like(rms(x0)), guided.noise_ratio)


@dataclass(frozen=True)
class ISM:
    """Interval score matching: g = w(sigma_t) (eps(x_t; sigma_t, c) - eps(x_s; sigma_s, nothing)) (Liang et al. 2024,
    LucidDreamer, the loss L_ISM of section 3.2).

    x_s and x_t are x0 inverted by DDIM with a prior that is told nothing: `steps` steps from sigma_min to
    sigma_s = interval sigma_t, and one more to sigma_t. steps + 1 NFE for them.
    """

    steps: Steps = 3
    interval: Annotated[float, number(above=0, below=1)] = 0.8
    sigma_min: Factor = 0.02

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        sigma_s = self.interval * sigma
        with stage("invert"):
            x_s = integrate(guide.D_unconditional, x0, rising(self.sigma_min, sigma_s.expand(len(x0)), self.steps))
            eps_s = (x_s - guide.D_unconditional(x_s, sigma_s)) / spread(sigma_s, x0)
            x_t = x_s + spread(sigma - sigma_s, x0) * eps_s
        with stage("score"):
            guided = Guided.at(guide, x_t, sigma)
        g = x_t - guided.D - spread(sigma, x0) * eps_s
        nfe = (self.steps + 1) * cost(guide.unguided) + guided.nfe
        return Proposal(x0 - g, (x_t - x0) / spread(sigma, x0), nfe, unmeasured(x0), guided.noise_ratio)


@dataclass(frozen=True)
class SDI:
    """Score distillation via inversion: g = w(sigma) (eps(x; sigma, c) - kappa(x0)), so that x0_hat = D(x), where kappa
    is the noise that DDIM's inversion of x0 under the prompt arrives with (Lukoianov et al. 2024, section 4).

    x is x0 inverted by DDIM, `steps` steps from sigma_min to sigma, with D under guidance of its own: 1 is
    conditional, 0 unconditional, and the paper takes it negative, the opposite of D's. 2 NFE a step where it is neither
    0 nor 1.
    """

    steps: Steps = 5
    guidance: Annotated[float, number(least=-1000, most=1000)] = 1.0
    sigma_min: Factor = 0.02

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        with stage("invert"):
            levels = rising(self.sigma_min, sigma.expand(len(x0)), self.steps)
            x = integrate(guide.with_guidance(self.guidance), x0, levels)
        with stage("score"):
            guided = Guided.at(guide, x, sigma)
        nfe = self.steps * (1 if self.guidance in (0, 1) else 2) * cost(guide.unguided) + guided.nfe
        return Proposal(guided.D, (x - x0) / spread(sigma, x0), nfe, unmeasured(x0), guided.noise_ratio)


@dataclass(frozen=True)
class Guided:
    """D(x), what it cost, and the noise ratio of x where D'(x) came with it: NaN where it would cost more."""

    D: Tensor
    nfe: int
    noise_ratio: Tensor

    @staticmethod
    def at(guide: Guide, x: Tensor, sigma: Tensor) -> Guided:
        if not guide.shared:
            return Guided(guide.D(x, sigma), cost(guide.main, sigma), unmeasured(x))
        D_aux = guide.D_aux(x, sigma)
        return Guided(
            guide.D_given(x, sigma, D_aux), cost(guide.main, sigma), rms(x - D_aux) / guide.expected_rms(sigma)
        )


def unmeasured(x: Tensor) -> Tensor:
    """NaN for each sample, [B]: what an evaluation more would tell."""
    return torch.full_like(rms(x), torch.nan)
