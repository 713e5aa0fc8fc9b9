"""Pictures of the prior by Algorithm 1 itself: the rendering is the picture, and the target replaces it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser, Shape
from text23d.guide import Guide
from text23d.method.algorithm import Algorithm1
from text23d.method.invert import FixedPoint
from text23d.method.langevin import LevelPreserving
from text23d.method.step import step
from text23d.method.update import Replace
from text23d.rng import generator

# With warm starts the inversion needs no step of its own. A leak of 1 lets a picture sharpen as the level falls:
# without it, x0_hat - D'(x') = x0 - D'(x) keeps the blur of the level before. Level-preserving steps may be large where
# data has little variance, as pictures have at low levels; on broad Gaussians 0.6 leaves deviations 14 % too small.
METHOD = Algorithm1(FixedPoint(0), LevelPreserving(0.6), leak=1.0)


class Pictures:
    """Pictures x [B, C, H, W] that are their own renderings; implements `contracts.Representation`."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def render(self, views: None, shape: Shape) -> Tensor:
        return self.x

    def parameters(self) -> list[torch.nn.Parameter]:
        return []

    def replace(self, views: None, x0_hat: Tensor) -> None:
        self.x = x0_hat


def algorithm1(
    main: Denoiser, aux: Denoiser, x: Tensor, levels: Tensor, c: Any, seed: int, method: Algorithm1 = METHOD
) -> Tensor:
    """From flat grey down the noise levels [steps + 1], the last of them 0, in one iteration each.

    x [B, C, H, W]: noise of deviation levels[0]. Each picture goes on with the noise that it ended with. Langevin's
    draws come from `seed`. Returns pictures as x.
    """
    phi, noise = Pictures(torch.zeros_like(x)), x / levels[0]
    guide = Guide(main, aux, c, c)
    for index, sigma in enumerate(levels[:-1]):
        rng = partial(generator, seed, 0, index)
        noise = step(phi, None, method, guide, sigma, Replace(), rng, tuple(x.shape[2:]), noise=noise).proposal.noise
    return phi.x
