"""Surfaces that hold together: what pictures say nothing about, the shape of a field between one pixel and the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import normalize

from text23d.representation.occupancy import Occupancy
from text23d.settings import NonNegative, Positive, whole

Density = Callable[[Tensor], Tensor]
"""Points [N, 3] -> density [N] per scene unit, >= 0."""

CANDIDATES = 4
"""Points looked at for each one that is wanted near the surface."""
NEAR = 0.05, 0.9
"""Opacities of one step of a ray between which a point counts as near the surface."""
DEPTH = 4
"""Steps of a ray over which matter decides: what absorbs less than half of the light over so far is to vanish."""
FLOOR = 1e-3
"""Optical depth of a step added to a field's before its logarithm: far below the surface's, nothing is told apart."""


@dataclass(frozen=True)
class Surface:
    """smooth mean |n(x + e) - 2 n(x) + n(x - e)|^2 + opaque mean o(x) (1 - o(x)) over points x near the surface,
    e ~ N(0, spread^2).

    The first keeps normals from changing abruptly within a cell, where they may turn evenly: that of first differences
    (UNISURF, Oechsle et al. 2021, Eq. 12) is 2 spread^2 / r^2 for a sphere of radius r, so that it eats thin rods; this
    one is 16 spread^4 / r^4 (derived). n = -grad log(density dt + FLOOR), of unit length, by central differences;
    those of the logarithm are the same at every density that a surface may have. The second makes o, the opacity of
    DEPTH steps of a ray, decide between 0 and 1 (as the opacity loss of DreamFusion, Poole et al. 2023, does for whole
    rays). Both come in over the second half of a run: what is smooth and has decided early cannot be carved any more.

    smooth, opaque   weights beside the mean squared error of pictures in [-1, 1].
    points           how many x at most.
    spread           scene units, about a cell of the finest grid.
    step             scene units, half of what a difference is taken over.
    """

    smooth: NonNegative = 0.002
    opaque: NonNegative = 0.004
    points: Annotated[int, whole(1, 1_000_000)] = 2000
    spread: Positive = 0.02
    step: Positive = 0.016

    def penalty(
        self, density: Density, occupancy: Occupancy, dt: float, progress: float, draw: torch.Generator
    ) -> Callable[[], Tensor] | None:
        """The penalty [] of the field as it is whenever it is asked, differentiable in what `density` is made of, at
        points drawn once; None before the middle of a run, and where there is no surface. dt: the step that rays take,
        in scene units; progress of the run, in [0, 1]."""
        share = lateness(progress)
        if not share:
            return None
        x, e = near_surface(density, occupancy, dt, self.points, draw)
        if not len(x):
            return None
        three = torch.cat([x + self.spread * e, x, x - self.spread * e])

        def penalty() -> Tensor:
            there, here, opposite = normals(density, three, dt, self.step).chunk(3)
            rough = (there - 2 * here + opposite).square().sum(-1).mean()
            return share * (self.smooth * rough + self.opaque * undecided(density(x), DEPTH * dt))

        return penalty


@torch.no_grad()
def near_surface(
    density: Density, occupancy: Occupancy, dt: float, count: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """At most `count` random points [N, 3] of occupied cells, where a step of a ray is neither clear nor opaque, and
    for each a draw [N, 3] of N(0, 1). All are drawn before any is chosen, so that rounding changes the edge alone."""
    x = occupancy.random_points(CANDIDATES * count, draw)
    e = torch.randn(x.shape, generator=draw).to(x)
    opacity = -torch.expm1(-density(x) * dt)
    chosen = (opacity > NEAR[0]) & (opacity < NEAR[1])
    return x[chosen][:count], e[chosen][:count]


def normals(density: Density, x: Tensor, dt: float, step: float) -> Tensor:
    """Outward unit normals [N, 3] of the level sets of the density through points x [N, 3]; 0 where it is constant."""
    rise = differences(lambda at: torch.log(density(at) * dt + FLOOR), x, step)
    return normalize(-rise, dim=-1, eps=1e-6)


def differences(value: Callable[[Tensor], Tensor], x: Tensor, step: float) -> Tensor:
    """Central differences [N, 3] of value: [M, 3] -> [M] at x [N, 3], each over twice the step."""
    offsets = step * torch.cat([torch.eye(3), -torch.eye(3)]).to(x)
    ahead, behind = value((x[:, None] + offsets).view(-1, 3)).view(-1, 2, 3).unbind(1)
    return ahead - behind


def undecided(density: Tensor, length: float) -> Tensor:
    """The mean [] of o (1 - o), o the opacity of so long a way through matter of this density [N]."""
    transparency = torch.exp(-density * length)
    return (transparency * (1 - transparency)).mean()


def lateness(progress: float) -> float:
    """0 in the first half of a run, from there up to 1 at its end."""
    return max(0.0, 2 * progress - 1)
