"""A radiance field whose shape is a signed distance: its surface has a place, a normal and a sharpness, all learnt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from text23d.representation.hashgrid import Encoding
from text23d.representation.nerf import Nerf
from text23d.representation.occupancy import Occupancy
from text23d.representation.surface import CANDIDATES, DEPTH, differences, lateness, undecided
from text23d.settings import Count, NonNegative, Positive, number, whole

Distance = Callable[[Tensor], Tensor]
"""Points [N, 3] -> signed distance [N] to a surface in scene units, < 0 inside."""

RAW_PER_UNIT = 16.0
"""Per scene unit: a raw output of 1 moves the surface by 1 / RAW_PER_UNIT. At the rim of the ball of radius 1 the fused
field is then softplus(-8) at the start, from which its argument is still found to four digits in float32."""
LEAST_BETA = 1 / 16
"""Of a ray's step: with a beta far below it, a step is wholly in or wholly out."""
LEAST_SOFTENED = 1e-30
"""What log(exp(.) - 1) is taken of at least: outside the ball the fused field is 0, and the surface counts as far."""


class SdfNerf(Nerf):
    """A `Nerf` whose density is that of VolSDF (Yariv et al. 2021, Eq. 2 and 3):

        sdf(x)     = |x| - radius - raw(x) / RAW_PER_UNIT
        density(x) = Psi(-sdf(x)) / beta for |x| < 1, else 0
        Psi(s)     = exp(s / beta) / 2 for s <= 0, else 1 - Psi(-s)

    with raw the output of the network of `Nerf`. It starts as a sphere. beta, scene units, is how far matter reaches
    beyond the surface, and 1 / beta the density within. It is learnt as exp(-10 s), as in NeuS (Wang et al. 2021), and
    stays above LEAST_BETA of a ray's step.

    beta       where it starts: large enough that the inside of the sphere can still be carved.
    distance   what keeps sdf a distance; None: nothing.
    The others as those of `Nerf`.
    """

    def __init__(
        self,
        encoding: Encoding | None = None,
        hidden: Annotated[int, whole(1, 1024)] = 32,
        steps: Annotated[int, whole(1, 1024)] = 64,
        radius: Annotated[float, number(least=0.01, most=100)] = 0.5,
        beta: Annotated[float, number(least=0.001, most=10)] = 0.1,
        occupancy: Occupancy | None = None,
        refresh: Count = 4,
        distance: Eikonal | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            encoding, hidden, steps, RAW_PER_UNIT, RAW_PER_UNIT * radius, radius, occupancy, refresh, None, generator
        )
        self.distance, self.sharpness = distance, nn.Parameter(torch.tensor(-math.log(beta) / 10))

    @property
    def beta(self) -> Tensor:
        """[], scene units."""
        return LEAST_BETA * self.dt + torch.exp(-10 * self.sharpness)

    def sdf(self, x: Tensor) -> Tensor:
        """Points [N, 3] -> signed distance [N] to the surface in scene units, < 0 inside; far off outside the ball.

        The fused field as a density with gain 1 is softplus(-RAW_PER_UNIT sdf), which is inverted.
        """
        softened = self._field(x, 1.0, None)[0].clamp(min=LEAST_SOFTENED)
        return -(softened + torch.log(-torch.expm1(-softened))) / RAW_PER_UNIT

    def penalty(self, progress: float, generator: torch.Generator) -> Callable[[], Tensor] | None:
        return None if self.distance is None else self.distance.penalty(self, progress, generator)

    def param_groups(self, lr_grid: float, lr_mlp: float) -> list[dict[str, Any]]:
        grid, mlp = super().param_groups(lr_grid, lr_mlp)
        return [grid, {**mlp, "params": [*mlp["params"], self.sharpness]}]


@dataclass(frozen=True)
class Eikonal:
    """eikonal mean (|g(x)| - 1)^2 + smooth mean |g(x + e) - 2 g(x) + g(x - e)|^2 + opaque mean o(x) (1 - o(x)), with
    g = grad sdf and e ~ N(0, spread^2).

    The first keeps sdf a distance (Gropp et al. 2020, Eq. 2), at points near the surface, at those beside them, and at
    half as many anywhere in the ball. The others are those of `Surface`: normals do not change abruptly within a cell,
    and the opacity o of DEPTH steps of a ray decides in the second half of a run; here it is beta that becomes less.
    g is taken over a cell, by central differences, so that all corners of a cell learn from it (Li et al. 2023, Eq. 4).

    eikonal, smooth, opaque  weights beside the mean squared error of pictures in [-1, 1].
    points                   how many x near the surface at most.
    spread                   scene units, about a cell of the finest grid.
    step                     scene units, half of what a difference is taken over.
    """

    eikonal: NonNegative = 0.01
    smooth: NonNegative = 0.005
    opaque: NonNegative = 0.02
    points: Annotated[int, whole(1, 1_000_000)] = 2000
    spread: Positive = 0.02
    step: Positive = 0.016

    def penalty(self, phi: SdfNerf, progress: float, draw: torch.Generator) -> Callable[[], Tensor]:
        """The penalty [] of phi as it is whenever it is asked, differentiable in its parameters, at points drawn once;
        progress of the run, in [0, 1]."""
        x = near_surface(phi, self.points, draw)
        e = self.spread * torch.randn(x.shape, generator=draw).to(x)
        points = within(torch.cat([x + e, x, x - e, in_ball(len(x) // 2, draw).to(x)]), 1 - 2 * self.step)
        opaque = self.opaque * lateness(progress)

        def penalty() -> Tensor:
            if not len(x):
                return x.new_zeros((), requires_grad=True)
            slopes = gradients(phi.sdf, points, self.step)
            there, here, opposite = slopes[: 3 * len(x)].chunk(3)
            loss = self.eikonal * (slopes.norm(dim=-1) - 1).square().mean()
            loss = loss + self.smooth * (there - 2 * here + opposite).square().sum(-1).mean()
            if opaque:
                loss = loss + opaque * undecided(phi.density(x), DEPTH * phi.dt)
            return loss

        return penalty


@torch.no_grad()
def near_surface(phi: SdfNerf, count: int, draw: torch.Generator) -> Tensor:
    """At most `count` random points [N, 3] of occupied cells within a ray's step of the surface."""
    x = phi.occupancy.random_points(CANDIDATES * count, draw)
    return x[phi.sdf(x).abs() < phi.dt][:count]


def in_ball(count: int, draw: torch.Generator) -> Tensor:
    """Points [count, 3] drawn evenly from the ball of radius 1."""
    direction = normalize(torch.randn(count, 3, generator=draw), dim=-1)
    return direction * torch.rand(count, 1, generator=draw) ** (1 / 3)


def within(x: Tensor, radius: float) -> Tensor:
    """Points x [N, 3], those outside of the ball of this radius moved onto it."""
    return x * (radius / x.norm(dim=-1, keepdim=True)).clamp(max=1)


def gradients(sdf: Distance, x: Tensor, step: float) -> Tensor:
    """grad sdf [N, 3] at x [N, 3] by central differences."""
    return differences(sdf, x, step) / (2 * step)
