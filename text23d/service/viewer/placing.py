"""Meshes and pictures in viser's scene, where the NeRF is seen."""

from __future__ import annotations

import io
from math import sqrt
from typing import Any

import numpy as np
import trimesh

from text23d.artifact.mesh import extract
from text23d.engine.snapshots import Snapshot
from text23d.errors import UserError

UP = (sqrt(0.5), sqrt(0.5), 0.0, 0.0)
"""The rotation, as a quaternion, from glTF's Y up to Z up; and of a picture, which lies, to one that stands."""
STANDING = (sqrt(0.5), -sqrt(0.5), 0.0, 0.0)
COARSE = 48
"""Cells along a side of the surface by which a mesh is placed."""
LARGEST = 1.8
"""Scene units: the longer side of a picture."""
PLAIN = (0.0, 0.0, -0.6), 1.2
"""Base and longest side, in scene units, of a mesh whose NeRF is not known."""


def add_mesh(scene: Any, glb: bytes, snapshot: Snapshot | None) -> Any:
    """A run's GLB where the NeRF of a snapshot is seen: its file stands on the origin, in metres, with Y up."""
    base, side = placed(snapshot)
    extents = trimesh.load(io.BytesIO(glb), file_type="glb", force="mesh").extents
    return scene.add_glb("/mesh", glb, scale=side / float(extents.max()), wxyz=UP, position=base)


def placed(snapshot: Snapshot | None) -> tuple[tuple[float, float, float], float]:
    """The middle of the base, and the longest side, of the surface of a snapshot's NeRF, in scene units."""
    nerf: Any = None if snapshot is None else snapshot.phi
    if not hasattr(nerf, "density"):
        return PLAIN
    try:
        low, high = extract(nerf.density, COARSE, faces=100_000, occupied=nerf.occupancy.occupied).bounds
    except UserError:
        return PLAIN
    middle = (low + high) / 2
    return (float(middle[0]), float(middle[1]), float(low[2])), float((high - low).max())


def upright(scene: Any, name: str, picture: np.ndarray) -> Any:
    """A picture [H, W, 3] that stands before a camera which looks along +Y."""
    high, wide = picture.shape[:2]
    scale = LARGEST / max(high, wide)
    return scene.add_image(
        name, picture, wide * scale, high * scale, format="png", wxyz=STANDING, cast_shadow=False, receive_shadow=False
    )
