"""The probability-flow ODE dx / dsigma = (x - D(x; sigma)) / sigma (Karras et al. 2022, Eq. 1 with sigma(t) = t)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
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


def multistep(denoise: Denoise, x: Tensor, levels: Tensor) -> Tensor:
    """`integrate` by DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2, with alpha = 1): of second order in log sigma, for
    one evaluation a step, since it remembers the one before. levels fall; the last may be 0."""
    before, last = None, None
    for level, following in pairwise(levels):
        denoised = denoise(x, level)
        step, ahead = torch.log(level / following), denoised
        if before is not None and bool(step.isfinite().all()):
            ahead = denoised + spread(step / (2 * last), x) * (denoised - before)  # type: ignore[operator]
        x = torch.lerp(ahead, x, spread(following / level, x).expand_as(x))
        before, last = denoised, step
    return x
