"""rms(x - D'(x)) of a pretrained model on real pictures, measured once and kept: what the noise ratio compares with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from text23d.contracts import Denoiser, Shape
from text23d.errors import UserError
from text23d.files import read_json, write_json
from text23d.paths import cache_dir
from text23d.pictures import pictures_in, read_picture
from text23d.rng import generator
from text23d.settings import Positive, read

LEVELS = tuple(float(level) for level in np.geomspace(0.05, 10, 12).round(4))
"""Noise levels that are measured; between them it is interpolated, and beyond them the ratio to sigma stays."""
MOST = 32
"""Pictures that are looked at, the first by name."""
ENDS = 1 << 20
"""Bytes at the beginning of a file of weights that tell it from others of its length."""


@dataclass(frozen=True)
class Table:
    """rms at each level of sigma."""

    sigma: tuple[Positive, ...]
    rms: tuple[Positive, ...]

    def __post_init__(self) -> None:
        if len(self.sigma) != len(self.rms) or not self.rms:
            raise UserError(f"a table of {len(self.sigma)} levels and {len(self.rms)} values: measure it again")

    def __call__(self, sigma: float) -> float:
        """Interpolated in the logarithms."""
        ratios = np.log(np.array(self.rms) / np.array(self.sigma))
        return float(sigma * np.exp(np.interp(np.log(sigma), np.log(self.sigma), ratios)))


def reference_rms(
    denoiser: Denoiser,
    told: Callable[[int], Any],
    encode: Callable[[Tensor], Tensor],
    shape: Shape,
    pictures: str,
    model: Path,
    device: torch.device,
    how: str = "",
) -> Table:
    """The table of D' = denoiser, told `told(n)` of n examples, on the pictures in a folder: from the cache of this
    user, or measured now and put there.

    encode  colour [1, 3, *shape] in [-1, 1] -> x0, in the denoiser's space.
    model   the folder of its weights, which with `how` it computes tells it from others.
    Raises UserError where there are no pictures.
    """
    paths = pictures_of(pictures)
    kept = cache_dir() / "reference_rms" / f"{fingerprint(model, paths, how)}.json"
    try:
        return read(Table, read_json(kept))
    except (UserError, OSError, ValueError):  # it is not there, or damaged: it is measured again
        pass
    table = measure(denoiser, told, [encode(colour(path, shape).to(device)) for path in paths])
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, vars(table))
    except (UserError, OSError):  # a home that cannot be written to costs the next run a minute, and this one nothing
        pass
    return table


def pictures_of(folder: str) -> list[Path]:
    """Those that are looked at. Raises UserError where there are none."""
    return pictures_in(folder, "prior.pictures", "a folder of pictures such as the model was trained on")[:MOST]


@torch.no_grad()
def measure(denoiser: Denoiser, told: Callable[[int], Any], examples: Sequence[Tensor]) -> Table:
    """rms(x - D'(x; sigma)) at LEVELS, x = x0 + sigma n, over all examples x0, each [1, C, *S]."""
    squares = []
    for step, level in enumerate(LEVELS):
        left = []
        for index, x0 in enumerate(examples):
            n = torch.randn(x0.shape, generator=generator(0, index, step, "reference")).to(x0)
            x = x0 + level * n
            left.append((x - denoiser(x, x.new_tensor(level), told(1))).square().mean())
        squares.append(torch.stack(left).mean())
    return Table(LEVELS, tuple(torch.stack(squares).sqrt().double().tolist()))


@torch.no_grad()
def colour(path: Path, shape: Shape) -> Tensor:
    """The middle of a picture, over grey, as colour [1, 3, *shape]."""
    picture = read_picture(path, "prior.pictures", square=False)[None, :3]
    side = min(picture.shape[2:])
    top, left = ((each - side) // 2 for each in picture.shape[2:])
    middle = picture[..., top : top + side, left : left + side]
    return F.interpolate(middle, size=shape, mode="bilinear", antialias=True, align_corners=False)


def fingerprint(model: Path, pictures: Sequence[Path], how: str) -> str:
    """Tells models, pictures and what is measured of them apart; weights by their names, sizes and beginnings."""
    found: list[Any] = [how, LEVELS]
    for path in sorted(model.rglob("*.safetensors")):
        with open(path, "rb") as file:
            beginning = hashlib.sha256(file.read(ENDS)).hexdigest()
        found.append([str(path.relative_to(model)), path.stat().st_size, beginning])
    found += [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in pictures]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32]
