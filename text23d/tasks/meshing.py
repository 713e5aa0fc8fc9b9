"""From a NeRF to the files of a mesh, each read again and compared with what the NeRF looks like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from text23d.artifact.albedo import Light, lit, shading, unlit
from text23d.artifact.atlas import UnwrapError, textured
from text23d.artifact.colour import Painter, Photographs
from text23d.artifact.decimate import VOLUME
from text23d.artifact.formats import WRITERS, facts, files_of, read
from text23d.artifact.mesh import CELL, FINEST, OPAQUE, SIDE, extract
from text23d.artifact.model import Model, Placement
from text23d.artifact.score import LEAST_IOU, LEAST_PSNR, half_covered, score
from text23d.cameras import Cameras, orbit
from text23d.errors import UserError
from text23d.files import read_json, write_json
from text23d.memory import free_bytes
from text23d.settings import number, whole

RINGS = (8, 10.0), (8, 45.0), (8, -25.0), (2, 85.0)  # of the cameras whose pictures the colours are taken from
PICTURE = 192  # pixels along a side of these: finer than the cells of the NeRF's finest grid
SCORED = (8, 5.0), (8, 35.0)
SCORED_SIZE = 128
UNWRITTEN = {"3ds", "3mf", "blend", "dae", "fbx", "gltf", "off", "stl", "usd", "usda", "usdc", "usdz", "x3d"}


def _words(given: Any) -> list[str]:
    """The formats in "glb,obj" or in a list, each once, as a person writes them."""
    words = given.strip("[] ").split(",") if isinstance(given, str) else given
    if not isinstance(words, Sequence):
        raise ValueError(given)
    return list(dict.fromkeys(str(word).strip().lower().lstrip(".") for word in words))


Formats = Annotated[
    tuple[Literal["glb", "obj", "ply"], ...],
    BeforeValidator(_words),
    Field(min_length=1, description="one or more of glb, obj, ply (as in glb,obj)"),
]


class Occupied(Protocol):
    """Where a field may be dense."""

    def occupied(self, points: Tensor) -> Tensor:
        """[N, 3] -> [N] bool."""


class Radiance(Protocol):
    """What a mesh is made of: a NeRF, or whatever else has a density and colours; see `representation.nerf.Nerf`."""

    @property
    def occupancy(self) -> Occupied: ...
    def density(self, x: Tensor) -> Tensor: ...
    def query(self, x: Tensor) -> tuple[Tensor, Tensor]: ...
    def render_image(self, views: Cameras, shape: int) -> Tensor: ...


@dataclass(frozen=True)
class MeshSettings:
    """What conf/mesh/standard.yaml explains. format: None for that of the file's name, or glb."""

    format: Formats | None = None
    colour: Literal["texture", "vertices"] = "texture"
    texture: Annotated[int, whole(16, 8192)] = 1024
    unwrap_seconds: Annotated[float, number(most=86_400, above=0)] = 120.0
    resolution: Annotated[int, whole(2)] = 128
    threshold: Annotated[float, number(above=0, below=OPAQUE)] | None = None
    faces: Annotated[int, whole(4)] = 20_000
    scale: Annotated[float, number(least=1e-6, most=1e6)] = 1.0
    light: Literal["none", "baked"] = "none"


def targets(where: Path, formats: tuple[str, ...] | None, stem: str | None) -> list[Path]:
    """The files of a mesh: `where` itself if it is named as one of a format; else, in the folder `where`, one for each
    format, called mesh.<format>, or by `stem`, with a number where that name is taken.

    Raises UserError for a name of another format than `formats`, for a format that is not written here, and where the
    material or the texture of a new OBJ would overwrite a file.
    """
    named = where.suffix.lower().lstrip(".")
    if named in UNWRITTEN and not where.is_dir():
        raise UserError(f"{where}: expected a folder, or a name that ends in .{', .'.join(WRITERS)}")
    if named not in WRITERS or where.is_dir():
        return _inside(where, formats or ("glb",), stem)
    if formats not in (None, (named,)):
        raise UserError(
            f"{where} names a file of the format {named}, which is not {','.join(formats or ())}: leave format out, or "
            "name a folder"
        )
    taken = _taken([where])
    if taken and where not in taken:
        raise UserError(f"{where} would overwrite {taken[0]}, which is there already: choose another name")
    return [where]


def _inside(folder: Path, formats: tuple[str, ...], stem: str | None) -> list[Path]:
    name = "mesh" if stem is None else re.sub(r"[^\w.-]+|^[-.]+", "_", stem) or "mesh"
    for suffix in chain([""], (f"-{copy}" for copy in count(2))):
        paths = [folder / f"{name}{suffix}.{format}" for format in formats]
        if stem is None or not _taken(paths):
            break
    return paths


def _taken(paths: list[Path]) -> list[Path]:
    """The files that are there of those that writing meshes to `paths` writes."""
    return [file for path in paths for file in files_of(path) if file.exists()]


