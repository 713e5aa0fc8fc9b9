"""Panoramas: a flat strip, or all that is seen from one place. They leave a picture and a video that looks around."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.media import on_white, turntable, upscale
from text23d.contracts import Exported, Progress, Shape, Stage
from text23d.crops import SPAN, Crops
from text23d.errors import UserError
from text23d.pictures import read_mask, write_picture
from text23d.representation.canvas import Canvas
from text23d.representation.image import resized
from text23d.representation.panorama import Height, Width
from text23d.representation.windowing import WindowGrid
from text23d.settings import Flag, Natural, read
from text23d.tasks.canvas import CanvasTask
from text23d.tasks.regions import Axis, read_regions

PANORAMA, PAN = "panorama.png", "pan.mp4"
FRAMES, SECOND = 180, 30
HIGH = 256
"""Pixels of the video's height."""
JUDGED = 16
"""Crops of a sphere that are judged, around the horizon."""


@dataclass(frozen=True)
class Strip:
    """What `representation` says of a flat strip: see `representation.panorama.panorama`."""

    height: Height = 64
    width: Width = 512
    wrap: Flag = False


@dataclass(frozen=True)
class Sphere:
    """What it says of a sphere: see `representation.panorama.sphere`."""

    height: Height = 256


@dataclass(frozen=True)
class PictureCanvas(CanvasTask):
    """What both kinds of panorama share."""

    name = "panorama"
    file = "panorama.safetensors"
    columns = ("panorama",)

    @abstractmethod
    def frames(self, whole: Tensor) -> Iterator[Tensor]:
        """FRAMES colours [3, h, w] of a video that looks around in the panorama [3, H, W]."""

    def preview(self, phi: Canvas) -> Tensor:
        return opaque(self.whole(phi)[None])

    def export(self, phi: Canvas, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """panorama.png, and pan.mp4 of it."""
        whole = self.whole(phi)
        high, wide = whole.shape[1:]
        with stage("panorama"):
            write_picture(folder / PANORAMA, opaque(whole[None])[0])
        with stage("video"):
            turntable(self.shown(whole, progress), folder / PAN, SECOND)
        summary = {"panorama": {"file": PANORAMA, "width": wide, "height": high, "video": PAN}}
        return Exported(summary, f"{PANORAMA} of {wide} x {high} pixels and {PAN}")

    def shown(self, whole: Tensor, progress: Progress) -> Iterator[np.ndarray]:
        """The video's pictures, uint8 [HIGH, w, 3], sides divisible by 16."""
        for index, frame in enumerate(self.frames(whole), 1):
            picture = on_white(opaque(frame[None]))[0]
            high, wide = picture.shape[:2]
            picture = upscale(picture, max(high, wide) * HIGH // high)
            yield picture[:, : max(16, picture.shape[1] // 16 * 16)]
            progress("video", index, FRAMES)


@dataclass(frozen=True)
class StripTask(PictureCanvas):
    """A flat strip; implements `contracts.Task`."""

    def frames(self, whole: Tensor) -> Iterator[Tensor]:
        """A part twice as wide as high goes along the strip: all the way round, or from its left end to its right."""
        high, extent = whole.shape[1:]
        wide = min(2 * high, extent)
        joined = torch.cat([whole, whole[..., :wide]], -1) if self.axis.wrap else whole
        way = extent if self.axis.wrap else extent - wide
        for share in np.arange(FRAMES) / (FRAMES if self.axis.wrap else FRAMES - 1):
            start = round(way * float(share))
            yield joined[..., start : start + wide]

    @torch.no_grad()
    def judged(self, phi: Canvas, shape: Shape) -> list[Tensor]:
        """Windows half of which overlap, of the rows half-way up, where the horizon is; with regions, those of each
        that show no other's."""
        whole = self.whole(phi)
        stride = whole.shape[1], max(1, shape[1] // 2)
        views = WindowGrid(phi.shape, (whole.shape[1], shape[1]), (stride[0], stride[1]), self.wraps).all()
        views = views.to(whole.device)
        views.start[:, 0] = (whole.shape[1] - shape[0]) // 2
        return self.parted(views, views.cut(whole, shape), shape)


@dataclass(frozen=True)
class SphereTask(PictureCanvas):
    """An equirectangular picture; implements `contracts.Task`."""

    def frames(self, whole: Tensor) -> Iterator[Tensor]:
        """One turn, level, of the prior's own crops at the picture's resolution."""
        side = round(whole.shape[2] * SPAN / 360)
        for azimuth in np.arange(FRAMES) * (360 / FRAMES) - 180:
            yield around([float(azimuth)], False).to(whole.device).cut(whole, (side, side))[0]

    @torch.no_grad()
    def judged(self, phi: Canvas, shape: Shape) -> list[Tensor]:
        """JUDGED level crops all around; with regions, those of each that show no other's."""
        whole = self.whole(phi)
        views = around([360 / JUDGED * index - 180 for index in range(JUDGED)], True).to(whole.device)
        return self.parted(views, views.cut(whole, shape), shape)


def around(azimuths: list[float], flat: bool) -> Crops:
    """Level crops at these azimuths, in degrees."""
    turn = torch.tensor(azimuths)
    return Crops(turn, torch.zeros_like(turn), torch.full_like(turn, float(flat)))


def opaque(colour: Tensor) -> Tensor:
    """Colour [B, 3, H, W] in [-1, 1] as picture space [B, 4, H, W], covered everywhere."""
    return torch.cat([colour, torch.ones_like(colour[:, :1])], 1)


def mask(path: Path, setting: str, shape: Shape) -> Tensor:
    """A picture as a mask [*shape] of 0 and 1, scaled. Raises UserError as `read_mask`, and for one of another shape
    than the panorama's, whose places would not be where the person sees them."""
    found = read_mask(path, setting, square=False)
    if abs(found.shape[2] * shape[0] / (found.shape[1] * shape[1]) - 1) > 0.02:
        raise UserError(
            f"{setting}={path}: the mask is {found.shape[2]} x {found.shape[1]}, the panorama {shape[1]} x {shape[0]}: "
            "expected the same proportions"
        )
    return (resized(found[None], shape)[0, 0] >= 0.5).float()


def axis_of(shape: Shape, blend: int, wrap: bool) -> Axis:
    """The horizontal axis, in which ranges are shares of the width."""
    return Axis(shape, 1, float(shape[1]), "widths", blend, wrap)


def task(settings: Mapping[str, Any], blend: Natural = 32) -> StripTask:
    """The task of a configuration with a flat strip. Raises UserError for regions that do not serve."""
    strip = read(Strip, settings.get("representation") or {}, "representation.")
    axis = axis_of((strip.height, strip.width), blend, strip.wrap)
    return StripTask(axis, read_regions(settings.get("regions"), axis, mask))


def sphere(settings: Mapping[str, Any], blend: Natural = 32) -> SphereTask:
    """The task of a configuration with a sphere. Raises UserError for regions that do not serve."""
    high = read(Sphere, settings.get("representation") or {}, "representation.").height
    axis = axis_of((high, 2 * high), blend, True)
    return SphereTask(axis, read_regions(settings.get("regions"), axis, mask))
