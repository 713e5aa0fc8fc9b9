"""What `conf/constraint` says is known beforehand, as constraints of the method: a picture, and where it is seen
from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from text23d.cameras import Cameras
from text23d.contracts import Constraint
from text23d.errors import UserError
from text23d.method.constraints import Inpaint, Reference
from text23d.pictures import read_mask, read_picture
from text23d.representation.image import PixelImage, resized
from text23d.representation.views import CameraBank, CameraSampler, FixedCamera, WithCamera

Given = CameraSampler | FixedCamera | CameraBank
Sampler = Given | WithCamera


@dataclass(frozen=True)
class Place:
    """The camera of a known picture; None: that of the picture that is made, and for an object azimuth 0, elevation
    15, distance 3 and 40 degrees of view."""

    azimuth: float | None = None
    elevation: float | None = None
    distance: float | None = None
    fov: float | None = None

    def camera(self, cameras: Given, flat: bool) -> FixedCamera:
        """flat: whether a picture is made, which `cameras` alone see. Raises UserError for another camera then."""
        own = cameras if isinstance(cameras, FixedCamera) else FixedCamera(azimuth=0.0)
        camera = replace(own, **{name: value for name, value in vars(self).items() if value is not None})
        if flat and camera != own:
            raise UserError(
                f"the constraint's picture is seen from {told(camera)}, the image from {told(own)}: leave the "
                "constraint's camera out, or set that of views"
            )
        return camera


@dataclass(frozen=True)
class KnownPixels:
    """Pixels to keep: picture, a file; mask, a file of the same size, white where it is to be kept."""

    picture: str
    mask: str
    place: Place

    def constrain(self, cameras: Given, flat: bool, device: torch.device) -> tuple[Constraint[Cameras], Sampler]:
        """The constraint, in picture space, and the cameras, that of the picture always among them. Raises UserError
        as `read_picture`, and for a mask of another size or of one colour."""
        camera = self.place.camera(cameras, flat)
        picture = read_picture(self.picture, "constraint.picture")
        mask, view = read_like(picture, self.mask), camera.sample(1).to(device)
        if mask.all():
            raise UserError(f"constraint.mask={self.mask}: it is white everywhere, so that nothing is left to complete")

        def here(views: Cameras) -> Tensor:
            return torch.isclose(views.features(), view.features()).all(1)

        known = PixelImage.of(picture).to(device)
        joined = cameras if cameras == camera else WithCamera(cameras, camera)
        return Inpaint(known, mask[None].to(device), here), joined


@dataclass(frozen=True)
class KnownView:
    """A picture to look like: picture, a file; mask, a file of the same size, white where it counts, or None:
    everywhere; weight above 0 of the loss; size, the side in pixels at which it is compared."""

    picture: str
    mask: str | None
    place: Place
    weight: float
    size: int

    def __post_init__(self) -> None:
        if type(self.weight) not in (int, float) or not 0 < self.weight < math.inf:
            raise UserError(f"constraint.weight={self.weight}: expected a number above 0")
        if type(self.size) is not int or not 8 <= self.size <= 1024:
            raise UserError(f"constraint.size={self.size}: expected a whole number of pixels, 8 to 1024")

    def constrain(self, cameras: Given, flat: bool, device: torch.device) -> tuple[Constraint[Cameras], Sampler]:
        """The constraint, in picture space, and the cameras as they were. Raises UserError as `read_picture`, for a
        mask of another size or without white, and for a picture without transparency or mask: its background would
        count as the object."""
        view = self.place.camera(cameras, flat).sample(1).to(device)
        picture = read_picture(self.picture, "constraint.picture")
        if self.mask is None and not flat and bool((picture[3] == 1).all()):
            raise UserError(
                f"constraint.picture={self.picture} is covered everywhere: expected the object cut out (a PNG with "
                "transparency), or constraint.mask=<a picture that is white where the object is>"
            )
        mask = torch.ones_like(picture[:1]) if self.mask is None else read_like(picture, self.mask)
        shown, counted = (resized(each[None], self.size).to(device) for each in (picture, mask))
        return Reference(shown, counted, view, float(self.weight)), cameras


def told(camera: FixedCamera) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in vars(camera).items())


def pixels(picture: str, mask: str, **place: Any) -> KnownPixels:
    """`KnownPixels` as a configuration says it."""
    return KnownPixels(picture, mask, Place(**place))


def view(picture: str, mask: str | None, weight: float, size: int, **place: Any) -> KnownView:
    """`KnownView` as a configuration says it. Raises UserError where a number is out of range."""
    return KnownView(picture, mask, Place(**place), weight, size)


def read_like(picture: Tensor, path: str) -> Tensor:
    """A mask [1, S, S] for a picture [4, S, S], with white in it. Raises UserError."""
    mask = read_mask(path, "constraint.mask")
    if mask.shape[1:] != picture.shape[1:]:
        sizes = f"{mask.shape[-1]} pixels along a side, the picture {picture.shape[-1]}"
        raise UserError(f"constraint.mask={path} has {sizes}: expected the same size; scale one of them")
    if not mask.any():
        raise UserError(f"constraint.mask={path}: it is black everywhere; expected white where the picture is known")
    return mask
