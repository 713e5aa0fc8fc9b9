"""Picture files that a person brings or takes away: PNG, JPEG and whatever else Pillow reads, as picture space."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.files import atomic
from text23d.spaces import from_picture, to_picture

if TYPE_CHECKING:
    from PIL import Image

SMALLEST, LARGEST = 8, 8192  # pixels along a side


def read_picture(path: str | os.PathLike[str], setting: str) -> Tensor:
    """The square picture in a file, upright, in picture space [4, S, S] float32; without an alpha channel it is covered
    everywhere. `setting` is what the person set to `path`.

    Raises UserError where the file is missing, damaged, no picture, not square, or has fewer than SMALLEST or more than
    LARGEST pixels along a side.
    """
    levels = np.asarray(_opened(path, setting).convert("RGBA"), np.float32) / 255
    straight, alpha = torch.from_numpy(levels).movedim(-1, 0).split([3, 1])
    return to_picture(straight * alpha, alpha)


def read_mask(path: str | os.PathLike[str], setting: str) -> Tensor:
    """A black and white picture as [1, S, S] float32: 1 where it is lighter than middle grey, else 0. Raises UserError
    as `read_picture`."""
    return torch.from_numpy(np.asarray(_opened(path, setting).convert("L")) > 127).float()[None]


def write_picture(path: str | os.PathLike[str], x: Tensor) -> None:
    """Write picture space [4, H, W], clamped to what can be shown, as an RGBA PNG; black where nothing is covered.

    What `read_picture` made of an 8-bit file comes out with the same bytes per pixel. Raises UserError if it cannot be
    written.
    """
    from PIL import Image

    premultiplied, alpha = from_picture(x.detach().cpu().double())
    straight = torch.where(alpha > 0.5 / 255, premultiplied / alpha.clamp(min=0.5 / 255), 0.0)
    levels = (torch.cat([straight, alpha]).clamp(0, 1) * 255).round().byte().movedim(0, -1)
    with atomic(path) as temporary:
        Image.fromarray(np.ascontiguousarray(levels.numpy())).save(temporary, "PNG")


def _opened(path: str | os.PathLike[str], setting: str) -> Image.Image:
    from PIL import Image, ImageOps

    given = f"{setting}={path}"
    if not Path(path).is_file():
        raise UserError(f"{given}: no such file; expected a picture (PNG or JPEG); check the path")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
                picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{given}: cannot be read as a picture ({error}); expected a whole PNG or JPEG file") from error
    wide, high = picture.size
    if wide != high or not SMALLEST <= wide <= LARGEST:
        expected = f"expected a square of {SMALLEST} to {LARGEST} pixels along a side"
        raise UserError(f"{given}: the picture is {wide} x {high}; {expected}: crop or scale it")
    return picture
