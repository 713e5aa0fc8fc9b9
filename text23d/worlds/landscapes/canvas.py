"""What is painted on: the whole surroundings as an equirectangular picture."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from text23d.worlds.landscapes.palette import Palette

Array = NDArray[Any]


class Canvas:
    """colour [wide / 2, wide, 3] float32; painted from far to near, in the colours of `palette`. A pixel is `step`
    degrees both ways."""

    def __init__(self, palette: Palette, wide: int) -> None:
        self.palette, self.wide, self.high = palette, wide, wide // 2
        self.step, self.horizon = 360.0 / wide, wide // 4
        self.colour = np.zeros((self.high, wide, 3), np.float32)

    @cached_property
    def azimuths(self) -> Array:
        """[wide] degrees from the sun, from -180 to 180."""
        return ((np.arange(self.wide) + 0.5) * self.step - 180.0).astype(np.float32)

    @cached_property
    def elevations(self) -> Array:
        """[high, 1] degrees, from 90 down to -90."""
        return (90.0 - (np.arange(self.high)[:, None] + 0.5) * self.step).astype(np.float32)

    @cached_property
    def facing(self) -> Array:
        """[wide] how much of what stands there is lit from the front: 0 before the sun, 1 opposite."""
        return (0.5 - 0.5 * np.cos(np.deg2rad(self.azimuths))).astype(np.float32)

    def row_of(self, elevation: float) -> int:
        """The row of an elevation in degrees, within the canvas."""
        return int(np.clip(round((90.0 - elevation) / self.step), 0, self.high))

    def hazed(self, colour: Array, distance: float | Array) -> Array:
        """A colour [..., 3] as it looks at a distance, [] or [...]."""
        share = np.float32(1) - np.exp(-np.float32(self.palette.density) * np.asarray(distance, np.float32))
        haze = self.palette.haze
        return colour + (haze - colour) * np.asarray(share)[..., None]

    def lit(self, albedo: Array, facing: float | Array) -> Array:
        """An albedo [..., 3] in this light; facing [] or [...] in [0, 1]."""
        facing = np.asarray(facing, np.float32)[..., None]
        return albedo * (self.palette.ambient + self.palette.light * facing)

    def silhouette(self, top: Array, bottom: float, colour: Array, distance: float, fade: float = 0.0) -> None:
        """Fill from the profile `top` [wide] in degrees down to `bottom`, where it fades out over so many degrees, with
        a colour [rows, wide, 3] of the rows of `band`."""
        rows = self.band(top, bottom)
        height = self.elevations[rows]
        cover = np.clip((top - height) / self.step + 0.5, 0.0, 1.0)
        if fade:
            cover *= np.clip((height - bottom) / fade, 0.0, 1.0)
        self.colour[rows] += (self.hazed(colour, distance) - self.colour[rows]) * cover[..., None]

    def band(self, top: Array, bottom: float) -> slice:
        """The rows from the highest of `top` down to `bottom`."""
        return slice(self.row_of(float(top.max()) + self.step), self.row_of(bottom))

    def paste(self, alpha: Array, colour: Array, azimuth: float, base: float, distance: float) -> None:
        """Lay a picture over the canvas: alpha [h, w], colour [h, w, 3], its foot's middle at azimuth and elevation
        `base`. What goes beyond an edge goes on at the other side, or is cut above and below."""
        high, wide = alpha.shape
        foot, left = self.row_of(base), round((azimuth + 180.0) / self.step - wide / 2)
        top = foot - high
        if top < 0:
            alpha, colour, top = alpha[-top:], colour[-top:], 0
        foot = top + len(alpha)
        columns = np.arange(left, left + wide) % self.wide
        under = self.colour[top:foot][:, columns]
        self.colour[top:foot, columns] = under + (self.hazed(colour, distance) - under) * alpha[..., None]


def cut(colour: Array, azimuth: Array, elevation: Array) -> Array:
    """The canvas's colours at places [B, H, W] in degrees, bilinear: [B, H, W, 3]."""
    around = torch.from_numpy(np.concatenate([colour[:, -1:], colour, colour[:, :1]], 1)).movedim(-1, 0)[None]
    wide = colour.shape[1]
    column = (azimuth + 180.0) / 180.0 * wide / (wide + 2) + (2.0 / (wide + 2) - 1.0)
    at = torch.from_numpy(np.stack([column, -elevation / 90.0], -1).reshape(1, -1, azimuth.shape[-1], 2))
    seen = F.grid_sample(around, at, padding_mode="border", align_corners=False)
    return seen[0].movedim(0, -1).reshape(*azimuth.shape, 3).numpy()
