"""What `conf/constraint/outpaint.yaml` says is known of a panorama beforehand: a picture, and where in it that lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Constraint, Sampler, Shape
from text23d.errors import UserError
from text23d.pictures import read_mask, read_picture
from text23d.representation.image import resized
from text23d.settings import Share, Text
from text23d.tasks.canvas import kept


@dataclass(frozen=True)
class KnownPart:
    """A part of a panorama to keep: picture, a file; mask, a file of the same size, white where it is to be kept, or
    None: wherever the picture is not transparent; at, where it lies, from 0 at the left end to 1 at the right."""

    picture: str
    mask: str | None
    at: float

    def constrain(self, views: Sampler, single: bool, device: torch.device) -> tuple[Constraint[Any], Sampler]:
        """See `tasks.constraints.Known`. Raises UserError for what does not fit, and where all or nothing is known."""
        shape: Shape | None = getattr(views, "whole", None)
        if shape is None or len(shape) != 2:
            raise UserError(
                "constraint=outpaint goes on from a part of a panorama: choose representation=panorama or sphere, or "
                "constraint=inpaint"
            )
        return kept(*self.placed(shape), device), views

    def placed(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """The known colours [3, H, W] of a panorama of that shape, and [1, H, W] 1 where they are known."""
        picture = read_picture(self.picture, "constraint.picture", square=False)
        opaque = (picture[3:] > 0).float()
        if self.mask is not None:
            said = read_mask(self.mask, "constraint.mask", square=False)
            if said.shape != opaque.shape:
                sizes = " and ".join(f"{each.shape[2]} x {each.shape[1]}" for each in (said, opaque))
                raise UserError(f"constraint.mask={self.mask}: mask and picture are {sizes}: expected the same size")
            opaque = opaque * said
        high, wide = shape
        width = max(1, round(picture.shape[2] * high / picture.shape[1]))
        if width > wide:
            raise UserError(
                f"constraint.picture={self.picture} is {width} pixels wide at the panorama's height of {high}: at "
                f"most its width of {wide} is expected; crop the picture, or make the panorama wider"
            )
        left = round(self.at * (wide - width))
        colour, known = torch.zeros(3, high, wide), torch.zeros(1, high, wide)
        colour[..., left : left + width] = resized(picture[None, :3], (high, width))[0]
        known[..., left : left + width] = (resized(opaque[None], (high, width))[0] > 0.5).float()
        if known.all() or not known.any():
            share = "all" if known.all() else "nothing"
            raise UserError(
                f"constraint.picture={self.picture}: {share} of the panorama is known; expected a part of it: see "
                "constraint.mask and representation.width"
            )
        return colour, known


def outpaint(picture: Text, mask: Text | None = None, at: Share = 0.5) -> KnownPart:
    """`KnownPart` as a configuration says it."""
    return KnownPart(picture, mask, at)
