"""What the rooms of the project agree on: shapes, units, ranges and conventions.

World: right-handed, Z up; an object faces -Y, so it looks at the camera at azimuth 0 and stands in Blender as it
stands here. Lengths are in scene units; every object fits in the ball of radius 0.9 about the origin, and a
representation covers the cube [-1, 1]^3. Angles are in degrees wherever a person writes them.

Picture space: a prior sees x [B, 4, H, W], row 0 at the top. Channels 0-2 are the colour composited over mid grey,
2 * premultiplied - alpha, in [-1, 1]; channel 3 is coverage, 2 * alpha - 1, in [-1, 1].

Noise: variance exploding, x_sigma = x0 + sigma * n with n ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

Views = TypeVar("Views", contravariant=True)
Psi = TypeVar("Psi")


class Denoiser(Protocol):
    """The one contract of every prior: D(x; sigma, c) = E[x0 | x, c]."""

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B] (noise level, > 0), c whatever this denoiser conditions on -> x0 as x."""
        ...


class Representation(Protocol[Views]):
    """phi: what is optimised. The method sees nothing of it but its renderings and parameters."""

    def render(self, views: Views, size: int) -> Tensor:
        """Render `views` to [B, C, size, size] in picture space, differentiable in the parameters."""
        ...

    def parameters(self) -> Iterable[torch.nn.Parameter]: ...


class Constraint(Protocol[Psi]):
    """Something known beforehand of what is being made ([0003], [0041]): a projection of targets, an extra loss, or
    both. It renders phi and nothing else, and so composes with any representation."""

    @property
    def penalty(self) -> Callable[[Representation[Psi]], Tensor] | None:
        """phi -> a loss [], differentiable in phi, that the update adds to its own; None: none."""
        ...

    def within(self, wrap: Callable[[Representation[Psi]], Representation[Psi]]) -> Constraint[Psi]:
        """The same, of targets in the space to which wrap(phi) renders."""
        ...

    def project(self, x0_hat: Tensor, views: Psi) -> Tensor:
        """A target x0_hat [B, C, S, S] as it should be instead."""
        ...
