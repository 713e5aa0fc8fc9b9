"""What `conf/constraint` says is known beforehand, as constraints of the method: a picture, and where it is seen
from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Protocol

import torch
from torch import Tensor

from text23d.cameras import Cameras
from text23d.contracts import Constraint, Sampler, Shape
from text23d.errors import UserError
from text23d.method.constraints import Inpaint, Reference
from text23d.method.noise import spread
from text23d.method.update import resample
from text23d.pictures import read_mask, read_picture
from text23d.representation.image import PixelImage, resized
from text23d.representation.views import Angle, FixedCamera, WithCamera
from text23d.settings import Finite, number, whole
from text23d.tasks.cutout import cut_out


class Known(Protocol):
    """What is known beforehand."""

    def constrain(self, views: Sampler, single: bool, device: torch.device) -> tuple[Constraint[Cameras], Sampler]:
        """The constraint in picture space, and the views, with its own where its targets require that. single: whether
        one view alone sees all of phi. Raises UserError for files, masks and cameras that do not serve."""
        ...


@dataclass(frozen=True)
class Place:
    """The camera of a known picture; None: that of the picture that is made, and for an object azimuth 0, elevation
    15, distance 3 and 40 degrees of view."""

    azimuth: float | None = None
    elevation: float | None = None
    distance: float | None = None
    fov: float | None = None

    def camera(self, views: Sampler, single: bool) -> FixedCamera:
        """Raises UserError for another camera than that of the only view."""
        own = views if isinstance(views, FixedCamera) else FixedCamera(azimuth=0.0)
        camera = replace(own, **{name: value for name, value in vars(self).items() if value is not None})
        if single and camera != own:
            raise UserError(
                f"the constraint's picture is seen from {described(camera)}, the image from {described(own)}: leave "
                "the constraint's camera out, or set that of views"
            )
        return camera


def described(camera: FixedCamera) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in vars(camera).items())


@dataclass(frozen=True)
class KnownPixels:
    """Pixels to keep: picture, a file; mask, a file of the same size, white where it is to be kept."""

    picture: str
    mask: str
    place: Place

    def constrain(self, views: Sampler, single: bool, device: torch.device) -> tuple[Constraint[Cameras], Sampler]:
        """See `Known`; the camera of the picture is always among the views."""
        camera = self.place.camera(views, single)
        picture = read_picture(self.picture, "constraint.picture")
        mask, view = read_like(picture, self.mask), camera.sample(1).to(device)
        if mask.all():
            raise UserError(f"constraint.mask={self.mask}: it is white everywhere, so that nothing is left to complete")

        mask = mask[None].to(device)

        def keep(cameras: Cameras, shape: Shape) -> Tensor:
            here = torch.isclose(cameras.features(), view.features()).all(1)
            return resample(mask, shape) * spread(here.to(mask), mask)

        joined = views if views == camera else WithCamera(views, camera)
        return Inpaint(PixelImage.of(picture).to(device), keep), joined


@dataclass(frozen=True)
class KnownView:
    """A picture to look like: picture, a file; mask, a file of the same size, white where it counts, or None:
    everywhere; weight of the loss; size, the side in pixels at which it is compared; matting, the folder of a model
    that cuts out the object of a photograph, see `tasks.cutout`."""

    picture: str
    mask: str | None
    place: Place
    weight: float
    size: int
    matting: str | None = None

    def constrain(self, views: Sampler, single: bool, device: torch.device) -> tuple[Constraint[Cameras], Sampler]:
        """See `Known`. Raises UserError for a picture without transparency or mask, too: its background would count as
        the object."""
        view = self.place.camera(views, single).sample(1).to(device)
        picture = read_picture(self.picture, "constraint.picture")
        if self.mask is None and not single and bool((picture[3] == 1).all()):
            if self.matting is None:
                raise UserError(
                    f"constraint.picture={self.picture} is covered everywhere: expected the object cut out (a PNG with "
                    "transparency), constraint.mask=<a picture that is white where the object is>, or "
                    "constraint.matting=<a folder with a model that cuts it out>"
                )
            picture = cut_out(picture, self.matting, "constraint.matting")
        mask = torch.ones_like(picture[:1]) if self.mask is None else read_like(picture, self.mask)
        shape = (self.size, self.size)
        shown, counted = (resized(each[None], shape).to(device) for each in (picture, mask))
        return Reference(shown, counted, view, self.weight), views


def inpaint(
    picture: str,
    mask: str,
    azimuth: Angle | None = None,
    elevation: Finite | None = None,
    distance: Finite | None = None,
    fov: Finite | None = None,
) -> KnownPixels:
    """`KnownPixels` as a configuration says it."""
    return KnownPixels(picture, mask, Place(azimuth, elevation, distance, fov))


def reference(
    picture: str,
    mask: str | None = None,
    weight: Annotated[float, number(above=0, most=1_000_000)] = 1.0,
    size: Annotated[int, whole(8, 1024)] = 64,
    azimuth: Angle | None = None,
    elevation: Finite | None = None,
    distance: Finite | None = None,
    fov: Finite | None = None,
    matting: str | None = None,
) -> KnownView:
    """`KnownView` as a configuration says it."""
    return KnownView(picture, mask, Place(azimuth, elevation, distance, fov), weight, size, matting)


def read_like(picture: Tensor, path: str) -> Tensor:
    """A mask [1, S, S] for a picture [4, S, S], with white in it. Raises UserError."""
    mask = read_mask(path, "constraint.mask")
    if mask.shape[1:] != picture.shape[1:]:
        sizes = f"{mask.shape[-1]} pixels along a side, the picture {picture.shape[-1]}"
        raise UserError(f"constraint.mask={path} has {sizes}: expected the same size; scale one of them")
    if not mask.any():
        raise UserError(
            f"constraint.mask={path}: it is black everywhere; expected white, and opaque, where the picture is known"
        )
    return mask
