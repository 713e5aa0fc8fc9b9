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
from text23d.paths import given_file
from text23d.settings import shown
from text23d.spaces import from_picture, to_picture

if TYPE_CHECKING:
    from PIL import Image

SMALLEST, LARGEST = 8, 8192  # pixels along a side
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a TIFF's tag, which Pillow heeds for 8 bits alone


def read_picture(path: str | os.PathLike[str], setting: str, square: bool = True) -> Tensor:
    """The picture in a file, upright, in picture space [4, H, W] float32; without an alpha channel it is covered
    everywhere. `setting` is what the person set to `path`; square: whether it has to be.

    Levels are display (sRGB) levels of 8 or 16 bits, or floats from 0 to 1. Raises UserError where the file is missing,
    damaged, no picture, of other levels, not square where it has to be, or has fewer than SMALLEST or more than LARGEST
    pixels along a side.
    """
    straight, alpha = _levels(path, setting, square).split([3, 1])
    return to_picture(straight * alpha, alpha)


def pictures_in(folder: str | None, setting: str, expected: str) -> list[Path]:
    """The pictures in a folder, by their names' endings and in their order. Raises UserError, with what is `expected`
    of the folder, where it is missing or has none."""
    if folder is None or not Path(folder).is_dir():
        raise UserError(f"{setting}={shown(folder)}: no such folder; expected {expected}")
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"{setting}={folder}: no picture there; expected files named {', '.join(SUFFIXES)}")
    return paths


def read_mask(path: str | os.PathLike[str], setting: str, square: bool = True) -> Tensor:
    """A picture as a mask [1, H, W] float32: 1 where it is white and opaque, that is, shown over black, lighter than
    middle grey; else 0. Raises UserError as `read_picture`."""
    levels = _levels(path, setting, square)
    grey = torch.einsum("c,chw->hw", torch.tensor(LUMA), levels[:3])
    return (grey * levels[3] >= 0.5).float()[None]


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


def _levels(path: str | os.PathLike[str], setting: str, square: bool) -> Tensor:
    """Red, green, blue and alpha [4, H, W] float32 in [0, 1], of any kind of picture that says what its white is."""
    picture, given = _opened(path, setting, square), f"{setting}={path}"
    if picture.mode in EIGHT_BITS:
        return torch.from_numpy(np.asarray(picture.convert("RGBA"), np.float32) / 255).movedim(-1, 0)
    sixteen = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.info["format"] in ("PNG", "PPM"))
    if not sixteen and picture.mode != "F":
        raise UserError(
            f"{given}: its pixels are of the kind {picture.mode}, which does not say what white is; save it with 8 or "
            "16 bits a channel"
        )
    raw = torch.from_numpy(np.array(picture, np.float32))
    grey = raw / 65535 if sixteen else raw
    if not (grey.min() >= 0 and grey.max() <= 1):
        raise UserError(
            f"{given}: it holds levels from {raw.min():g} to {raw.max():g}; expected 0 (black) to 1 (white) in a "
            "picture of floats; scale them, or save it with 8 or 16 bits a channel"
        )
    if picture.info["white is zero"]:
        grey = 1 - grey
    hidden = picture.info.get("transparency")
    alpha = torch.ones_like(grey) if hidden is None else (raw != hidden).float()
    return torch.stack([grey, grey, grey, alpha])


def _opened(path: str | os.PathLike[str], setting: str, square: bool) -> Image.Image:
    """The picture in a file, upright; its `info` also says its format, and whether its white is zero."""
    from PIL import Image, ImageOps

    given = f"{setting}={path}"
    path = given_file(path, setting, "a picture (PNG or JPEG)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                picture = ImageOps.exif_transpose(file)
                picture.load()
                white_is_zero = getattr(file, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO
                picture.info |= {"format": file.format, "white is zero": white_is_zero}
    except Exception as error:  # Pillow lets struct, zlib, key and value errors of a damaged file through alike
        raise UserError(f"{given}: cannot be read as a picture; expected a whole PNG or JPEG file") from error
    wide, high = picture.size
    if (square and wide != high) or not all(SMALLEST <= side <= LARGEST for side in picture.size):
        expected = f"expected {'a square of ' if square else ''}{SMALLEST} to {LARGEST} pixels along a side"
        raise UserError(f"{given}: the picture is {wide} x {high}; {expected}: crop or scale it")
    return picture
