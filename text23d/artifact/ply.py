"""PLY (binary, little-endian) with vertex colours."""

from __future__ import annotations

import os

import numpy as np

from text23d.artifact.model import Model
from text23d.files import write_bytes

VERTEX = np.dtype([("at", "<f4", 3), ("normal", "<f4", 3), ("colour", "u1", 3)])
FACE = np.dtype([("corners", "u1"), ("vertex", "<i4", 3)])


def write_ply(model: Model, path: str | os.PathLike[str], name: str) -> None:
    """Write a placed model (metres) atomically: Z up, front -Y, as readers of PLY change no axes; display colours.

    The format has no names and one colour a vertex: `name` is a comment, and a texture is left out. Raises UserError
    when the file cannot be written.
    """
    vertices, faces = np.empty(len(model.vertices), VERTEX), np.empty(len(model.faces), FACE)
    vertices["at"], vertices["normal"], vertices["colour"] = model.vertices, model.normals, model.colours
    faces["corners"], faces["vertex"] = 3, model.faces
    columns = [f"property float {axis}" for axis in ("x", "y", "z", "nx", "ny", "nz")]
    columns += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"comment text23d: {' '.join(name.split())}"]
    header += [f"element vertex {len(vertices)}", *columns]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    write_bytes(path, "\n".join(header).encode("ascii", "replace") + vertices.tobytes() + faces.tobytes())
