"""Volume rendering: march through the occupied cells, ask the field there, composite front to back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from text23d.kernels import ops

Field = Callable[[Tensor], tuple[Tensor, Tensor]]

log = logging.getLogger(__name__)

HIDDEN = 1e-4
"""Transmittance below which what lies behind is not asked any more: it would change no pixel by more than this."""
ROUND = 4
"""Renderings of remembered points, of which the first asks at all of them."""


class Points(NamedTuple):
    """Where a field is asked: x [M, 3] along R rays, packed as `samples` tells."""

    x: Tensor
    samples: ops.Samples


@torch.no_grad()
def points_on_rays(
    origins: Tensor, directions: Tensor, occupancy: Tensor, dt: float, jitter: Tensor | None = None
) -> Points:
    """Points along rays [R, 3] (unit directions) through the occupied cells of [-1, 1]^3; see `ops.march`."""
    samples = ops.march(origins, directions, occupancy, dt, jitter)
    return Points(samples.positions(origins, directions), samples)


def render_points(points: Points, field: Field, dt: float) -> tuple[Tensor, Tensor]:
    """Emission-absorption along the rays of `points` (Max 1995; Mildenhall et al. 2020, Eq. 3).

    field maps points [M, 3] to densities [M] per scene unit and colours
    [M, 3] in [0, 1]; dt is the step in scene units.
    Returns premultiplied colour [R, 3] and alpha [R, 1], both in [0, 1], differentiable in what the field is made of.
    """
    density, rgb = field(points.x)
    colour, alpha = composite(density * dt, rgb, points.samples)
    return colour, alpha[:, None]


def in_front(points: Points, density: Tensor, dt: float) -> Points:
    """Those of `points`, where the field has this density [M], that light of transmittance HIDDEN or more reaches."""
    samples = points.samples
    # Summed along all rays at once, in float64: what comes before a ray, up to 1e6, leaves ten digits of its own depth.
    depth = torch.nn.functional.pad((density.double() * dt).cumsum(0), (1, 0))
    before = depth[:-1] - depth[samples.offsets[:-1]][samples.rays]
    kept = before <= -math.log(HIDDEN)
    offsets = torch.nn.functional.pad(kept.cumsum(0), (1, 0))[samples.offsets]
    return Points(points.x[kept], ops.Samples(samples.rays[kept], samples.t[kept], samples.steps[kept], offsets))


class Remembered:
    """The points of a picture that is rendered again and again while the field moves a little, as in the inner steps
    towards one target: of ROUND renderings the first asks the field at all points, and the others at those that it
    found `in_front`. They differ from those of all points by HIDDEN at most, as long as what was opaque stays so."""

    def __init__(self, points: Points) -> None:
        self.points, self.near, self.turn = points, points, 0

    def render(self, field: Field, dt: float) -> tuple[Tensor, Tensor]:
        """`render_points` of the points whose turn it is."""
        first, self.turn = self.turn == 0, (self.turn + 1) % ROUND
        if not first:
            return render_points(self.near, field, dt)

        def asked(x: Tensor) -> tuple[Tensor, Tensor]:
            density, rgb = field(x)
            self.near = in_front(self.points, density.detach(), dt)
            return density, rgb

        return render_points(self.points, asked, dt)


def composite(sigma_dt: Tensor, rgb: Tensor, samples: ops.Samples) -> tuple[Tensor, Tensor]:
    """Packed optical depths [M] and colours [M, 3] -> premultiplied colour [R, 3] and alpha [R].

    On CUDA by nerfacc's packed scans where they load; elsewhere by our kernels, which compute the same.
    """
    if sigma_dt.is_cuda and nerfacc_scans_load():
        return nerfacc_composite(sigma_dt, rgb, samples)
    return ops.composite(sigma_dt, rgb, samples.offsets)


def nerfacc_composite(sigma_dt: Tensor, rgb: Tensor, samples: ops.Samples) -> tuple[Tensor, Tensor]:
    """`composite` by nerfacc's packed functions, which exist on CUDA only."""
    from nerfacc import accumulate_along_rays, volrend

    packed = torch.stack([samples.offsets[:-1], samples.offsets.diff()], -1)
    step = torch.ones_like(sigma_dt)
    weights, _, _ = volrend.render_weight_from_density(0 * step, step, sigma_dt, packed_info=packed)
    rays = len(packed)
    colour = accumulate_along_rays(weights, rgb, samples.rays, rays)
    return colour, accumulate_along_rays(weights, None, samples.rays, rays)[:, 0]


@cache
def nerfacc_scans_load() -> bool:
    """Whether nerfacc's CUDA half is there; asking builds it on first use. Says so in the log where it is not."""
    try:
        from nerfacc.cuda._backend import _C
    except Exception as error:  # its build fails in ways that differ between compilers
        log.warning("nerfacc's CUDA scans do not load (%s); rendering with torch instead", error)
        return False
    return _C is not None
