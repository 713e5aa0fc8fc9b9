"""The rivals of Algorithm 1 behind the same step: score distillation, each as the gradient g of its paper on x0.

All are written for the variance-exploding process x = x0 + sigma n with eps(x; sigma, c) = (x - D(x; sigma, c)) /
sigma, and all weigh a difference of two eps by w(sigma) = sigma: a step of 1 against the g of SDS then lands on D(x).
Where the papers' prior is told nothing, so is D without its guidance: `Priors.D_untold`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.method.invert import Denoise
from text23d.method.noise import rms, spread
from text23d.method.priors import Priors, cost
from text23d.method.proposal import Proposal, Rng, Stage, unwatched


@dataclass(frozen=True)
class SDS:
    """Score distillation sampling: g = w(sigma) (eps(x; sigma, c) - n) (Poole et al. 2023, DreamFusion, Eq. 3)."""

    def __call__(
        self, ask: Priors, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        x = x0 + spread(sigma, x0) * n
        with stage("score"):
            asked = Asked.at(ask, x, sigma)
        return Proposal(asked.D, n, asked.nfe, torch.ones_like(rms(x0)), asked.noise_ratio)


class Learner(Protocol):
    """The distribution of the renderings, as a denoiser that follows it."""

    @property
    def evaluations(self) -> int:
        """What a call costs, in network evaluations."""
        ...

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, c: Any) -> Tensor:
        """D_phi(x; sigma, c) as x, and then one step of learning that x came from x0, both [B, C, *S]."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class VSD:
    """Variational score distillation: g = w(sigma) (eps(x; sigma, c) - eps_phi(x; sigma, c)) (Wang et al. 2023,
    ProlificDreamer, Eq. 9), where eps_phi learns the renderings' own score by the denoising loss of its Eq. 8.

    learner: makes eps_phi from D without its guidance, with the stream of its first weights. Both equations are taken
    at the same x, as in the paper's algorithm, so that eps_phi is evaluated once. All that lasts from one iteration to
    the next is the learner's: see `state_dict`.
    """

    def __init__(self, learner: Callable[[Denoiser, torch.Generator], Learner]) -> None:
        self.make, self.learner = learner, None

    learner: Learner | None

    def __call__(
        self, ask: Priors, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        learner = self.learner = self.learner or self.make(ask.bare, rng("learner"))
        x = x0 + spread(sigma, x0) * n
        with stage("score"):
            asked = Asked.at(ask, x, sigma)
        with stage("learn"):
            D_phi = learner(x0, x, sigma, ask.c)
        nfe = asked.nfe + learner.evaluations
        return Proposal(x0 - (D_phi - asked.D), n, nfe, torch.ones_like(rms(x0)), asked.noise_ratio)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and optimiser of the learner; empty before the first iteration."""
        return {} if self.learner is None else self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Tensor], denoiser: Denoiser) -> None:
        """Go on from `state`; denoiser: D without its guidance."""
        self.learner = self.make(denoiser, torch.Generator().manual_seed(0)) if state else None
        if self.learner is not None:
            self.learner.load_state_dict(state)


@dataclass(frozen=True)
class ISM:
    """Interval score matching: g = w(sigma_t) (eps(x_t; sigma_t, c) - eps(x_s; sigma_s, nothing)) (Liang et al. 2024,
    LucidDreamer, the loss L_ISM of section 3.2).

    x_s and x_t are x0 inverted by DDIM with a prior that is told nothing: `steps` steps from sigma_min to
    sigma_s = interval sigma_t, and one more to sigma_t. steps + 1 NFE for them. Raises UserError out of range.
    """

    steps: int = 3
    interval: float = 0.8
    sigma_min: float = 0.02

    def __post_init__(self) -> None:
        _require_climb(self.steps, self.sigma_min)
        if not 0 < self.interval < 1:
            raise UserError(f"ISM with interval = {self.interval}: sigma_s / sigma_t is expected in (0, 1), as 0.8")

    def __call__(
        self, ask: Priors, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        sigma_s = self.interval * sigma
        with stage("invert"):
            x_s = ddim(ask.D_untold, x0, rising(self.sigma_min, sigma_s, self.steps, x0))
            eps_s = (x_s - ask.D_untold(x_s, sigma_s)) / spread(sigma_s, x0)
            x_t = x_s + spread(sigma - sigma_s, x0) * eps_s
        with stage("score"):
            asked = Asked.at(ask, x_t, sigma)
        g = x_t - asked.D - spread(sigma, x0) * eps_s
        nfe = (self.steps + 1) * cost(ask.bare) + asked.nfe
        return Proposal(x0 - g, (x_t - x0) / spread(sigma, x0), nfe, unmeasured(x0), asked.noise_ratio)


@dataclass(frozen=True)
class SDI:
    """Score distillation via inversion: g = w(sigma) (eps(x; sigma, c) - kappa(x0)), so that x0_hat = D(x), where kappa
    is the noise that DDIM's inversion of x0 under the prompt arrives with (Lukoianov et al. 2024, section 4).

    x is x0 inverted by DDIM, `steps` steps from sigma_min to sigma, with D under guidance of its own: 1 tells it the
    prompt, 0 nothing, and the paper takes it negative, the opposite of D's. 2 NFE a step where it is neither 0 nor 1.
    Raises UserError out of range.
    """

    steps: int = 5
    guidance: float = 1.0
    sigma_min: float = 0.02

    def __post_init__(self) -> None:
        _require_climb(self.steps, self.sigma_min)

    def __call__(
        self, ask: Priors, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        with stage("invert"):
            D = ask.led(self.guidance)
            x = ddim(D, x0, rising(self.sigma_min, sigma, self.steps, x0))
        with stage("score"):
            asked = Asked.at(ask, x, sigma)
        nfe = self.steps * (1 if self.guidance in (0, 1) else 2) * cost(ask.bare) + asked.nfe
        return Proposal(asked.D, (x - x0) / spread(sigma, x0), nfe, unmeasured(x0), asked.noise_ratio)


@dataclass(frozen=True)
class Asked:
    """D(x), what it cost, and the noise ratio of x where D'(x) came with it: NaN where it would cost more."""

    D: Tensor
    nfe: int
    noise_ratio: Tensor

    @staticmethod
    def at(ask: Priors, x: Tensor, sigma: Tensor) -> Asked:
        if not ask.shared:
            return Asked(ask.D(x, sigma), cost(ask.main), unmeasured(x))
        D_aux = ask.D_aux(x, sigma)
        return Asked(ask.D_given(x, sigma, D_aux), cost(ask.main), rms(x - D_aux) / ask.expected_rms(sigma))


def ddim(denoise: Denoise, x: Tensor, levels: Tensor) -> Tensor:
    """DDIM's inversion (Song et al. 2021), Euler's method on dx / dsigma = eps: x [B, C, *S] from the first of `levels`
    [N + 1, B or 1] to the last. N evaluations."""
    for level, higher in pairwise(levels):
        x = x + spread((higher - level) / level, x) * (x - denoise(x, level))
    return x


def rising(low: float, high: Tensor, steps: int, x0: Tensor) -> Tensor:
    """Noise levels [steps + 1, B], even in their logarithms, from `low` to `high`, [] or [B]."""
    part = torch.linspace(0, 1, steps + 1, dtype=x0.dtype, device=x0.device)[:, None]
    return low ** (1 - part) * high.expand(len(x0)) ** part


def unmeasured(x: Tensor) -> Tensor:
    """NaN for each sample, [B]: what an evaluation more would tell."""
    return torch.full_like(rms(x), torch.nan)


def _require_climb(steps: int, sigma_min: float) -> None:
    if type(steps) is not int or steps < 1 or not sigma_min > 0:
        raise UserError(f"steps = {steps}, sigma_min = {sigma_min}: expected at least 1 step, and a level above 0")
