"""A video as phi: longer than the clips that a prior knows."""

from __future__ import annotations

from typing import Annotated

from text23d.representation.canvas import Canvas
from text23d.settings import Flag, number, whole

Frames = Annotated[int, whole(1, 4096)]
Side = Annotated[int, whole(8, 1024)]
Rate = Annotated[float, number(above=0, most=120)]


def video(frames: Frames = 64, size: Side = 32, rate: Rate = 8.0, wrap: Flag = False) -> Canvas:
    """RGBA frames [4, frames, size, size] in picture space, `rate` of them a second. wrap: the last one is followed by
    the first. Raises UserError where they would not fit into memory."""
    return Canvas(4, (frames, size, size))
