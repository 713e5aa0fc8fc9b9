"""Networks trained with variance-preserving noise and timesteps, seen as D(x; sigma, c).

With abar(t) the share of signal left at timestep t, x_vp = sqrt(abar) x0 + sqrt(1 - abar) n. Dividing by sqrt(abar)
gives x = x0 + sigma n with sigma = sqrt((1 - abar) / abar), so that abar = 1 / (1 + sigma^2) and
x_vp = x / sqrt(1 + sigma^2) (Karras et al. 2022, Table 1, VP column).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.prior.builtin.edm import column

PREDICTIONS = ("epsilon", "v_prediction", "sample")


def sigma_table(alphas_cumprod: Tensor) -> Tensor:
    """abar [T], falling, -> sigma [T'], rising. Where no signal is left (abar = 0; Lin et al. 2024) it is infinite; of
    such steps the first is kept."""
    abar = alphas_cumprod.double()
    abar = abar[: int((abar > 0).sum()) + 1]
    return ((1 - abar) / abar).sqrt()


@dataclass(frozen=True)
class VariancePreserving:
    """D from a network that predicts n (epsilon), v = sqrt(abar) n - sqrt(1 - abar) x0 (v_prediction; Salimans and
    Ho, 2022) or x0 itself (sample).

    network     (x_vp [B, ...], t [B] timesteps, not always whole, c) -> its prediction, as x_vp.
    sigmas      [T] rising: the noise level of each timestep.
    Raises UserError for another prediction.
    """

    network: Callable[[Tensor, Tensor, Any], Tensor]
    sigmas: Tensor
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise UserError(
                f"the model predicts {self.prediction!r}: expected {', '.join(PREDICTIONS)}; choose another model"
            )

    def timestep(self, sigma: Tensor) -> Tensor:
        """sigma [B] -> t [B] in [0, T - 1], as sigma: linear in log sigma between the table's levels, linear in 1 /
        sigma towards a last one that is infinite, and held at its ends."""
        table = self.sigmas.to(sigma.device)
        level = sigma.double().clamp(table[0], table[-1])
        above = torch.searchsorted(table, level).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        share = torch.where(high.isinf(), 1 - low / level, (level / low).log() / (high / low).log())
        return (above - 1 + share).to(sigma)

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B] > 0 -> E[x0 | x] as x."""
        s = column(sigma, x)
        f = self.network(x * (1 + s**2).rsqrt(), self.timestep(s.flatten()), c)
        if self.prediction == "epsilon":
            return x - s * f
        if self.prediction == "v_prediction":  # x0 = sqrt(abar) x_vp - sqrt(1 - abar) v
            return x / (1 + s**2) - s * (1 + s**2).rsqrt() * f
        return f


@dataclass(frozen=True)
class Consistency:
    """D of a latent consistency model (Luo et al. 2023, Eq. 9): c_skip x_vp + c_out x0, where x0 is what its network
    predicts, `inner`; c_skip = d^2 / (u^2 + d^2) and c_out = u / sqrt(u^2 + d^2), u = scale t and d = `sigma_data`."""

    inner: VariancePreserving
    sigma_data: float
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B] > 0 -> what the model takes to be x0, as x."""
        s = column(sigma, x)
        u = self.scale * column(self.inner.timestep(s.flatten()), x)
        spread = u**2 + self.sigma_data**2
        x_vp = x * (1 + s**2).rsqrt()
        return self.sigma_data**2 / spread * x_vp + u * spread.rsqrt() * self.inner(x, sigma, c)


@dataclass(frozen=True)
class Rescaled:
    """D(x; sigma, c) = scale inner(x / scale; sigma / scale, c): the same prior of data in units `scale` times as
    large."""

    inner: Denoiser
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B] > 0 -> E[x0 | x] as x."""
        return self.scale * self.inner(x / self.scale, sigma / self.scale, c)
