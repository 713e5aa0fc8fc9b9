"""The files a mesh goes into: one writer a format, and a reader that a person's program could have been."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from text23d.artifact.glb import write_glb
from text23d.artifact.model import TO_Y_UP, display
from text23d.artifact.obj import companions, write_obj
from text23d.artifact.ply import write_ply
from text23d.artifact.score import texture_of
from text23d.artifact.shape import shape
from text23d.errors import UserError

if TYPE_CHECKING:
    import trimesh

WRITERS = {"glb": write_glb, "obj": write_obj, "ply": write_ply}
Y_UP = ("glb", "obj")


def files_of(path: Path) -> list[Path]:
    """All files that writing a mesh to `path` writes: an OBJ has its material and its texture beside it."""
    return [path, *companions(path)] if path.suffix.lower() == ".obj" else [path]


def read(path: str | os.PathLike[str]) -> trimesh.Trimesh:
    """A written file as trimesh understands it, turned to our axes (Z up, front -Y), vertex colours as display colour.

    Raises UserError when the file is missing, cut short or of another kind.
    """
    import trimesh

    path, format = Path(path), Path(path).suffix.lower()[1:]
    try:
        scene = trimesh.load_scene(path, process=False)
        (mesh,) = scene.geometry.values()
        mesh.apply_transform(scene.graph.get(scene.graph.nodes_geometry[0])[0])
        bounds = mesh.bounds
    except Exception as error:  # trimesh lets struct, json, key and value errors through alike
        raise UserError(f"cannot read {path}: expected a mesh written by text23d; export it again") from error
    if not len(mesh.faces) or not np.isfinite(bounds).all():
        raise UserError(f"{path} holds no surface: expected a mesh written by text23d; export it again")
    mesh.metadata["material"] = getattr(getattr(mesh.visual, "material", None), "name", None)
    if texture_of(mesh) is None:
        mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=_display_colours(mesh, format))
    if format in Y_UP:
        turn = np.eye(4)
        turn[:3, :3] = TO_Y_UP.T
        mesh.apply_transform(turn)
    return mesh


def _display_colours(mesh: trimesh.Trimesh, format: str) -> np.ndarray:
    """Vertex colours [V, 3] uint8, from where trimesh keeps them for a format and from what that format means."""
    visual: Any = mesh.visual
    if format == "glb":
        light = np.asarray(visual.vertex_attributes["color"]) / 65535
        colours = 255 * display(light[:, :3])
    elif format == "obj":
        colours = 255 * np.asarray(mesh.vertex_attributes["color"])[:, :3]
    else:
        colours = np.asarray(visual.vertex_colors)[:, :3]
    return np.rint(colours).astype(np.uint8)


def facts(mesh: trimesh.Trimesh, path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a person finds in the file at `path` that was read as `mesh`.

    size is [x, y, z] in metres, as Blender shows it; vertices are counted as places, whatever the seams; upright: it
    stands on the ground and its base is centred; colour is the texture's size, or "vertices"; the rest: see `shape`.
    """
    import trimesh

    low, high = np.asarray(mesh.bounds)
    side = (high - low).max()
    welded = trimesh.Trimesh(mesh.vertices / side, mesh.faces)  # equal vertices become one
    image = texture_of(mesh)
    return {
        "name": mesh.metadata["material"],
        "faces": len(mesh.faces),
        "vertices": len(welded.vertices),
        "size": [float(f"{length:.6g}") for length in high - low],
        "watertight": bool(welded.is_watertight and welded.is_winding_consistent and welded.volume > 0),
        "upright": bool(abs(low[2]) < 1e-4 * side and np.abs(low + high)[:2].max() < 1e-4 * side),
        "colour": "vertices" if image is None else f"{image.shape[1]} x {image.shape[0]}",
        "bytes": Path(path).stat().st_size,
        **shape(welded),
    }
