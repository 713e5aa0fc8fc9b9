"""Rays against triangles, by embree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from text23d.cameras import Cameras
from text23d.errors import TooLarge
from text23d.memory import address_space, advice, gib

RESERVED = 320 << 20
"""Bytes of address space, of which embree reserves 270 million at once, and ends the process where it cannot."""


@dataclass(frozen=True)
class Hits:
    """What N rays met first: face [N] (-1: none), weight [N, 3] of its corners, and distance [N] (inf: none)."""

    face: np.ndarray
    weight: np.ndarray
    distance: np.ndarray


def cast(vertices: np.ndarray, faces: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> Hits:
    """vertices [V, 3], faces [F, 3], and rays [N, 3] with unit directions, in the same units. Raises TooLarge where
    embree has no room."""
    left = address_space()
    if left is not None and left < RESERVED:
        raise TooLarge(f"to trace rays takes {gib(RESERVED)} of address space, and {gib(left)} are left: {advice()}")
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, np.asarray(vertices, np.float32), np.asarray(faces, np.int32))
    rays = (np.ascontiguousarray(each, np.float32) for each in (origins, directions))
    hits = scene.run(*rays, output=1)
    face = np.asarray(hits["primID"]).astype(int)
    second, third, distance = (np.asarray(hits[name], np.float64) for name in ("u", "v", "tfar"))
    weight = np.stack([1 - second - third, second, third], -1)
    return Hits(face, weight, np.where(face >= 0, distance, np.inf))


def photograph(vertices: np.ndarray, faces: np.ndarray, cameras: Cameras, size: int) -> Hits:
    """What the pixels' centres of `size` x `size` pictures see, camera by camera and row by row: N = B * size^2."""
    origins, directions = (rays.reshape(-1, 3).float().cpu().numpy() for rays in cameras.rays((size, size)))
    return cast(vertices, faces, origins, directions)
