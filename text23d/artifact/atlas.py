"""A texture for a mesh: unwrapped by xatlas, drawn by a painter of surface points, and filled between the charts."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from text23d.artifact.cast import cast
from text23d.artifact.model import Atlas, Model

Painter = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Points [N, 3] and unit normals [N, 3] of a surface -> display colours [N, 3] uint8."""


TEXELS = 1 << 20  # drawn at once: about 200 MB
UNWRAP = Path(__file__).with_name("unwrap.py")


class UnwrapError(Exception):
    """xatlas took too long, or stopped: the message says which."""


def textured(model: Model, paint: Painter, size: int, seconds: float) -> Model:
    """The model with an atlas of size x size texels. Raises UnwrapError where none is made within `seconds`."""
    vertex, faces, uv = unwrapped(model, size, seconds)
    return replace(model, atlas=Atlas(vertex, faces, uv, drawn(model, vertex, faces, uv, paint, size)))


def unwrapped(model: Model, size: int, seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`unwrap.unwrap` in a process of its own, stopped after `seconds`. Raises UnwrapError."""
    # As a file, so that the process imports xatlas and numpy alone, wherever it is started.
    given, command = io.BytesIO(), [sys.executable, str(UNWRAP), str(os.getpid())]
    np.savez(given, vertices=model.vertices, normals=model.normals, faces=model.faces, size=size)
    try:
        done = subprocess.run(command, input=given.getvalue(), capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise UnwrapError(f"unwrapping {len(model.faces)} faces took more than {seconds:g} s") from error
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise UnwrapError(f"unwrapping {len(model.faces)} faces failed (status {done.returncode}: {last})")
    found = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    vertex, faces, uv = found["vertex"].astype(int), found["faces"].astype(int), found["uv"].astype(float)
    if not (np.array_equal(vertex[faces], model.faces) and np.isfinite(uv).all()):
        raise UnwrapError(f"unwrapping {len(model.faces)} faces changed them")
    return vertex, faces, uv.clip(0, 1)


def drawn(model: Model, vertex: np.ndarray, faces: np.ndarray, uv: np.ndarray, paint: Painter, size: int) -> np.ndarray:
    """The texture [size, size, 3] uint8 of an `Atlas`. Every texel has a colour: one whose centre lies on no face has
    that of a vertex inside it, or of the nearest texel that has one."""
    from scipy import ndimage

    texture, filled = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool)
    high = max(1, TEXELS // size)
    for top in range(0, size, high):
        rows = slice(top, top + high)
        face, weight = faces_at_texels(uv, faces, size, rows)
        filled[rows] = on = face >= 0
        corners, share = model.faces[face[on]], weight[on][..., None]
        points, normals = ((value[corners] * share).sum(1) for value in (model.vertices, model.normals))
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        texture[rows][on] = paint(points, normals / np.maximum(length, 1e-9))
    at = np.minimum((uv * size).astype(int), size - 1)
    row, column = size - 1 - at[:, 1], at[:, 0]
    bare = ~filled[row, column]
    texture[row[bare], column[bare]] = model.colours[vertex[bare]]
    filled[row, column] = True
    nearest = ndimage.distance_transform_edt(~filled, return_distances=False, return_indices=True)
    return texture[tuple(nearest)]


def faces_at_texels(
    uv: np.ndarray, faces: np.ndarray, size: int, rows: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """Which face the centre of each texel of R rows lies on [R, size] (-1: none), row 0 at v = 1, and its weights [R,
    size, 3] of that face's corners. The ray caster draws: the atlas lies flat, and a ray falls on every texel."""
    centre = np.arange(size, dtype=np.float32) + np.float32(0.5)
    x, y = np.meshgrid(centre, centre[::-1][rows])
    origins = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape)
    hits = cast(np.insert(uv * size, 2, 0.0, axis=1), faces, origins, down)
    return hits.face.reshape(-1, size), hits.weight.reshape(-1, size, 3)
