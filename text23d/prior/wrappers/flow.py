"""Networks trained along straight lines from data to noise (rectified flow, Liu et al. 2023), seen as D(x; sigma, c).

With t in (0, 1), x_t = (1 - t) x0 + t n and the network predicts v = n - x0. Dividing by 1 - t gives x = x0 + sigma n
with sigma = t / (1 - t), so that t = sigma / (1 + sigma), x_t = x / (1 + sigma) and x0 = x_t - t v.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from text23d.prior.builtin.edm import column


@dataclass(frozen=True)
class RectifiedFlow:
    """D from a network that predicts v.

    network  (x_t [B, ...], t [B] in (0, 1), c) -> v, as x_t.
    """

    network: Callable[[Tensor, Tensor, Any], Tensor]

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B] > 0 -> E[x0 | x] as x."""
        s = column(sigma, x)
        x_t, t = x / (1 + s), s / (1 + s)
        return x_t - t * self.network(x_t, t.flatten(), c)
