"""Pinhole cameras that orbit an object: the rendering parameters psi of a 3-D representation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from text23d.contracts import Shape
from text23d.errors import UserError

FULL_TURN = 360.0
GROUP = 4
"""Views that a prior of several views sees together, as MVDream does: they follow each other in a batch."""
SIDES = ("front view", "side view", "back view", "overhead view")
ELEVATIONS, DISTANCES, FOVS = (-90.0, 90.0), (1.0, 1000.0), (0.0, 180.0)
"""Open ranges in which a camera sees a field that fills the ball of radius 1."""


@dataclass(frozen=True)
class Cameras:
    """A batch of B pinhole cameras that look at the origin with Z up: psi of the NeRF.

    azimuth   [B] degrees; 0 is the front (camera on -Y), 90 sees from +X, counter-clockwise from above.
    elevation [B] degrees above the horizon, in (-90, 90).
    distance  [B] scene units from the origin.
    fov       [B] degrees, vertical field of view.
    """

    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    fov: Tensor

    def __len__(self) -> int:
        return self.azimuth.shape[0]

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(*(each.to(device) for each in (self.azimuth, self.elevation, self.distance, self.fov)))

    def rows(self, which: slice | Tensor) -> Cameras:
        """Some of these cameras."""
        return Cameras(self.azimuth[which], self.elevation[which], self.distance[which], self.fov[which])

    @staticmethod
    def cat(batches: Sequence[Cameras]) -> Cameras:
        """All cameras of these batches, in order."""
        columns = zip(*((b.azimuth, b.elevation, b.distance, b.fov) for b in batches), strict=True)
        return Cameras(*(torch.cat(column) for column in columns))

    def positions(self) -> Tensor:
        """Camera centres [B, 3]."""
        az, el = torch.deg2rad(self.azimuth), torch.deg2rad(self.elevation)
        direction = torch.stack([el.cos() * az.sin(), -el.cos() * az.cos(), el.sin()], -1)
        return direction * self.distance[:, None]

    def to_world(self) -> Tensor:
        """Camera-to-world matrices [B, 4, 4], OpenGL and Blender axes: +X right, +Y up, the camera looks along -Z."""
        position = self.positions()
        back = position / position.norm(dim=-1, keepdim=True)
        up = torch.tensor([0.0, 0.0, 1.0], dtype=back.dtype, device=back.device).expand_as(back)
        right = torch.linalg.cross(up, back)
        right = right / right.norm(dim=-1, keepdim=True)
        pose = torch.zeros(len(self), 4, 4, dtype=back.dtype, device=back.device)
        pose[:, :3, 0], pose[:, :3, 1], pose[:, :3, 2] = right, torch.linalg.cross(back, right), back
        pose[:, :3, 3], pose[:, 3, 3] = position, 1.0
        return pose

    def rays(self, shape: Shape, jitter: Tensor | None = None, window: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rays through the pixels of pictures of `shape` (H, W), row 0 at the top.

        jitter [B, H, W, 2] in [0, 1) places each ray inside its pixel (x to the right, y down); None: the centre.
        window [B, 3]: the part of what the cameras see that the pictures show, its left and upper edge and its extent
        in both directions, in shares of the whole; None: all.
        Returns origins and unit directions, each [B, H, W, 3].
        """
        pose = self.to_world()
        high, wide = shape
        row, column = torch.meshgrid(*(torch.arange(side).to(pose) for side in shape), indexing="ij")
        pixel = torch.stack([column, row], -1)[None] + (0.5 if jitter is None else jitter)
        sides = pixel.new_tensor([wide, high])
        place = pixel / sides
        if window is not None:
            place = window[:, None, None, :2] + window[:, None, None, 2:] * place
        plane = (2.0 * place - 1.0) * torch.tan(torch.deg2rad(self.fov) / 2)[:, None, None, None]
        plane = plane * (sides / high)  # the field of view is vertical
        local = torch.stack([plane[..., 0], -plane[..., 1], -torch.ones_like(plane[..., 0])], -1)
        direction = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local.expand(len(self), high, wide, 3))
        direction = direction / direction.norm(dim=-1, keepdim=True)
        return pose[:, None, None, :3, 3].expand_as(direction), direction

    def features(self) -> Tensor:
        """What a camera-conditioned prior is told [B, 5]: sin and cos azimuth, then elevation, distance and field of
        view, scaled to about [-1, 1]."""
        az = torch.deg2rad(self.azimuth)
        columns = [az.sin(), az.cos(), self.elevation / 45, (self.distance - 3.0) / 0.5, (self.fov - 40.0) / 10]
        return torch.stack(columns, -1)

    def given(self, shape: Shape) -> None:
        """Nothing is shown of what they see."""

    def words(self) -> list[str]:
        """Which of SIDES is seen (DreamFusion, Poole et al. 2022, section 3.2): overhead above 60 degrees of elevation,
        else front or back within 45 degrees of it, else side."""
        from_front = ((self.azimuth + 180) % 360 - 180).abs()
        around = (from_front > 45).long() + (from_front >= 135).long()
        return [SIDES[index] for index in torch.where(self.elevation > 60, 3, around).tolist()]


def orbit(n: int, elevation: float = 15.0, distance: float = 3.0, fov: float = 40.0) -> Cameras:
    """n cameras at azimuths 0, 360/n, ...: for turntables and contact sheets. Raises UserError as CameraSampler."""
    check_count(n)
    check_ranges((elevation, elevation), (distance, distance), (fov, fov))
    azimuth = torch.arange(n) * (FULL_TURN / n)
    return Cameras(azimuth, *(torch.full((n,), float(value)) for value in (elevation, distance, fov)))


def check_ranges(elevation: Sequence[float], distance: Sequence[float], fov: Sequence[float]) -> None:
    """Raises UserError where a range (low, high) is empty, reversed or outside of what a camera may have."""
    _check_range("elevation", elevation, *ELEVATIONS, "degrees above the horizon")
    _check_range("distance", distance, *DISTANCES, "scene units from the centre")
    _check_range("fov", fov, *FOVS, "degrees")


def _check_range(name: str, bounds: Sequence[float], above: float, below: float, unit: str) -> None:
    limits = f"two numbers (low, high) with {above:g} < low <= high < {below:g} {unit}"
    if len(bounds) != 2 or not above < bounds[0] <= bounds[1] < below:
        raise UserError(f"camera {name} is {tuple(bounds)}; expected {limits}: change the range of `{name}`")


def check_count(n: int) -> None:
    if n < 1:
        raise UserError(f"the number of cameras is {n}; expected at least 1: ask for one view or more")
