"""Panoramas: a long flat strip, or all that is seen from one place; and crops that look anywhere in the latter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from text23d.cameras import check_count
from text23d.crops import Crops
from text23d.errors import UserError
from text23d.representation.canvas import Canvas, Extent
from text23d.settings import Flag, Share, number, whole

GOLDEN = 180.0 * (3 - math.sqrt(5))
"""The golden angle in degrees: azimuths that many apart spread evenly, whatever their number."""
Angle = Annotated[float, number(least=-90, most=90)]
Height = Annotated[int, whole(8, 8192)]
Width = Annotated[int, whole(8, 65536)]


def panorama(height: Height = 64, width: Width = 512, wrap: Flag = False, sun: Share = 0.5) -> Canvas:
    """A flat strip of RGB pixels, grey at first. wrap: whether its ends meet; sun: where its sun or moon is, as a share
    of the width: both are for its views. Raises UserError where it would not fit into memory."""
    return Canvas(3, (height, width))


def sphere(height: Height = 256) -> Canvas:
    """An equirectangular picture of RGB pixels, twice as wide as high, grey at first: azimuths from -180 to 180 degrees
    and elevations from 90 down to -90. Raises UserError where it would not fit into memory."""
    return Canvas(3, (height, 2 * height))


@dataclass(frozen=True)
class CropSampler:
    """Perspective crops of a sphere (H, W) `whole` that look anywhere between two elevations in degrees; p(psi) of the
    method. Raises UserError for elevations that do not rise."""

    words: ClassVar = ("",)
    count: ClassVar = None
    warm: ClassVar = False

    whole: tuple[Extent, Extent]
    lowest: Angle = -90.0
    highest: Angle = 90.0

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise UserError(f"views.lowest={self.lowest:g}, views.highest={self.highest:g}: expected rising elevations")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Crops:
        """n crops, all drawn from `generator` (None: torch's global one): one at a random height in each of n zones of
        equal area, azimuths the golden angle apart, and the whole turned at random."""
        check_count(n)
        u = torch.rand(n + 1, generator=generator)
        low, high = (math.sin(math.radians(each)) for each in (self.lowest, self.highest))
        height = low + (high - low) * (torch.arange(n) + u[:n]) / n
        azimuth = torch.remainder(360 * u[n] + GOLDEN * torch.arange(n), 360.0) - 180
        return Crops(azimuth, torch.rad2deg(torch.asin(height.clamp(-1, 1))), torch.zeros(n))
