"""Contact sheets of the world: every kind in every colour, and one object from all around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.files import write_bytes
from text23d.worlds.objects.caption import Caption
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.render import render
from text23d.worlds.objects.scene import draw_caption, make

BACKGROUND = 128


def on_grey(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Premultiplied RGBA uint8 [..., 4] over mid grey -> RGB uint8 [..., 3]."""
    clear = 255 - pictures[..., 3:].astype(np.uint16)
    return (pictures[..., :3] + (clear * BACKGROUND + 127) // 255).astype(np.uint8)


def grid(pictures: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Pictures [N, H, W, C], N a multiple of `columns`, row by row into one [N / columns * H, columns * W, C]."""
    _, high, wide, channels = pictures.shape
    rows = pictures.reshape(-1, columns, high, wide, channels).swapaxes(1, 2)
    return rows.reshape(-1, columns * wide, channels)


def ring(count: int, elevation: float = 22.0, start: float = 35.0) -> Cameras:
    """`count` cameras equally spaced in azimuth, the first at `start` degrees."""
    azimuth = start + torch.arange(count) * (360.0 / count)
    return Cameras(azimuth, torch.full((count,), elevation), torch.full((count,), 3.0), torch.full((count,), 40.0))


def kinds_by_colours(seed: int, size: int = 64) -> NDArray[np.uint8]:
    """One random object of every kind (rows) and colour (columns), three-quarter views from the front."""
    pictures = []
    for row, kind in enumerate(KINDS):
        for column, colour in enumerate(COLOURS):
            rng = np.random.default_rng([seed, row, column])
            view = ring(1, elevation=rng.uniform(10, 35), start=rng.choice([-1, 1]) * rng.uniform(20, 60))
            pictures.append(render(make(Caption(kind, colour), rng), view, size=size))
    return grid(on_grey(np.concatenate(pictures)), len(COLOURS))


def turntables(seed: int, size: int = 64, views: int = 12) -> NDArray[np.uint8]:
    """One random object of every kind (rows) from equally spaced azimuths (columns), the first column the front."""
    names = list(COLOURS)
    rows = []
    for row, kind in enumerate(KINDS):
        thing = make(Caption(kind, names[(row * 5 + seed) % len(names)]), np.random.default_rng([seed, row]))
        rows.append(render(thing, ring(views, start=0.0), size=size))
    return grid(on_grey(np.concatenate(rows)), views)


def captioned(seed: int, size: int = 64, columns: int = 16, rows: int = 12) -> NDArray[np.uint8]:
    """Objects as the prior's training set draws them: coloured parts, adjectives and pairs among them."""
    pictures = []
    for index in range(columns * rows):
        rng = np.random.default_rng([seed, index])
        thing = make(draw_caption(index, rng), rng)
        view = ring(1, elevation=rng.uniform(10, 35), start=rng.uniform(0, 360))
        pictures.append(render(thing, view, size=size))
    return grid(on_grey(np.concatenate(pictures)), columns)


def save_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write RGB uint8 [H, W, 3] as a PNG, whole or not at all. Raises UserError if the file cannot be written."""
    from imageio.v3 import imwrite

    if path.suffix.lower() != ".png":
        raise UserError(f"cannot write {path}: a contact sheet is a PNG; name it {path.with_suffix('.png').name}")
    write_bytes(path, imwrite("<bytes>", picture, extension=".png"))
