"""What the rooms of the project agree on: shapes, units, ranges and conventions.

World: right-handed, Z up; an object faces -Y, so it looks at the camera at azimuth 0 and stands in Blender as it
stands here. Lengths are in scene units; every object fits in the ball of radius 0.9 about the origin, and a
representation covers the cube [-1, 1]^3. Angles are in degrees wherever a person writes them.

Picture space: a prior sees x [B, 4, H, W], row 0 at the top. Channels 0-2 are the colour composited over mid grey,
2 * premultiplied - alpha, in [-1, 1]; channel 3 is coverage, 2 * alpha - 1, in [-1, 1].

Noise: variance exploding, x_sigma = x0 + sigma * n with n ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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


class UserError(Exception):
    """A mistake of the user's: its message is one line saying what was given, what was expected and what to do."""


@dataclass(frozen=True)
class Cameras:
    """A batch of B pinhole cameras that look at the origin with Z up: psi of the NeRF.

    azimuth   [B] degrees; 0 is the front (camera on -Y), 90 sees from +X, counter-clockwise from above.
    elevation [B] degrees above the horizon, in (-90, 90).
    distance  [B] scene units from the origin.
    fov       [B] degrees, vertical field of view (pictures are square).
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

    def each(self) -> list[Cameras]:
        """These cameras in batches of one."""
        return [self.rows(slice(index, index + 1)) for index in range(len(self))]

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

    def rays(self, size: int, jitter: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rays through the pixels of [size, size] pictures, row 0 at the top.

        jitter [B, size, size, 2] in [0, 1) places each ray inside its pixel (x to the right, y down); None: the centre.
        Returns origins and unit directions, each [B, size, size, 3].
        """
        pose = self.to_world()
        at = torch.arange(size, dtype=pose.dtype, device=pose.device)
        row, column = torch.meshgrid(at, at, indexing="ij")
        pixel = torch.stack([column, row], -1)[None] + (0.5 if jitter is None else jitter)
        plane = (2.0 * pixel / size - 1.0) * torch.tan(torch.deg2rad(self.fov) / 2)[:, None, None, None]
        local = torch.stack([plane[..., 0], -plane[..., 1], -torch.ones_like(plane[..., 0])], -1)
        direction = torch.einsum("bij,bhwj->bhwi", pose[:, :3, :3], local.expand(len(self), size, size, 3))
        direction = direction / direction.norm(dim=-1, keepdim=True)
        return pose[:, None, None, :3, 3].expand_as(direction), direction

    def features(self) -> Tensor:
        """What a camera-conditioned prior is told [B, 5]: sin and cos azimuth, then elevation, distance and field of
        view, scaled to about [-1, 1]."""
        az = torch.deg2rad(self.azimuth)
        columns = [az.sin(), az.cos(), self.elevation / 45, (self.distance - 3.0) / 0.5, (self.fov - 40.0) / 10]
        return torch.stack(columns, -1)


def to_picture(premultiplied: Tensor, alpha: Tensor) -> Tensor:
    """Premultiplied colour [..., 3, H, W] and alpha [..., 1, H, W], both in [0, 1] -> picture space [..., 4, H, W]."""
    return torch.cat([2 * premultiplied - alpha, 2 * alpha - 1], -3)


def from_picture(x: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of `to_picture`: premultiplied colour [..., 3, H, W] and alpha [..., 1, H, W], not clamped."""
    alpha = (x[..., 3:, :, :] + 1) / 2
    return (x[..., :3, :, :] + alpha) / 2, alpha
