"""GLB (glTF 2.0, binary) for Blender and the browser: upright, named, coloured, of a sane size.

The file is written here rather than by trimesh, which gives a vertex-coloured mesh no material and its colours no
linear light. Sections named below are of the glTF 2.0 specification.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

import numpy as np

from text23d.artifact.model import ROUGHNESS, TO_Y_UP, Model, linear, png
from text23d.files import write_bytes

FLOAT, USHORT, UINT = 5126, 5123, 5125  # component types (3.6.2.2)
VERTICES, INDICES = 34962, 34963  # buffer targets
LINEAR, TRILINEAR, CLAMP = 9729, 9987, 33071  # of a sampler (3.8.4)


def write_glb(model: Model, path: str | os.PathLike[str], name: str) -> None:
    """Write a placed model (metres, Z up, front -Y) atomically: Y up, front +Z (3.4), object and material `name`.

    A texture goes in as an sRGB PNG (3.9.2); without one, vertex colours become linear light in 16 bits (3.7.2.1).
    Raises UserError when the file cannot be written.
    """
    file, atlas = _Buffer(), model.atlas
    vertex, faces = (slice(None), model.faces) if atlas is None else (atlas.vertex, atlas.faces)
    position, normal = ((value[vertex] @ TO_Y_UP.T).astype("<f4") for value in (model.vertices, model.normals))
    attributes = {"POSITION": file.array(position, FLOAT, "VEC3"), "NORMAL": file.array(normal, FLOAT, "VEC3")}
    file.accessors[0] |= {"min": position.min(0).tolist(), "max": position.max(0).tolist()}
    surface: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": ROUGHNESS}
    document: dict[str, Any] = {}
    if atlas is None:
        light = np.rint(linear(model.colours / 255.0) * 65535).astype("<u2")
        opaque = np.insert(light, 3, 65535, axis=1)
        attributes["COLOR_0"] = file.array(opaque, USHORT, "VEC4", normalized=True)
    else:
        from_top = np.stack([atlas.uv[:, 0], 1 - atlas.uv[:, 1]], 1)  # (3.8.3)
        attributes["TEXCOORD_0"] = file.array(from_top.astype("<f4"), FLOAT, "VEC2")
        document["images"] = [{"name": name, "mimeType": "image/png", "bufferView": file.view(png(atlas.texture))}]
        sampler = {"magFilter": LINEAR, "minFilter": TRILINEAR, "wrapS": CLAMP, "wrapT": CLAMP}
        document |= {"samplers": [sampler], "textures": [{"source": 0, "sampler": 0}]}
        surface["baseColorTexture"] = {"index": 0}
    indices = file.array(faces.reshape(-1).astype("<u4"), UINT, "SCALAR", INDICES)
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    document |= {
        "asset": {"version": "2.0", "generator": "text23d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [{"name": name, "pbrMetallicRoughness": surface}],
        "accessors": file.accessors,
        "bufferViews": file.views,
        "buffers": [{"byteLength": len(file.data)}],
    }
    write_bytes(path, _glb(document, bytes(file.data)))


class _Buffer:
    """The binary chunk as it grows, and what the document says of it (3.6)."""

    def __init__(self) -> None:
        self.data, self.views, self.accessors = bytearray(), list[dict[str, Any]](), list[dict[str, Any]]()

    def view(self, data: bytes, **extra: int) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **extra})
        self.data += data
        return len(self.views) - 1

    def array(self, array: np.ndarray, component: int, shape: str, target: int = VERTICES, **extra: bool) -> int:
        view = self.view(array.tobytes(), target=target)
        entry = {"bufferView": view, "componentType": component, "count": len(array), "type": shape, **extra}
        self.accessors.append(entry)
        return len(self.accessors) - 1


def _glb(document: dict[str, Any], data: bytes) -> bytes:
    """Header, JSON chunk, binary chunk, each chunk filled up to 4 bytes (4.4)."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    chunks = b""
    for kind, body in ((b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", data + b"\0" * (-len(data) % 4))):
        chunks += struct.pack("<I4s", len(body), kind) + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
