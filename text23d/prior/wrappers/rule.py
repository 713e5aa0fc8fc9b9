"""What guidance makes of a denoiser's answers: the papers' equations, written for D.

A network's own prediction, of n (epsilon), of v, of a flow or of x0 (sample), is a multiple of D - k x, where k depends
on the noise level alone. So a difference of two predictions at one x is that multiple of the difference of the two D,
and equations of such differences (classifier-free guidance, Perp-Neg) are the same for D as for any prediction. One
that takes the prediction itself (rescaled guidance) needs k, which `kept` gives; one that was written for D (projected
guidance) needs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.prior.builtin.edm import column
from text23d.settings import NonNegative, Positive, Share

Prediction = Literal["sample", "epsilon", "v_prediction", "flow"]
KEPT: dict[str, Callable[[Tensor], Tensor]] = {
    "sample": torch.zeros_like,
    "epsilon": torch.ones_like,
    "v_prediction": lambda s: 1 / (1 + s**2),
    "flow": lambda s: 1 / (1 + s),
}
"""k of each prediction, where sigma is in units of a model of data of standard deviation 1. EDM's own output (Karras et
al. 2022, Eq. 7) is that of v_prediction, in units of its sigma_data."""


def kept(prediction: Prediction, unit: float = 1.0) -> Callable[[Tensor], Tensor]:
    """sigma -> k of what the network predicts. unit: a model's level 1 in those of D, as in `vp.Rescaled`."""
    return lambda sigma: KEPT[prediction](sigma / unit)


EVERYWHERE = (0.0, 1000.0)
"""All noise levels that there are."""


@dataclass(frozen=True)
class Rule:
    """How D(x; c) is led away from D(x; away). The defaults are plain classifier-free guidance (Ho and Salimans 2022).

    rescale   phi of Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps Are Flawed", Eqs. 14 to 16: how
              far what the network predicts is scaled back to the deviation it has unguided; 0: not at all.
    interval  noise levels above the first, up to the second, have guidance at all (Kynkaanniemi et al. 2024, Eq. 3).
    parallel  eta of adaptive projected guidance (APG; Sadat et al. 2025, Eq. 6): the share that is kept of the
              difference's part along D(x; c), which saturates; 1: all, the paper takes 0.
    norm      r of APG (Eq. 9): the largest norm of an example's difference; None: any.
    perp_neg  weight of a negative prompt by Perp-Neg (Armandpour et al. 2023): only its part perpendicular to the
              prompt counts. None: guidance moves away from it instead of from nothing said.

    APG's momentum is left out: it adds up differences along one trajectory, and the iterations of a run have none in
    common. Raises UserError for an interval without levels.
    """

    rescale: Share = 0.0
    interval: tuple[NonNegative, Positive] = EVERYWHERE
    parallel: Share = 1.0
    norm: Positive | None = None
    perp_neg: NonNegative | None = None

    def __post_init__(self) -> None:
        low, high = self.interval
        if low >= high:
            raise UserError(f"rule.interval=[{low:g}, {high:g}]: expected two noise levels, the lower one first")

    def inside(self, sigma: Tensor) -> Tensor | None:
        """Which of these levels [B] have guidance; None: all, so that nobody has to look."""
        low, high = self.interval
        return None if self.interval == EVERYWHERE else (sigma > low) & (sigma <= high)

    def __call__(
        self,
        scale: float,
        towards: Tensor,
        from_: Tensor,
        against: Sequence[tuple[Tensor, Tensor]],
        kept: Tensor,
    ) -> Tensor:
        """D guided at `scale`, as `towards` = D(x; c) and from_ = D(x; away), all [B, C, *S].

        against: of each prompt of Perp-Neg D(x; it) and the weights [B] it has for each example; kept: k x of `kept`.
        """
        difference = towards - from_
        if self.parallel == 1 and self.norm is None:
            guided = from_ + scale * difference
        else:
            guided = towards + (scale - 1) * self.projected(difference, towards)
        for each, weight in against:
            guided = guided - scale * column(weight, guided) * perpendicular(each - from_, difference)
        return self.rescaled(guided, towards, kept) if self.rescale else guided

    def projected(self, difference: Tensor, towards: Tensor) -> Tensor:
        """APG's difference: no longer than `norm`, its part along D(x; c) times `parallel` (Eqs. 6 to 9)."""
        if self.norm is not None:
            length = difference.flatten(1).norm(dim=1).clamp(min=torch.finfo(difference.dtype).tiny)
            difference = column((self.norm / length).clamp(max=1), difference) * difference
        across = perpendicular(difference, towards)
        return across + self.parallel * (difference - across)

    def rescaled(self, guided: Tensor, towards: Tensor, kept: Tensor) -> Tensor:
        """What the network predicts, D - k x but for a factor, with a deviation more like that of D(x; c)'s."""
        told, found = ((each - kept).flatten(1).std(1) for each in (towards, guided))
        return column(self.rescale * told / found + 1 - self.rescale, guided) * (guided - kept) + kept


PLAIN = Rule()
"""Classifier-free guidance."""


def perpendicular(a: Tensor, b: Tensor) -> Tensor:
    """a without its part along b, example by example: a - (a . b) / |b|^2 b; a itself where b is 0."""
    along, length = (a * b).flatten(1).sum(1), b.square().flatten(1).sum(1)
    return a - column(along / length.clamp(min=torch.finfo(b.dtype).tiny), b) * b
