"""The probability-flow ODE dx / dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, Eq. 1 with sigma(t) = t)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

from text23d.method.noise import spread

Denoise = Callable[[Tensor, Tensor], Tensor]
"""D(.; ., c) as a function of x and sigma."""


def integrate(denoise: Denoise, x: Tensor, levels: Tensor, solver: str = "euler") -> Tensor:
    """x [B, C, *S] from the first of `levels` [N + 1], or [N + 1, B] for levels of each sample's own, to the last.

    solver: euler, of first order and N evaluations; or heun, of second order and 2 N, one less where the last level
    is 0, at which there is no slope. Upwards it inverts (DDIM's inversion, Song et al. 2021, is Euler's method);
    downwards it samples (Karras et al. 2022, Algorithm 1).
    """
    for level, following in pairwise(levels):
        slope, step = (x - denoise(x, level)) / spread(level, x), spread(following - level, x)
        ahead = x + step * slope
        if solver == "heun" and bool((following > 0).all()):
            slope = (slope + (ahead - denoise(ahead, following)) / spread(following, x)) / 2
            ahead = x + step * slope
        x = ahead
    return x
