"""Langevin unit ([0038]-[0040], Eq. 1-2): noise reduction, then noise injection, at constant sigma; h = beta dt.

For Gaussian data N(mu, s^2) and k = sigma^2 / (s^2 + sigma^2) the stationary variance of each scheme is in its
docstring; the exact distribution has s^2 + sigma^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from text23d.errors import UserError
from text23d.method.noise import spread


class Langevin(Protocol):
    @property
    def h(self) -> float: ...

    def __call__(self, x: Tensor, denoised: Tensor, sigma: Tensor, e: Tensor, last: Tensor) -> Tensor:
        """x, denoised = D(x), e ~ N(0, I) and the chain's last e [B, C, *S], sigma [] or [B] -> x' as x."""
        ...


@dataclass(frozen=True)
class EulerMaruyama:
    """x' = x + h (D - x) + sqrt(2h) sigma e: variance (s^2 + sigma^2) / (1 - h k / 2); 0 < h < 2, or UserError.

    One step inflates the noise of a picture without variance by 1 + h^2.
    """

    h: float = 0.1

    def __post_init__(self) -> None:
        _require_stable(self.h)

    def __call__(self, x: Tensor, denoised: Tensor, sigma: Tensor, e: Tensor, last: Tensor | None = None) -> Tensor:
        return x + self.h * (denoised - x) + math.sqrt(2 * self.h) * spread(sigma, x) * e


@dataclass(frozen=True)
class LevelPreserving:
    """x' = D + (1 - h)(x - D) + sqrt(2h - h^2) sigma e: variance (s^2 + sigma^2)(2 - h) / (2 - h k); 0 < h < 2, or
    UserError.

    Claim 9. Exact where the data has no variance; h = 1 forgets the old noise altogether.
    """

    h: float = 0.35

    def __post_init__(self) -> None:
        _require_stable(self.h)

    def __call__(self, x: Tensor, denoised: Tensor, sigma: Tensor, e: Tensor, last: Tensor | None = None) -> Tensor:
        injected = math.sqrt(2 * self.h - self.h**2) * spread(sigma, x) * e
        return denoised + (1 - self.h) * (x - denoised) + injected


@dataclass(frozen=True)
class LeimkuhlerMatthews:
    """x' = x + h (D - x) + sqrt(h / 2) sigma (last + e): variance s^2 + sigma^2 exactly; 0 < h < 2, or UserError.

    Leimkuhler and Matthews (2013). Each noise enters two steps of a chain: `last` is the e of the step before, or a
    fresh draw for the first. Exact for a chain in equilibrium, which takes some steps to get there.
    """

    h: float = 0.2

    def __post_init__(self) -> None:
        _require_stable(self.h)

    def __call__(self, x: Tensor, denoised: Tensor, sigma: Tensor, e: Tensor, last: Tensor) -> Tensor:
        return x + self.h * (denoised - x) + math.sqrt(self.h / 2) * spread(sigma, x) * (last + e)


def _require_stable(h: float) -> None:
    if not 0 < h < 2:
        raise UserError(f"Langevin step h = {h}: the schemes are stable for 0 < h < 2; try 0.3")


Scheme = EulerMaruyama | LevelPreserving | LeimkuhlerMatthews
