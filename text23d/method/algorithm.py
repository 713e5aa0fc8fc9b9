"""Algorithm 1 of the patent ([0040]-[0045], claim 1) between rendering and update: inversion,
Langevin steps, target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from torch import Tensor

from text23d.contracts import Stage, unwatched
from text23d.errors import UserError
from text23d.guide import Guide, cost
from text23d.method.invert import FixedPoint, Inverter, renormed
from text23d.method.langevin import LevelPreserving, Scheme
from text23d.method.noise import gaussian, rms, spread
from text23d.method.proposal import Proposal, Rng
from text23d.method.target import target
from text23d.settings import number

Leak = Annotated[float, number(least=0, most=10)]


@dataclass(frozen=True)
class Algorithm1:
    """The strategies of one iteration: how to invert, which Langevin scheme and how many of its steps, which leak.

    renorm: scale the noise that any inversion ends with to what D' leaves of real data, for one evaluation more.
    Where D is D', or D' guided, and both are told the same, the D'(x) of the inversion is not evaluated again.
    Raises UserError for a churn below 1.
    """

    inversion: Inverter = field(default_factory=FixedPoint)
    langevin: Scheme = field(default_factory=LevelPreserving)
    churn: int = 1
    leak: float = 0.0
    renorm: bool = False

    def __post_init__(self) -> None:
        if self.churn < 1:
            raise UserError(f"churn = {self.churn}: an iteration takes at least 1 Langevin step; use churn = 1")

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        with stage("invert"):
            expected = guide.expected_rms(sigma)
            inverted = self.inversion(guide.D_aux, x0, sigma, n, expected)
            if self.renorm:
                inverted = renormed(inverted, guide.D_aux, x0, sigma, expected)

        with stage("Langevin"):
            x, stream, last = inverted.x, rng("langevin"), gaussian(x0, rng("langevin before"))
            for k in range(self.churn):
                denoised = guide.D(x, sigma) if k else guide.D_given(x, sigma, inverted.denoised)
                e = gaussian(x, stream)
                x, last = self.langevin(x, denoised, sigma, e, last), e

        with stage("target"):
            denoised = guide.D_aux(x, sigma)
            x0_hat = target(x0, inverted.denoised, denoised, self.leak)

        nfe = (inverted.nfe + 1 - guide.shared) * cost(guide.aux) + self.churn * cost(guide.main, sigma)
        noise_ratio = rms(inverted.x - inverted.denoised) / expected
        return Proposal(x0_hat, (x - denoised) / spread(sigma, x), nfe, inverted.residual, noise_ratio)
