"""What a field shows beside its colours: how far away its surface lies, and which way that faces."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from text23d.cameras import Cameras
from text23d.kernels import ops
from text23d.representation.nerf import Nerf
from text23d.representation.sdf import SdfNerf, gradients
from text23d.representation.surface import normals
from text23d.representation.volume import points_on_rays

FINE = 8
"""Parts of a ray's step near a surface: the default step of 1 / 32 scene unit is several times as far as matter of a
finished field reaches beyond its surface, which lies anywhere within it."""
MET, FACING = 1e-3, 0.2
"""The share of a ray's light that a step absorbs to be looked at again; and the share of the most that a part of one
absorbs, from which on a part has a say in the normal."""
STEP = 1 / 128
"""Scene units, half of what a slope is taken over: a cell of the finest grid of the default field."""
CHUNK = 1 << 12
"""Rays at once."""


class Geometry(NamedTuple):
    """What the rays through H x W pixels meet.

    depth   [H, W] the expected depth sum w z / sum w, in scene units, along the camera's axis, not along the ray (z, as
            nerfstudio and most depth cameras have it); 0 where a ray meets nothing.
    normal  [H, W, 3] the expected outward normal in the world's axes, of unit length; 0 where a ray meets nothing.
    alpha   [H, W] sum w.

    w, the share of a ray's light that each part of it absorbs, is that of `volume.render_points`, in steps FINE times
    as fine near the surface.
    """

    depth: Tensor
    normal: Tensor
    alpha: Tensor


@torch.no_grad()
def geometry(nerf: Nerf, camera: Cameras, size: int) -> Geometry:
    """What one camera sees of a field, in a square picture of this side, on the field's device."""
    like = next(nerf.mlp.parameters())
    origins, directions = (rays.reshape(-1, 3).to(like) for rays in camera.rays((size, size)))
    parts = zip(origins.split(CHUNK), directions.split(CHUNK), strict=True)
    distance, normal, alpha = (torch.cat(each) for each in zip(*(along(nerf, *part) for part in parts), strict=True))
    axis = -camera.to_world()[0, :3, 2].to(like)
    shape = (size, size)
    return Geometry((distance * (directions @ axis)).view(shape), normal.view(*shape, 3), alpha.view(shape))


def along(nerf: Nerf, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of rays [R, 3] (unit directions): the expected distance [R], the expected normal [R, 3], and alpha [R]."""
    coarse = points_on_rays(origins, directions, nerf.occupancy.mask, nerf.dt)
    samples = finer(coarse.samples, absorbed(nerf.density(coarse.x) * nerf.dt, coarse.samples) > MET, nerf.dt)
    x = samples.positions(origins, directions)
    weight = absorbed(nerf.density(x) * (nerf.dt / FINE), samples)
    alpha = summed(weight[:, None], samples)[:, 0]
    distance = summed((weight * samples.t)[:, None], samples)[:, 0] / alpha.clamp(min=1e-12)
    most = torch.zeros_like(alpha).scatter_reduce(0, samples.rays, weight, "amax")
    say = weight > FACING * most[samples.rays]
    slopes = torch.zeros_like(x)
    slopes[say] = outward(nerf, x[say]) * weight[say, None]
    return distance, normalize(summed(slopes, samples), dim=-1, eps=1e-6), alpha


def outward(nerf: Nerf, x: Tensor) -> Tensor:
    """Unit normals [N, 3] of the level sets through x [N, 3]: of the signed distance, or else of the density."""
    if isinstance(nerf, SdfNerf):
        return normalize(gradients(nerf.sdf, x, STEP), dim=-1, eps=1e-6)
    return normals(nerf.density, x, nerf.dt, STEP)


def finer(samples: ops.Samples, met: Tensor, dt: float) -> ops.Samples:
    """The steps where something was met [M] bool, and the next ones before and behind on their rays, in FINE parts."""
    same = pad((samples.rays.diff() == 0) & (samples.steps.diff() == 1), (1, 1))
    near = met | (pad(met, (1, 0))[:-1] & same[:-1]) | (pad(met, (0, 1))[1:] & same[1:])
    part = (torch.arange(FINE, device=met.device).to(samples.t) + 0.5) / FINE - 0.5
    t = (samples.t[near, None] + dt * part).flatten()
    offsets = FINE * pad(near.cumsum(0), (1, 0))[samples.offsets]
    rays, steps = (each[near].repeat_interleave(FINE) for each in (samples.rays, samples.steps))
    return ops.Samples(rays, t, steps, offsets)


def absorbed(depth: Tensor, samples: ops.Samples) -> Tensor:
    """The share [M] of its ray's light that each sample absorbs, where they have these optical depths [M]."""
    # Summed along all rays at once, in float64, as in `volume.in_front`.
    total = pad(depth.double().cumsum(0), (1, 0))
    before = total[:-1] - total[samples.offsets[:-1]][samples.rays]
    return (torch.exp(-before) * -torch.expm1(-depth.double())).to(depth)


def summed(values: Tensor, samples: ops.Samples) -> Tensor:
    """[M, C] of samples -> [R, C], the sum along each ray, in a fixed order."""
    total = pad(values.double().cumsum(0), (0, 0, 1, 0))
    return (total[samples.offsets[1:]] - total[samples.offsets[:-1]]).to(values)
