"""The colour of a surface without the light that pictures of it were taken in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from text23d.artifact.atlas import Painter
from text23d.artifact.cast import photograph
from text23d.artifact.model import Model
from text23d.cameras import Cameras
from text23d.rng import generator

Light = Callable[[np.ndarray], np.ndarray]
"""Unit normals [N, 3] -> irradiance [N], > 0: the display colour there is min(albedo * irradiance, 1)."""

PAIRS = 200_000
SAME = 0.1  # L1 distance of chromaticities up to which two places may have one albedo
DIFFERENT = 0.02  # of log irradiance, from which they say something about the light
DARK = 0.02  # added to display colours before logarithms


@dataclass(frozen=True)
class Shading:
    """What of a light colours hold: display colour = min(albedo * irradiance(normal)^share, 1), share in [0, 1].

    What a prior's pictures are lit by is known, but not how much of it a run has taken up: where noise is high the
    prior hardly knows the light, and where it is low it leaves a picture's light as it is.
    """

    light: Light
    share: float = 1.0

    def __call__(self, normals: np.ndarray) -> np.ndarray:
        """Unit normals [N, 3] -> [N], the factor between albedo and colour."""
        return np.asarray(self.light(normals)) ** self.share

    def removed(self, colours: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """The albedo [N, 3] uint8 of display colours [N, 3] uint8: of one that is clipped, the least that it may be."""
        return np.rint(colours / self(normals)[:, None]).clip(0, 255).astype(np.uint8)


def shading(colours: np.ndarray, normals: np.ndarray, areas: np.ndarray, light: Light) -> Shading:
    """That of a surface with display colours [N, 3] uint8 at places with these unit normals [N, 3] and areas [N].

    Two places of one chromaticity are taken to have one albedo, so that log colour differs by share * log irradiance.
    The share is that of least absolute deviations over pairs drawn by area and weighted by brightness, which is a
    weighted median (Bloomfield and Steiger, Least Absolute Deviations, 1983); 0 where no pair tells.
    """
    draw = generator(0, 0, 0, "pairs of places")
    drawn = torch.multinomial(torch.from_numpy(areas), 2 * PAIRS, replacement=True, generator=draw)
    one, other = drawn.view(2, -1).numpy()
    total = colours.sum(1) / 255 + DARK
    chromaticity, irradiance = colours / 255 / total[:, None], np.log(light(normals))
    steps = irradiance[one] - irradiance[other]
    told = (np.abs(chromaticity[one] - chromaticity[other]).sum(1) < SAME) & (np.abs(steps) > DIFFERENT)
    one, other, steps = one[told], other[told], steps[told]
    if not len(steps):
        return Shading(light, 0.0)
    slopes = (np.log(total[one]) - np.log(total[other])) / steps
    median = weighted_median(slopes, np.abs(steps) * (total[one] + total[other]))
    return Shading(light, float(np.clip(median, 0, 1)))


def unlit(paint: Painter, held: Shading | None) -> Painter:
    """A painter of albedo, from one of display colours that hold this light; the same, where it is None."""
    return paint if held is None else lambda points, normals: held.removed(paint(points, normals), normals)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The one of values [N] with at most half the weight below it, and at most half above it; N > 0."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def lit(model: Model, shading: Shading, cameras: Cameras, size: int) -> np.ndarray:
    """The factors between albedo and colour that the pixels of pictures see of a model, [B, size, size]; 1 where they
    see nothing."""
    hits = photograph(model.vertices, model.faces, cameras, size)
    met, factors = hits.face >= 0, np.ones(len(hits.face))
    normals = (model.normals[model.faces[hits.face[met]]] * hits.weight[met, :, None]).sum(1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    factors[met] = shading(normals / np.maximum(length, 1e-9))
    return factors.reshape(len(cameras), size, size)
