"""A coloured surface as every exporter takes it, and where a file puts it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from text23d.artifact.albedo import Shading

ROUGHNESS = 0.9  # what objects are learned from is matte


@dataclass(frozen=True)
class Atlas:
    """A texture and where it lies on a model: W points of the texture's plane, one or more for each vertex.

    vertex [W]: the vertex that each is of; faces [F, 3]: their triangles, in the model's order; uv [W, 2] in [0, 1], v
    upwards; texture [S, S, 3] uint8 display (sRGB) colour, row 0 at the top.
    """

    vertex: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    texture: np.ndarray


@dataclass(frozen=True)
class Model:
    """V vertices and F triangles of our world (Z up, front -Y), wound outwards.

    vertices [V, 3]; normals [V, 3] of length 1; faces [F, 3]; colours [V, 3] uint8 display (sRGB) colour. Without an
    atlas the vertices' colours are all there is. shading: what was taken out of the colours, so that they are albedo;
    None: nothing.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    atlas: Atlas | None = None
    shading: Shading | None = None


@dataclass(frozen=True)
class Placement:
    """A scaling about `base`, which becomes the origin: file = (scene - base) * factor, before any change of axes."""

    base: np.ndarray
    factor: float

    @staticmethod
    def standing(model: Model, side: float) -> Placement:
        """Longest side `side` metres, origin at the centre of the base."""
        low, high = model.vertices.min(0), model.vertices.max(0)
        middle = (low + high) / 2
        return Placement(np.array([middle[0], middle[1], low[2]]), side / float((high - low).max()))

    def place(self, model: Model) -> Model:
        return replace(model, vertices=(model.vertices - self.base) * self.factor)

    def back(self, vertices: np.ndarray) -> np.ndarray:
        """Vertices [V, 3] of a placed model, in scene units again."""
        return vertices / self.factor + self.base


TO_Y_UP = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Z up, front -Y -> Y up, front +Z, of glTF (specification 3.4) and of OBJ by custom; its transpose leads back."""


def linear(srgb: np.ndarray) -> np.ndarray:
    """Display colour in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def display(light: np.ndarray) -> np.ndarray:
    """The inverse of `linear`."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055)


def png(picture: np.ndarray) -> bytes:
    """A picture [H, W, 3] uint8 as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
