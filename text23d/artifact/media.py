"""Pictures and videos of a run: compositing, contact sheets, turntables. Pictures are [H, W, 3] uint8, row 0 on top."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from text23d.errors import UserError
from text23d.files import atomic
from text23d.spaces import from_picture

if TYPE_CHECKING:
    from PIL import ImageFont

GREY, WHITE = 0.5, 1.0
GAP, LETTERS = 4, 14  # pixels between pictures, and the height of a label's letters
# Without the tags a player guesses the matrix, and colours shift; faststart lets a browser play while it loads.
BT709 = ["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-color_primaries", "bt709"]
MP4 = [*BT709, "-color_trc", "bt709", "-movflags", "+faststart", "-f", "mp4"]


def composite_on(background: float | Sequence[float], premultiplied: Tensor, alpha: Tensor) -> np.ndarray:
    """premultiplied + (1 - alpha) background, as pictures.

    background: a grey level or an RGB triple, in [0, 1]. premultiplied [..., 3, H, W] and alpha [..., 1, H, W], in
    [0, 1]: what `spaces.from_picture` returns; values outside are clamped. Returns [..., H, W, 3] uint8.
    """
    ground = premultiplied.new_tensor([background] * 3 if isinstance(background, (int, float)) else list(background))
    colour = premultiplied + (1 - alpha.clamp(0, 1)) * ground[:, None, None]
    levels = (colour.detach().clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(levels.movedim(-3, -1).cpu().numpy())


def on_white(x: Tensor) -> np.ndarray:
    """Picture space [B, 4, H, W] -> uint8 [B, H, W, 3] over white."""
    return composite_on(WHITE, *from_picture(x))


def upscale(picture: np.ndarray, size: int, smooth: bool = True) -> np.ndarray:
    """Scale a picture [H, W, 3] so that its longer side has `size` pixels: bicubic, or in hard squares (nearest)."""
    from PIL import Image

    height, width = _checked(picture).shape[:2]
    factor = size / max(height, width)
    target = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(target, how))


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]], path: str | os.PathLike[str], columns: Sequence[str] = ()
) -> None:
    """Write a PNG with one labelled row of pictures after another, under the labels of the columns.

    rows: (label, pictures [H, W, 3] uint8), every cell as wide as the widest picture, and a row as high as its
    highest. A row's label stands above its pictures; labels longer than their place end in "...". Raises UserError
    when there is nothing to show or the file cannot be written, ValueError for pictures of another kind.
    """
    from PIL import Image, ImageDraw, ImageFont

    pictures = [_checked(picture) for _, row in rows for picture in row]
    if not pictures:
        raise UserError("no picture for the contact sheet: expected at least one row with one picture")
    wide = max(picture.shape[1] for picture in pictures)
    heights = [max((picture.shape[0] for picture in row), default=0) for _, row in rows]
    across = max(len(columns), *(len(row) for _, row in rows))
    strip = LETTERS + 2 * GAP
    top = strip if columns else GAP
    tall = top + sum(strip + high + GAP for high in heights)
    sheet = Image.new("RGB", (GAP + across * (wide + GAP), tall), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LETTERS)
    for column, label in enumerate(columns):
        draw.text((GAP + column * (wide + GAP), GAP), _fitted(label, wide, font), "black", font)
    y = top
    for (label, row), high in zip(rows, heights, strict=True):
        draw.text((GAP, y + GAP), _fitted(label, sheet.width - 2 * GAP, font), "black", font)
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (GAP + column * (wide + GAP), y + strip))
        y += strip + high + GAP
    with atomic(path) as temporary:
        sheet.save(temporary, "PNG")


def turntable(frames: Iterable[np.ndarray], path: str | os.PathLike[str], fps: float = 30) -> int:
    """Stream pictures, all [H, W, 3] uint8 of one size, into an H.264 video (yuv420p, BT.709); returns their number.

    One frame is in memory at a time. ffmpeg reads them from a pipe, whose end stops it when this process is killed.
    Raises UserError when H or W is not divisible by 16 (the encoder would resize without a word), when there is no
    frame, when ffmpeg is missing or stops early, or when the file cannot be written.
    """
    import imageio_ffmpeg

    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise UserError("no frame for the turntable: expected at least one")
    height, width = _checked(first).shape[:2]
    if height % 16 or width % 16:
        raise UserError(
            f"turntable frames are {width} x {height} pixels: expected sides divisible by 16; "
            f"choose {_nearest16(width)} x {_nearest16(height)}"
        )
    with atomic(path) as temporary:
        try:
            # An absolute path is no option and no protocol, which ffmpeg sees in -x/turn.mp4 and in http:x/turn.mp4.
            writer = imageio_ffmpeg.write_frames(
                str(temporary.absolute()),
                (width, height),
                fps=fps,
                codec="libx264",
                quality=8,
                output_params=MP4,
                ffmpeg_log_level="quiet",  # what it did not write is counted below
            )
            writer.send(None)
        except (RuntimeError, OSError) as error:
            raise UserError(f"no ffmpeg ({error}): install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE") from error
        try:
            count = _send(writer, first, stream)
        finally:
            writer.close()
        written = _frames_in(temporary)
        if written != count:
            raise UserError(f"ffmpeg wrote {written} of {count} frames to {path}: free some space and try again")
    return count


def read_frames(path: str | os.PathLike[str]) -> list[np.ndarray]:
    """All frames of a video, [H, W, 3] uint8. Raises UserError where it is missing or cannot be decoded."""
    import imageio.v3 as iio

    try:
        frames = list(iio.imiter(Path(path).absolute(), plugin="FFMPEG"))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot read the video {path}: expected one written by text23d; repeat its run") from error
    if not frames:
        raise UserError(f"the video {path} holds no frame: repeat its run")
    return frames


def _frames_in(video: Path) -> int:
    """The frames that can be decoded: ffmpeg's exit status is not passed on, so a full disk shows only here."""
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.count_frames_and_secs(str(video.absolute()))[0]
    except RuntimeError:
        return 0


def _send(writer: Generator[None, np.ndarray, None], first: np.ndarray, rest: Iterator[np.ndarray]) -> int:
    count = 0
    for picture in chain([first], rest):
        if _checked(picture).shape != first.shape:
            raise ValueError(f"frame {count} is {picture.shape}, the first was {first.shape}: expected one size")
        try:
            writer.send(np.ascontiguousarray(picture))
        except OSError as error:  # of the pipe
            raise UserError(f"ffmpeg ended before frame {count} of the video: free some space and try again") from error
        count += 1
    return count


def _checked(picture: np.ndarray) -> np.ndarray:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture of shape {picture.shape} and type {picture.dtype}: expected [H, W, 3] uint8")
    return picture


def _fitted(label: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The label, on one line, cut until it is at most `width` pixels wide."""
    label = " ".join(label.split())
    if font.getlength(label) <= width:
        return label
    while label and font.getlength(label + "...") > width:
        label = label[:-1]
    return label + "..."


def _nearest16(side: int) -> int:
    return max(16, round(side / 16) * 16)
