"""Several noise levels in one iteration: what a method proposes at each, averaged ([0038]-[0045])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from text23d.contracts import Stage, unwatched
from text23d.errors import UserError
from text23d.guide import Guide
from text23d.method.noise import gaussian
from text23d.method.proposal import Method, Proposal, Rng
from text23d.rng import Stream


@dataclass(frozen=True)
class Levels:
    """`method` at each of `factors` times sigma, all from one rendering: the mean of the targets, residuals and noise
    ratios, the sum of the evaluations. Every level has noises of its own; the noise proposed, which a camera bank
    keeps, is that of the first.

    Raises UserError where there is no factor, or one is not above 0.
    """

    method: Method
    factors: Sequence[float]

    def __post_init__(self) -> None:
        if not self.factors or not all(factor > 0 for factor in self.factors):
            raise UserError(f"levels = {list(self.factors)}: expected shares of sigma above 0, as [1.0] or [0.5, 1.0]")

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        found = [self.method(guide, x0, self.factors[0] * sigma, n, rng, stage)]
        for level, factor in enumerate(self.factors[1:], 1):

            def own(purpose: str, level: int = level) -> Stream:
                return rng(f"{purpose} at level {level}")

            found.append(self.method(guide, x0, factor * sigma, gaussian(x0, own("inversion")), own, stage))
        target, residual, noise_ratio = (
            torch.stack([getattr(each, name) for each in found]).mean(0)
            for name in ("target", "residual", "noise_ratio")
        )
        return Proposal(target, found[0].noise, sum(each.nfe for each in found), residual, noise_ratio)
