"""Wavefront OBJ, with its material (MTL) and texture (PNG) beside it."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np

from text23d.artifact.model import ROUGHNESS, TO_Y_UP, Model, png
from text23d.files import write_together


def companions(path: Path) -> tuple[Path, Path]:
    """The material and the texture that lie beside an OBJ: named as it is, without blanks and signs, at which readers
    of its `mtllib` and `map_Kd` lines stop."""
    stem = re.sub(r"[^\w.-]+|^-", "_", path.stem)
    return path.with_name(f"{stem}.mtl"), path.with_name(f"{stem}.png")


def write_obj(model: Model, path: str | os.PathLike[str], name: str) -> None:
    """Write a placed model (metres, Z up, front -Y) and the files beside it: Y up, front +Z, as programs expect.

    Object and material are `name` with _ for blanks, which the format does not allow in names. Without a texture each
    vertex line ends in its display colour, which Blender, MeshLab and others read. Places have six digits after the
    point for a side of a metre, and more for a shorter one. Raises UserError when a file cannot be written; the old
    ones stay as they were then.
    """
    path = Path(path)
    files, (material_file, texture_file) = dict[Path, bytes](), companions(path)
    longest = float(np.ptp(model.vertices, axis=0).max())
    place = f"%.{6 + max(0, math.ceil(-math.log10(longest) - 1e-6))}f"
    label = re.sub(r"\W+", "_", name).strip("_") or "object"
    corners = model.vertices @ TO_Y_UP.T
    # A specular exponent that Blender reads back as ROUGHNESS, and the roughness itself for those that know Pr.
    material = [f"newmtl {label}", "Kd 1 1 1", "Ks 0 0 0", f"Ns {1000 * (1 - ROUGHNESS) ** 2:g}", f"Pr {ROUGHNESS}"]
    lines = [f"# text23d: {' '.join(name.split())}", f"mtllib {material_file.name}", f"o {label}"]
    number = np.char.mod("%d", model.faces + 1)
    if model.atlas is None:
        lines += [_rows("v", corners, place, model.colours / 255.0)]
        corner = np.char.add(np.char.add(number, "//"), number)
    else:
        files[texture_file] = png(model.atlas.texture)
        material.append(f"map_Kd {texture_file.name}")
        lines += [_rows("v", corners, place), _rows("vt", model.atlas.uv, "%.6f")]
        point = np.char.mod("/%d/", model.atlas.faces + 1)
        corner = np.char.add(np.char.add(number, point), number)
    lines += [_rows("vn", model.normals @ TO_Y_UP.T, "%.4f"), f"usemtl {label}", "s 1"]
    lines += ["f " + " ".join(each) for each in corner.tolist()]
    files |= {file: ("\n".join(text) + "\n").encode() for file, text in ((material_file, material), (path, lines))}
    write_together(files)


def _rows(key: str, values: np.ndarray, form: str, colours: np.ndarray | None = None) -> str:
    line = " ".join([key, *[form] * values.shape[1]])
    if colours is not None:
        line, values = f"{line} %.6f %.6f %.6f", np.concatenate([values, colours], 1)
    return "\n".join(line % tuple(row) for row in values.tolist())
