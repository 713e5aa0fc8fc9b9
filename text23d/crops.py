"""Crops of a panorama: the small pictures that a prior of landscapes sees, and where of the surroundings they are.

Directions are unit vectors with x to the right of the sun, y towards it along the ground, z up; azimuths are measured
from the sun, to the right. A crop is either flat, a window SPAN degrees wide of a cylinder around the observer, whose
columns are equal steps of azimuth and whose rows are equal steps of the elevation's tangent, so that windows anywhere
along a panorama are cut from it unchanged; or a perspective picture of the same scale in its middle, looking anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from text23d.contracts import Shape
from text23d.settings import Flag, Natural, Share

SPAN = 45.0
"""Degrees along the width of a flat crop."""
NEAR_HORIZON = 12.0
"""Degrees of elevation over which what is seen changes most."""


@dataclass(frozen=True)
class Crops:
    """A batch of B crops; implements `contracts.Views`.

    azimuth, elevation   [B] degrees: what the middle shows
    flat                 [B] 1 for windows of a cylinder, 0 for perspective pictures
    """

    azimuth: Tensor
    elevation: Tensor
    flat: Tensor

    def __len__(self) -> int:
        return len(self.azimuth)

    def rows(self, which: slice | Tensor) -> Crops:
        """Some of these crops."""
        return Crops(*(getattr(self, each.name)[which] for each in fields(self)))

    def to(self, device: torch.device | str) -> Crops:
        return Crops(*(getattr(self, each.name).to(device) for each in fields(self)))

    @staticmethod
    def cat(crops: Sequence[Crops]) -> Crops:
        """Join batches."""
        return Crops(*(torch.cat([getattr(each, field.name) for each in crops]) for field in fields(Crops)))

    def features(self) -> Tensor:
        """[B, 5]: sine and cosine of the azimuth, the elevation (coarsely, and finely near the horizon), and whether it
        is flat."""
        turn = torch.deg2rad(self.azimuth)
        near = torch.tanh(self.elevation / NEAR_HORIZON)
        return torch.stack([turn.sin(), turn.cos(), self.elevation / 90, near, 2 * self.flat - 1], -1)

    def words(self) -> list[str]:
        return [""] * len(self)

    def given(self, shape: Shape) -> None:
        """Nothing."""

    def rays(self, shape: Shape) -> Tensor:
        """Unit directions [B, H, W, 3] of the pixels' middles."""
        high, wide = shape
        focal = wide / math.radians(SPAN)
        at = self.azimuth
        right = ((torch.arange(wide).to(at) + 0.5 - wide / 2) / focal).expand(len(self), high, wide)
        up = (-(torch.arange(high).to(at) + 0.5 - high / 2) / focal)[:, None].expand(len(self), high, wide)
        turn, tilt, flat = (each[:, None, None] for each in self._angles())
        cylinder = torch.stack([(turn + right).sin(), (turn + right).cos(), tilt.tan() + up], -1)
        ahead, above = tilt.cos() - up * tilt.sin(), tilt.sin() + up * tilt.cos()
        across = right * turn.cos() + ahead * turn.sin(), ahead * turn.cos() - right * turn.sin()
        rays = torch.where(flat[..., None], cylinder, torch.stack([*across, above], -1))
        return rays / rays.norm(dim=-1, keepdim=True)

    def project(self, directions: Tensor) -> Tensor:
        """The inverse of `rays`: where unit directions [*N, 3] are in each square crop, [B, *N, 2], x to the right and
        y down, from -1 to 1 within it; what lies behind a perspective crop is at 10."""
        spread = [len(self), *[1] * (directions.dim() - 1)]
        turn, tilt, flat = (each.reshape(spread) for each in self._angles())
        x, y, z = directions.unbind(-1)
        level = torch.hypot(x, y).clamp(min=1e-9)
        around = torch.remainder(torch.atan2(x, y) - turn + math.pi, 2 * math.pi) - math.pi
        ahead = x * turn.sin() + y * turn.cos()
        depth = ahead * tilt.cos() + z * tilt.sin()
        before = depth > 1e-3
        depth = depth.clamp(min=1e-3)
        right = torch.where(flat, around, (x * turn.cos() - y * turn.sin()) / depth)
        up = torch.where(flat, z / level - tilt.tan(), (z * tilt.cos() - ahead * tilt.sin()) / depth)
        found = torch.stack([right, -up], -1) * (2 / math.radians(SPAN))
        return torch.where((before | flat)[..., None], found, 10.0)

    def cut(self, whole: Tensor, shape: Shape) -> Tensor:
        """What the crops show of an equirectangular whole [K, H, W], bilinear: [B, K, *shape], linear in it."""
        around = F.pad(whole[None], (1, 1, 0, 0), mode="circular")
        azimuth, elevation = places(self.rays(shape).to(whole))
        column = azimuth / 180 * (whole.shape[2] / (whole.shape[2] + 2))
        at = torch.stack([column, -elevation / 90], -1).reshape(1, -1, shape[1], 2)
        seen = F.grid_sample(around, at, padding_mode="border", align_corners=False)
        return seen.reshape(len(whole), len(self), *shape).transpose(0, 1)

    def paste(self, pieces: Tensor, shape: Shape) -> Tensor:
        """The sum [K, *shape] of pieces [B, K, S, S] where they lie in an equirectangular whole, bilinear."""
        total = pieces.new_zeros(pieces.shape[1], *shape)
        every = directions(*shape).to(pieces)
        for index in range(len(self)):
            row = slice(index, index + 1)
            at = self.rows(row).project(every)
            inside = (at.abs().amax(-1) < 1).to(pieces)
            total += inside * F.grid_sample(pieces[row], at, padding_mode="border", align_corners=False)[0]
        return total

    def _angles(self) -> tuple[Tensor, Tensor, Tensor]:
        """Azimuth and elevation in radians, and which are flat."""
        return torch.deg2rad(self.azimuth), torch.deg2rad(self.elevation), self.flat > 0.5


