"""The colour of a surface, as pictures of the radiance field show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, normalize

from text23d.artifact.cast import photograph
from text23d.artifact.mesh import CHUNK, OPAQUE
from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.spaces import from_picture

Radiance = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Points [N, 3] in [-1, 1]^3 -> density [N] per scene unit, and display colour [N, 3] in [0, 1]."""

START, END, STEPS = -1.0, 4.0, 6  # cells along a ray, from its surface point, and samples between them
GRAZING = 0.2  # cosine up to which a point does not face a camera
BEHIND = 2.0  # cells behind the nearest surface around its pixel, its own slope apart, from which a point is hidden
LEAST = 0.05  # weight of all that is seen of a point from which its colour is known


@dataclass(frozen=True)
class Photographs:
    """Pictures [K, 4, S, S] of a field in picture space, by K cameras all around it."""

    cameras: Cameras
    pictures: Tensor

    def at(self, number: int, points: Tensor) -> Tensor:
        """Where a camera sees points [N, 3]: x to the right and y down [N, 2], in [-1, 1] across its picture."""
        pose = self.cameras.to_world()[number].to(points)
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        half = torch.tan(torch.deg2rad(self.cameras.fov[number].to(points)) / 2)
        return local[:, :2] * points.new_tensor([1, -1]) / (-local[:, 2:] * half)


class Painter:
    """Points [N, 3] and unit normals [N, 3] of a surface -> display colours [N, 3] uint8.

    The mean over the photographs that see a point, by coverage and by the square of the cosine at which they do: a
    field's matter is soft, so that the colour of a place in it is not what is seen there, and depends on where from.
    A point is hidden where the surface, given by vertices [V, 3] and faces [F, 3], lies nearer in or beside its pixel.
    What no photograph sees has the colour of the field behind it, along its normal. Raises UserError for colours that
    are not numbers.
    """

    def __init__(
        self, photographs: Photographs, field: Radiance, vertices: np.ndarray, faces: np.ndarray, cell: float
    ) -> None:
        self.photographs, self.field, self.cell = photographs, field, cell
        self.layers = torch.cat(from_picture(photographs.pictures), 1)
        count, _, size, _ = self.layers.shape
        depth = torch.from_numpy(photograph(vertices, faces, photographs.cameras, size).distance)
        depth = depth.to(self.layers).view(count, 1, size, size)
        self.depth = -max_pool2d(-depth.clamp(max=1e6), 3, 1, 1)

    @torch.no_grad()
    def __call__(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        colours = np.empty((len(points), 3), np.uint8)
        for start in range(0, len(points), CHUNK):
            part = slice(start, start + CHUNK)
            at, normal = (torch.tensor(each[part]).to(self.layers) for each in (points, normals))
            premultiplied, weight = self._gathered(at, normal)
            colour, unseen = premultiplied / weight.clamp(min=LEAST), weight[:, 0] < LEAST
            colour[unseen] = composited(self.field, at[unseen], normal[unseen], self.cell)
            if not colour.isfinite().all():
                raise UserError(
                    "the colours of the surface are not numbers: expected finite ones; the run has diverged, so take "
                    "an earlier one or lower the learning rate"
                )
            colours[part] = (colour.clamp(0, 1) * 255).round().byte().cpu().numpy()
        return colours

    def _gathered(self, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the photographs of premultiplied colour [N, 3] and coverage [N, 1], by the cosines' squares."""
        total = points.new_zeros(len(points), 4)
        for number, eye in enumerate(self.photographs.cameras.positions().to(points)):
            towards, distance = normalize(eye - points, dim=-1), (eye - points).norm(dim=-1)
            cosine = (towards * normals).sum(-1)
            facing = torch.nonzero(cosine > GRAZING)[:, 0]
            at = self.photographs.at(number, points[facing])[None, None]
            nearest = grid_sample(self.depth[number, None], at, mode="nearest", align_corners=False)[0, 0, 0]
            own = self._slope(number, distance[facing], cosine[facing])
            met = distance[facing] < nearest + own + BEHIND * self.cell
            seen = grid_sample(self.layers[number, None], at[:, :, met], align_corners=False)[0, :, 0].T
            total.index_add_(0, facing[met], cosine[facing[met], None] ** 2 * seen)
        return total[:, :3], total[:, 3:]

    def _slope(self, number: int, distance: Tensor, cosine: Tensor) -> Tensor:
        """How much nearer than a point [N] its own surface is a pixel away, across a corner at most."""
        half = torch.tan(torch.deg2rad(self.photographs.cameras.fov[number].to(distance)) / 2)
        pixel = 2 * half * distance / self.depth.shape[-1]
        return 2**0.5 * pixel * (1 - cosine**2).clamp(min=0).sqrt() / cosine


def composited(field: Radiance, points: Tensor, towards: Tensor, cell: float) -> Tensor:
    """Display colour [N, 3] along rays that come from `towards` [N, 3] (unit) and pass the surface at `points` [N, 3],
    from START to END."""
    colours = torch.empty_like(points)
    depth = torch.linspace(START, END, STEPS, device=points.device) * cell
    for start in range(0, len(points), CHUNK // STEPS):
        part = slice(start, start + CHUNK // STEPS)
        along = (points[part, None] - depth[:, None] * towards[part, None]).clamp(-1, 1)
        sigma, rgb = (value.float() for value in field(along.view(-1, 3)))
        thickness = sigma.clamp(0, OPAQUE).view(-1, STEPS) * (depth[1] - depth[0])
        before = thickness.cumsum(1) - thickness
        # The last term decides only where the ray meets nothing at all.
        weight = torch.exp(-before) * -torch.expm1(-thickness) + 1e-9
        mixed = (weight[..., None] * rgb.view(-1, STEPS, 3)).sum(1) / weight.sum(1, keepdim=True)
        colours[part] = mixed.clamp(0, 1)
    return colours
