"""GLB (glTF 2.0, binary) for Blender and the browser: upright, named, coloured, of a sane size.

The file is written here rather than by trimesh, which gives a vertex-coloured mesh no material and its colours no
linear light. Sections named below are of the glTF 2.0 specification.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from text23d.contracts import UserError
from text23d.files import write_bytes

if TYPE_CHECKING:
    import trimesh

TO_GLTF = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # Z up, front -Y  ->  Y up, front +Z (3.4)
FLOAT, USHORT, UINT = 5126, 5123, 5125  # component types (3.6.2.2)
VERTICES, INDICES = 34962, 34963  # buffer targets


def write_glb(mesh: trimesh.Trimesh, path: str | os.PathLike[str], name: str, scale: float = 1.0) -> None:
    """Write the mesh atomically: longest side `scale` metres, origin at the centre of its base.

    mesh: in our world (Z up, front -Y), with sRGB vertex colours. Colours become linear light in 16 bits (3.7.2.1),
    normals are smooth, object and material are named `name`. Raises UserError when the file cannot be written.
    """
    from trimesh.visual import ColorVisuals

    if not isinstance(mesh.visual, ColorVisuals):
        raise ValueError(f"the mesh has {type(mesh.visual).__name__}: expected vertex colours")
    low, high = mesh.bounds
    base = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    position = ((mesh.vertices - base) * (scale / (high - low).max())) @ TO_GLTF.T
    colour = linear(np.asarray(mesh.visual.vertex_colors) / 255.0)
    colour[:, 3] = 1.0
    arrays: list[tuple[np.ndarray, int, str, int]] = [
        (position.astype("<f4"), FLOAT, "VEC3", VERTICES),
        ((mesh.vertex_normals @ TO_GLTF.T).astype("<f4"), FLOAT, "VEC3", VERTICES),
        (np.rint(colour * 65535).astype("<u2"), USHORT, "VEC4", VERTICES),
        (mesh.faces.reshape(-1).astype("<u4"), UINT, "SCALAR", INDICES),
    ]
    write_bytes(path, _glb(_document(name, arrays), b"".join(array.tobytes() for array, *_ in arrays)))


def linear(srgb: np.ndarray) -> np.ndarray:
    """Display colour in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _document(name: str, arrays: list[tuple[np.ndarray, int, str, int]]) -> dict[str, Any]:
    views, accessors, offset = [], [], 0
    for array, component, shape, target in arrays:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": array.nbytes, "target": target})
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(array), "type": shape})
        offset += array.nbytes
    accessors[0] |= {"min": arrays[0][0].min(0).tolist(), "max": arrays[0][0].max(0).tolist()}
    accessors[2]["normalized"] = True
    primitive = {"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}
    surface = {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": 0.9}
    return {
        "asset": {"version": "2.0", "generator": "text23d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [{"name": name, "pbrMetallicRoughness": surface}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }


def _glb(document: dict[str, Any], data: bytes) -> bytes:
    """Header, JSON chunk, binary chunk, each chunk filled up to 4 bytes (4.4)."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    chunks = b""
    for kind, body in ((b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", data + b"\0" * (-len(data) % 4))):
        chunks += struct.pack("<I4s", len(body), kind) + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def read_back(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load a written GLB again with trimesh and say what a person would find in it, for summary.json.

    size is [x, y, z] in metres, Y up; upright: it stands on y = 0 and its base is centred. Raises UserError when the
    file is missing, cut short or not a GLB.
    """
    import trimesh

    path = Path(path)
    try:
        scene = trimesh.load_scene(path, file_type="glb")
        mesh = scene.to_mesh()
        material = next(iter(scene.geometry.values())).visual.material.name
    except Exception as error:  # trimesh lets struct, json, key and value errors through alike
        raise UserError(f"cannot read {path} ({error}): expected a GLB written by text23d; export it again") from error
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    low, high = mesh.bounds
    size = high - low
    centred = np.abs(low + high)[[0, 2]].max() < 1e-4 * size.max()
    return {
        "name": material,
        "faces": len(mesh.faces),
        "vertices": len(mesh.vertices),
        "size": [round(float(side), 6) for side in size],
        "watertight": bool(mesh.is_watertight and mesh.volume > 0),
        "upright": bool(centred and abs(low[1]) < 1e-4 * size.max()),
        "bytes": path.stat().st_size,
    }