def places(rays: Tensor) -> tuple[Tensor, Tensor]:
    """Where directions [..., 3] are: azimuth in (-180, 180] and elevation in [-90, 90], both [...] in degrees."""
    azimuth = torch.rad2deg(torch.atan2(rays[..., 0], rays[..., 1]))
    return azimuth, torch.rad2deg(torch.asin(rays[..., 2].clamp(-1, 1)))


def directions(high: int, wide: int) -> Tensor:
    """Unit directions [high, wide, 3] of the pixels of an equirectangular picture: azimuths from -180 to 180 degrees,
    elevations from 90 down to -90."""
    turn = (torch.arange(wide) + 0.5) * (2 * math.pi / wide) - math.pi
    tilt = (math.pi / 2 - (torch.arange(high) + 0.5) * (math.pi / high))[:, None]
    parts = tilt.cos() * turn.sin(), tilt.cos() * turn.cos(), tilt.sin().expand(high, wide)
    return torch.stack(parts, -1)


@dataclass(frozen=True)
class Outlook:
    """Where windows of a flat panorama look; a `windows.Telling`, which says of each what `Crops.features` does.

    whole, window  (H, W) of the panorama and of a window, in pixels; the horizon is half-way up
    sun            where the sun or the moon is, as a share of the width
    wrap           whether the panorama goes all the way round

    A window's width is SPAN degrees, whatever the panorama's: one that is longer than 360 degrees has a single sun all
    the same, and is lit from the front in its other parts.
    """

    whole: tuple[Natural, Natural]
    window: tuple[Natural, Natural]
    sun: Share = 0.5
    wrap: Flag = False

    def crops(self, start: Tensor) -> Crops:
        """The crops of windows that begin at start [B, 2] (row, column)."""
        (high, wide), (rows, columns) = self.whole, self.window
        apart = start[:, 1] + columns / 2 - self.sun * wide
        if self.wrap:
            apart = torch.remainder(apart + wide / 2, wide) - wide / 2
        rise = (high / 2 - start[:, 0] - rows / 2) * (math.radians(SPAN) / columns)
        azimuth = (apart * (SPAN / columns)).clamp(-180, 180)
        return Crops(azimuth, torch.rad2deg(torch.atan(rise)), torch.ones_like(azimuth))

    def __call__(self, start: Tensor) -> Tensor:
        """[B, 2] -> [B, 5]."""
        return self.crops(start).features()
