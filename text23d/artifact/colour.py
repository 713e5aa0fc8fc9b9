"""The colour of a surface in a radiance field."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.mesh import CHUNK, OPAQUE

Radiance = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points [N, 3] in [-1, 1]^3 -> density [N] per scene unit, and display colour [N, 3] in [0, 1]."""

START, END, STEPS = -1.0, 4.0, 6  # cells along a ray, from its surface point, and samples between them
GRAZING = 0.1  # cosine up to which a point does not face an eye


@torch.no_grad()
def seen(
    field: Radiance,
    points: np.ndarray,
    normals: np.ndarray,
    eyes: Tensor,
    cell: float,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """What the points [N, 3] of a surface with `normals` [N, 3] look like: display colour [N, 3] uint8.

    The mean of what is seen from each of the eyes [E, 3] that a point faces, by the cosine between the two: a field's
    matter is soft, so that its colour depends on where it is seen from. A point that faces none is seen along its
    normal.
    """
    colours = np.empty((len(points), 3), np.uint8)
    for start in range(0, len(points), CHUNK // STEPS):
        part = slice(start, start + CHUNK // STEPS)
        at, normal = (torch.tensor(a[part], dtype=torch.float32, device=device) for a in (points, normals))
        total, weight = torch.zeros_like(at), torch.zeros_like(at[:, :1])
        for eye in eyes.to(at):
            towards = torch.nn.functional.normalize(eye - at, dim=-1)
            cosine = (towards * normal).sum(-1, keepdim=True)
            facing = cosine[:, 0] > GRAZING
            total[facing] += cosine[facing] * composited(field, at[facing], towards[facing], cell)
            weight[facing] += cosine[facing]
        unseen = weight[:, 0] == 0
        total[unseen], weight[unseen] = composited(field, at[unseen], normal[unseen], cell), 1.0
        colours[part] = (total / weight * 255).round().byte().cpu().numpy()
    return colours


def composited(field: Radiance, points: Tensor, towards: Tensor, cell: float) -> Tensor:
    """Display colour [N, 3] along rays that come from `towards` [N, 3] (unit) and pass the surface at `points` [N, 3],
    from START to END."""
    depth = torch.linspace(START, END, STEPS, device=points.device) * cell
    along = (points[:, None] - depth[:, None] * towards[:, None]).clamp(-1, 1)
    sigma, rgb = (value.float() for value in field(along.view(-1, 3)))
    thickness = sigma.clamp(0, OPAQUE).view(-1, STEPS) * (depth[1] - depth[0])
    before = thickness.cumsum(1) - thickness
    # The last term decides only where the ray meets nothing at all.
    weight = torch.exp(-before) * -torch.expm1(-thickness) + 1e-9
    mixed = (weight[..., None] * rgb.view(-1, STEPS, 3)).sum(1) / weight.sum(1, keepdim=True)
    return mixed.clamp(0, 1)