def export(
    nerf: Radiance,
    name: str,
    where: Path,
    settings: MeshSettings,
    device: torch.device,
    stem: str | None = None,
    light: Light | None = None,
) -> dict[str, Any]:
    """Write the mesh to the `targets` of `where`; what reading them back found, for summary.json.

    The facts and scores of the first file stand at the top, those of each under "files", and under "notes" a line for
    each thing that a person should know; "level" is the optical depth of the surface, or the density that was
    asked for (per scene unit), "half_covered" how soft the NeRF itself is, and "light_removed" the share of `light`
    (None: it is not known) that was taken out of the colours. Raises EmptyField if there is no surface, UserError if
    a file cannot be written.
    """
    paths, name = targets(where, settings.format, stem), name.encode(errors="replace").decode()
    model, level, notes = build(nerf, settings, device, light)
    placement = Placement.standing(model, settings.scale)
    cameras = scored()
    pictures = nerf.render_image(cameras.to(device), SCORED_SIZE).cpu()
    held = model.shading
    factors, removed = (None, 0.0) if held is None else (lit(model, held, cameras, SCORED_SIZE), held.share)
    files = {}
    for path in paths:
        WRITERS[path.suffix.lower()[1:]](placement.place(model), path, name)
        mesh = read(path)
        found = facts(mesh, path)
        mesh.vertices = placement.back(mesh.vertices)
        files[path.name] = found | score(mesh, cameras, pictures, factors)
    iou, psnr = (float(np.min([found[key] for found in files.values()])) for key in ("iou", "psnr"))
    if not (iou >= LEAST_IOU and psnr >= LEAST_PSNR):
        notes.append(
            f"the mesh differs from the NeRF: silhouette IoU {iou:.3f} (expected {LEAST_IOU} or more), colours "
            f"{psnr:.1f} dB (expected {LEAST_PSNR:g} or more); a higher mesh resolution, more faces or another "
            "threshold may help"
        )
    own = {"level": level, "half_covered": half_covered(pictures), "light_removed": removed}
    return {**next(iter(files.values())), **own, "files": files, "notes": notes}


def scored() -> Cameras:
    """The cameras by which a mesh is compared with its NeRF."""
    return Cameras.cat([orbit(*ring) for ring in SCORED])


def record(report: dict[str, Any], folder: Path) -> None:
    """Put the mesh's report into a run's summary.json; an interrupted run has none, and gets none. One that cannot be
    read stays as it is, and the report notes that."""
    summary = folder / "summary.json"
    if summary.exists():
        try:
            write_json(summary, {**read_json(summary), "mesh": report})
        except UserError as error:
            report["notes"].append(f"the run's summary stays as it is: {error}")


def finest() -> int:
    """The most cells along a side that memory has room for, at most FINEST and at least 2."""
    free = free_bytes(torch.device("cpu"))
    return FINEST if free is None else max(2, min(FINEST, int((free / CELL) ** (1 / 3))))


def build(
    nerf: Radiance, settings: MeshSettings, device: torch.device, light: Light | None = None
) -> tuple[Model, float, list[str]]:
    """The coloured surface in scene units, its level (see `extract`), and notes on what could not be had. Raises
    EmptyField."""
    notes, resolution = [], min(settings.resolution, finest())
    if resolution < settings.resolution:
        notes.append(f"resolution={settings.resolution} would not fit into memory: {resolution} cells a side were used")
    solid = extract(
        nerf.density, resolution, settings.threshold, settings.faces, nerf.occupancy.occupied, device
    )  # fmt: skip
    if len(solid.faces) > settings.faces:
        notes.append(
            f"faces={settings.faces} cannot hold this surface: {len(solid.faces)} faces are about the fewest that keep "
            f"it closed and its volume within {VOLUME:.0%}"
        )
    rings = Cameras.cat([orbit(*ring) for ring in RINGS]).to(device)
    photographs = Photographs(rings, nerf.render_image(rings, PICTURE))
    paint = Painter(photographs, nerf.query, solid.vertices, solid.faces, SIDE / resolution)
    normals = np.array(solid.vertex_normals)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)  # where the faces around a vertex cancel
    colours = paint(solid.vertices, normals)
    model = Model(np.array(solid.vertices), normals, np.array(solid.faces), colours)
    if light is not None and settings.light == "none":
        held = shading(colours, normals, solid.faces_sparse @ solid.area_faces, light)
        model = replace(model, colours=held.removed(colours, normals), shading=held)
    if settings.colour == "texture":
        try:
            model = textured(model, unlit(paint, model.shading), settings.texture, settings.unwrap_seconds)
        except UnwrapError as error:
            notes.append(f"{error}: colours are at the vertices; fewer faces or a larger unwrap_seconds may help")
    return model, solid.metadata["level"], notes
