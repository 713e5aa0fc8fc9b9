"""Clips that a person brings: a video, an animated picture or a folder of frames, as picture space."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.paths import given_file
from text23d.pictures import LARGEST, SMALLEST, read_picture
from text23d.spaces import to_picture

ANIMATED = {".gif", ".png", ".apng", ".webp"}
KINDS = "a video (mp4), an animated picture (gif, png, webp) or a folder of pictures"
EXPECTED = f"expected {KINDS}"
PLAIN = 0.08
"""How much the border of a clip without transparency may differ from its mean, on average, to be nothing but a
background."""
THICK = 0.15
"""From which difference to the background on something is wholly there; compression alone makes up to a third of it."""


def read_clip(path: str | Path, setting: str, rate: float, most: int) -> Tensor:
    """The first frames of a clip at `rate` frames a second, at most `most`, in picture space [F, 4, S, S] float32.
    Pictures of a folder, in the order of the numbers in their names, are taken to be at that rate.

    A clip that is covered everywhere is cut out of its background, the colour of its border. Raises UserError where
    there is no such clip, it is damaged, not square, or its border is not of one colour.
    """
    path = given_file(path, setting, KINDS, folders=True)
    if path.is_dir():
        x = _folder(path, setting, most)
    elif path.suffix.lower() in ANIMATED:
        x = _timed(*_animated(path, setting, most / rate), rate)
    else:
        x = _timed(*_video(path, setting, most / rate), rate)
    return _cut_out(x[:most], f"{setting}={path}")


def _folder(path: Path, setting: str, most: int) -> Tensor:
    files = sorted((each for each in path.iterdir() if each.is_file() and each.name[0] != "."), key=_numbered)
    if not files:
        raise UserError(f"{setting}={path}: the folder holds no picture; {EXPECTED}")
    frames = [read_picture(each, setting) for each in files[:most]]
    for each, frame in zip(files, frames, strict=False):
        if frame.shape != frames[0].shape:
            sides = f"{each.name} has {frame.shape[-1]} pixels along a side, {files[0].name} {frames[0].shape[-1]}"
            raise UserError(f"{setting}={path}: {sides}; expected frames of one size")
    return torch.stack(frames)


def _numbered(path: Path) -> list[tuple[int, str]]:
    """frame2 before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _animated(path: Path, setting: str, seconds: float) -> tuple[Tensor, list[float]]:
    """Frames, and when each ends, in seconds."""
    from PIL import Image, ImageSequence

    frames, ends = list[Tensor](), list[float]()
    try:
        with Image.open(path) as file:
            for frame in ImageSequence.Iterator(file):
                frames.append(torch.from_numpy(np.array(frame.convert("RGBA"))))
                # A WebP says only now how long it is shown.
                # Browsers show what is to be shown for no time for a tenth of a second.
                ends.append((ends[-1] if ends else 0.0) + (float(frame.info.get("duration", 0)) or 100.0) / 1000)
                if ends[-1] >= seconds:
                    break
    except Exception as error:  # Pillow lets struct, zlib, key and value errors of a damaged file through alike
        raise UserError(f"{setting}={path}: cannot be read; {EXPECTED}") from error
    levels = _square(torch.stack(frames), f"{setting}={path}")
    return to_picture(levels[:, :3] * levels[:, 3:], levels[:, 3:]), ends


def _video(path: Path, setting: str, seconds: float) -> tuple[Tensor, list[float]]:
    import imageio.v3 as iio

    try:
        rate = float(iio.immeta(path.absolute(), plugin="FFMPEG")["fps"])
        wanted = islice(iio.imiter(path.absolute(), plugin="FFMPEG"), max(1, int(np.ceil(seconds * rate))))
        frames = [torch.from_numpy(frame) for frame in wanted]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{setting}={path}: cannot be read; {EXPECTED}") from error
    if not frames or not rate > 0:
        raise UserError(f"{setting}={path}: it holds no frame; {EXPECTED}")
    levels = _square(torch.stack(frames), f"{setting}={path}")
    return to_picture(levels, torch.ones_like(levels[:, :1])), [(index + 1) / rate for index in range(len(frames))]


def _square(frames: Tensor, given: str) -> Tensor:
    """Levels [F, H, W, C] uint8 -> [F, C, S, S] float32 in [0, 1]. Raises UserError where they are not square."""
    high, wide = frames.shape[1:3]
    if high != wide or not SMALLEST <= high <= LARGEST:
        expected = f"expected a square of {SMALLEST} to {LARGEST} pixels along a side"
        raise UserError(f"{given}: its frames are {wide} x {high}; {expected}: crop or scale it")
    return frames.movedim(-1, 1).float() / 255


def _timed(x: Tensor, ends: list[float], rate: float) -> Tensor:
    """What is shown at 1/2, 3/2, ... frames of that rate; one frame at the least."""
    middles = (np.arange(max(1, round(ends[-1] * rate))) + 0.5) / rate
    return x[np.minimum(np.searchsorted(ends, middles, side="right"), len(x) - 1)]


def _cut_out(x: Tensor, given: str) -> Tensor:
    """x [F, 4, S, S] with a background that is none taken away. Raises UserError where the border is not of one
    colour."""
    if (x[:, 3] < 1).any():
        return x
    colour = (x[:, :3] + 1) / 2
    border = torch.cat([colour[..., 0, :], colour[..., -1, :], colour[..., :, 0], colour[..., :, -1]], -1)
    ground = border.median(-1).values.median(0).values[:, None, None]
    if (border - ground[..., 0]).abs().mean() > PLAIN:
        raise UserError(
            f"{given}: it has no transparency, and its border is not of one colour; expected one thing on "
            "nothing: make its background transparent, or plain"
        )
    alpha = ((colour - ground).abs().amax(1, keepdim=True) / THICK).clamp(0, 1)
    alpha = torch.where(alpha < 1 / 3, torch.zeros_like(alpha), alpha)
    return to_picture(torch.minimum((colour - (1 - alpha) * ground).clamp(min=0), alpha), alpha)
