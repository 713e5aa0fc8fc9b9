"""The readable torch twins of the compiled kernels: same arguments, same results, differentiable by autograd.

They run on any device and are what serves where nothing was compiled. Arguments are as `ops` has checked them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear, softplus

from text23d.kernels.layout import PRIMES, GridLayout


def encode(x: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    """Trilinear look-up of x [N, 3] in every level of table [T, F] -> [N, levels * F]. See `ops.encode`."""
    x = x.clamp(0, 1)
    # One split, not a slice a level: its backward fills the gradient of the table once.
    parts = table.split(list(layout.sizes))
    levels = zip(parts, layout.resolutions, layout.dense, strict=True)
    return torch.cat([_interpolate(x, part, cells, dense) for part, cells, dense in levels], -1)


def _interpolate(x: Tensor, part: Tensor, cells: int, dense: bool) -> Tensor:
    """x [N, 3] in [0, 1], one level's part [size, F] -> [N, F]."""
    position = x * cells
    cell = position.detach().floor().nan_to_num(0).clamp(max=cells - 1)  # [N, 3]; x = 1 belongs to the last cell
    fraction = (position - cell)[:, None]  # [N, 1, 3]
    at = torch.arange(2, device=x.device)
    corner = torch.cartesian_prod(at, at, at)  # [8, 3]
    u, v, w = torch.where(corner == 1, fraction, 1 - fraction).unbind(-1)
    weight = u * v * w  # [N, 8]
    vertex = cell.long()[:, None] + corner  # [N, 8, 3]
    entry = _dense_entry(vertex, cells) if dense else _hashed_entry(vertex, len(part))
    return (weight[..., None] * torch.nn.functional.embedding(entry, part)).sum(1)


def _dense_entry(vertex: Tensor, cells: int) -> Tensor:
    i, j, k = vertex.unbind(-1)
    return i + (cells + 1) * (j + (cells + 1) * k)


def _hashed_entry(vertex: Tensor, size: int) -> Tensor:
    """Müller et al. 2022, Eq. 4; size is a power of two, so the remainder is its low bits."""
    i, j, k = (vertex * torch.tensor(PRIMES, device=vertex.device)).unbind(-1)
    return (i ^ j ^ k) & (size - 1)


def field(
    x: Tensor,
    table: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    layout: GridLayout,
    gain: float,
    blob: float,
    radius: float,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Encoding, one hidden layer, activations: density [N] and colour [N, 3]. See `ops.field`."""
    raw = linear(linear(encode(x, table, layout), w1, b1).relu(), w2, b2)
    return activate(raw, 2 * x - 1, gain, blob, radius, beta)


def activate(
    raw: Tensor, x: Tensor, gain: float, blob: float, radius: float, beta: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What a network says [N, 4] at x [N, 3] in [-1, 1] -> density [N] and colour [N, 3]. See `ops.field`."""
    distance = torch.linalg.vector_norm(x, dim=-1)
    raised = raw[:, 0] + blob * (1 - distance / radius)
    density = gain * softplus(raised, threshold=40) if beta is None else laplace_density(raised / gain, beta)
    return density * (distance < 1), raw[:, 1:].sigmoid()


def laplace_density(depth: Tensor, beta: Tensor) -> Tensor:
    """Psi(depth) / beta of a Laplace distribution of mean 0 and scale beta, so deep below a surface (VolSDF, Yariv et
    al. 2021, Eq. 2 and 3): 1 / beta far inside, half of it on the surface."""
    return (0.5 - 0.5 * depth.sign() * torch.expm1(-depth.abs() / beta)) / beta


def enter_cube(origins: Tensor, directions: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Where rays [R, 3] enter, not before `near`, and leave [-1, 1]^3: t_enter, t_exit [R]; a miss has exit < enter."""
    inside = torch.where(origins.abs() <= 1, torch.inf, -torch.inf)
    first, second = (-1 - origins) / directions, (1 - origins) / directions
    parallel = directions == 0
    enter = torch.where(parallel, -inside, torch.minimum(first, second)).amax(-1)
    leave = torch.where(parallel, inside, torch.maximum(first, second)).amin(-1)
    return enter.clamp(min=near), leave


def march(
    origins: Tensor, directions: Tensor, occupancy: Tensor, jitter: Tensor, dt: float, near: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every one of the [R, max_steps] candidates, then the mask. Returns ray, t, k [M] and offsets [R + 1]."""
    enter, leave = enter_cube(origins, directions, near)
    step = torch.arange(max_steps, device=origins.device)
    t = enter[:, None] + (step + jitter[:, None]) * dt  # [R, S]
    cells = occupancy.shape[0]
    entry = torch.zeros_like(t, dtype=torch.long)
    for axis in range(3):
        position = origins[:, axis, None] + t * directions[:, axis, None]
        cell = ((position + 1) * (cells / 2)).floor().nan_to_num(0).clamp(0, cells - 1)
        entry = entry * cells + cell.long()
    keep = (t < leave[:, None]) & (occupancy.reshape(-1)[entry] != 0)
    ray, k = keep.nonzero(as_tuple=True)
    offsets = torch.nn.functional.pad(keep.sum(-1).cumsum(0), (1, 0))
    return ray, t[keep], k, offsets


def composite(sigma_dt: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Packed -> dense [R, K] with sigma_dt = 0 as padding, then the volume rendering sum. See `ops.composite`."""
    counts = offsets.diff()
    rays, longest = len(counts), int(counts.max()) if counts.numel() else 0
    ray = torch.arange(rays, device=counts.device).repeat_interleave(counts)  # [M]
    place = torch.arange(len(ray), device=counts.device) - offsets[ray]
    depth = sigma_dt.new_zeros(rays, longest).index_put((ray, place), sigma_dt)  # [R, K]
    before = torch.nn.functional.pad(depth, (1, 0))[:, :-1].cumsum(-1)
    weight = ((-before).exp() * -torch.expm1(-depth))[ray, place]  # [M] w_i = T_i (1 - exp(-sigma_i dt))
    accumulated = values.new_zeros(rays, values.shape[1]).index_add(0, ray, weight[:, None] * values)
    return accumulated, -torch.expm1(-depth.sum(-1))
