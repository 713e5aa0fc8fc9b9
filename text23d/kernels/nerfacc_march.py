"""nerfacc's occupancy-grid sampler (Li et al. 2023) behind our arguments; it exists on CUDA, in float32, only."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from text23d.kernels.reference import enter_cube

log = logging.getLogger(__name__)


def serves(origins: Tensor) -> bool:
    """Whether nerfacc marches rays like these."""
    return origins.is_cuda and origins.dtype == torch.float32 and loads()


@cache
def loads() -> bool:
    """Whether nerfacc's CUDA half is there; asking builds it on first use. Says so in the log where it is not."""
    try:
        from nerfacc.cuda._backend import _C
    except Exception as error:  # its build fails in ways that differ between compilers
        log.warning("nerfacc's CUDA sampler does not load (%s); marching with our own instead", error)
        return False
    return _C is not None


def march(
    origins: Tensor, directions: Tensor, occupancy: Tensor, jitter: Tensor, dt: float, near: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`ops.march` by nerfacc: ray, t, k [M] and offsets [R + 1].

    nerfacc keeps a step where its middle lies in an occupied cell, so the rays start half a step less their jitter
    before they enter. It walks from cell to cell and sums up t: a sample within rounding of a face may fall on the
    other side of it than ours.
    """
    from nerfacc.grid import traverse_grids

    enter, leave = enter_cube(origins, directions, near)
    start = enter + (jitter - 0.5) * dt
    hit = (enter < leave) & start.isfinite()  # it would walk for ever from a NaN
    cube = origins.new_tensor([[-1, -1, -1, 1, 1, 1]])
    given = {"near_planes": start.nan_to_num(), "far_planes": leave.nan_to_num(), "step_size": dt, "rays_mask": hit}
    _, samples, _ = traverse_grids(origins, directions, occupancy.bool()[None], cube, **given)
    ray, t = samples.ray_indices, samples.vals
    k = ((t - enter[ray]) / dt - jitter[ray]).round().long()
    kept = k < max_steps
    ray, t, k = ray[kept], t[kept], k[kept]
    offsets = torch.nn.functional.pad(torch.bincount(ray, minlength=len(origins)).cumsum(0), (1, 0))
    return ray, t, k, offsets
