"""From a NeRF to the files of a mesh, each read again and compared with what the NeRF looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from text23d.artifact.atlas import UnwrapError, textured
from text23d.artifact.colour import Painter, Photographs
from text23d.artifact.formats import WRITERS, facts, read
from text23d.artifact.mesh import FINEST, SIDE, extract
from text23d.artifact.model import Model, Placement
from text23d.artifact.score import LEAST_IOU, LEAST_PSNR, score
from text23d.cameras import Cameras, orbit
from text23d.errors import UserError
from text23d.representation.nerf import Nerf

RINGS = (8, 10.0), (8, 45.0), (8, -25.0), (2, 85.0)  # of the cameras whose pictures the colours are taken from
PICTURE = 192  # pixels along a side of these: finer than the cells of the NeRF's finest grid
SCORED = (8, 5.0), (8, 35.0)
SCORED_SIZE = 128


@dataclass(frozen=True)
class MeshSettings:
    """What conf/mesh/standard.yaml explains."""

    format: tuple[str, ...]
    colour: str
    texture: int
    unwrap_seconds: float
    resolution: int
    threshold: float | None
    faces: int
    scale: float


def read_settings(section: Mapping[str, Any], prefix: str = "") -> MeshSettings:
    """The settings in a section of the configuration, whose keys a person knows with `prefix`. Raises UserError."""
    given = {field.name: section[field.name] for field in fields(MeshSettings)}
    for name, least in {"texture": 16, "resolution": 2, "faces": 4}.items():
        if type(given[name]) is not int or given[name] < least:
            raise UserError(f"{prefix}{name}={given[name]}: expected a whole number, at least {least}")
    for name in ("unwrap_seconds", "scale"):
        if type(given[name]) not in (int, float) or not 0 < given[name] < float("inf"):
            raise UserError(f"{prefix}{name}={given[name]}: expected a number above 0")
    threshold = given["threshold"]
    if threshold is not None and not (type(threshold) in (int, float) and threshold > 0):
        raise UserError(f"{prefix}threshold={threshold}: expected a density above 0, or null to find one")
    if given["texture"] > 8192:
        raise UserError(f"{prefix}texture={given['texture']}: expected at most 8192 texels along a side")
    if given["colour"] not in ("texture", "vertices"):
        raise UserError(f"{prefix}colour={given['colour']}: expected texture or vertices")
    return MeshSettings(**(given | {"format": read_formats(given["format"], prefix)}))


def read_formats(given: str | Sequence[str], prefix: str = "") -> tuple[str, ...]:
    """The formats in "glb,obj" or a list, each once. Raises UserError for one that is unknown, or none."""
    words = given.strip("[] ").split(",") if isinstance(given, str) else [str(word) for word in given or []]
    named = tuple(dict.fromkeys(word.strip().lower().lstrip(".") for word in words))
    if not named or any(name not in WRITERS for name in named):
        raise UserError(f"{prefix}format={given}: expected one or more of {', '.join(WRITERS)}, as in glb,obj")
    return named


def export(nerf: Nerf, name: str, folder: Path, settings: MeshSettings, device: torch.device) -> dict[str, Any]:
    """Write mesh.<format> for each format into `folder`; what reading them back found, for summary.json.

    The facts and scores of the first file stand at the top, those of each under "files", and under "notes" a line for
    each thing that a person should know. Raises EmptyField if there is no surface, UserError if a file cannot be
    written.
    """
    model, notes = build(nerf, settings, device)
    placement = Placement.standing(model, settings.scale)
    cameras = Cameras.cat([orbit(*ring) for ring in SCORED])
    pictures = nerf.render_image(cameras.to(device), SCORED_SIZE).cpu()
    files = {}
    for format in settings.format:
        path = folder / f"mesh.{format}"
        WRITERS[format](placement.place(model), path, name)
        mesh = read(path)
        found = facts(mesh, path)
        mesh.vertices = placement.back(mesh.vertices)
        files[path.name] = found | score(mesh, cameras, pictures)
    worst = {key: min(found[key] for found in files.values()) for key in ("iou", "psnr")}
    if worst["iou"] < LEAST_IOU or worst["psnr"] < LEAST_PSNR:
        notes.append(
            f"the mesh differs from the NeRF: silhouette IoU {worst['iou']:.3f} (expected {LEAST_IOU} or more), "
            f"colours {worst['psnr']:.1f} dB (expected {LEAST_PSNR:g} or more); a higher mesh resolution, more faces "
            "or another threshold may help"
        )
    return {**next(iter(files.values())), "files": files, "notes": notes}


def build(nerf: Nerf, settings: MeshSettings, device: torch.device) -> tuple[Model, list[str]]:
    """The coloured surface in scene units, and notes on what could not be had. Raises EmptyField."""
    notes, resolution = [], min(settings.resolution, FINEST)
    if resolution < settings.resolution:
        notes.append(f"resolution={settings.resolution} would not fit into memory: {FINEST} cells a side were used")
    solid = extract(
        nerf.density, resolution, settings.threshold, settings.faces, nerf.occupancy.occupied, device
    )  # fmt: skip
    rings = Cameras.cat([orbit(*ring) for ring in RINGS]).to(device)
    photographs = Photographs(rings, nerf.render_image(rings, PICTURE))
    paint = Painter(photographs, nerf.query, solid.vertices, solid.faces, SIDE / resolution)
    normals = np.array(solid.vertex_normals)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)  # where the faces around a vertex cancel
    model = Model(np.array(solid.vertices), normals, np.array(solid.faces), paint(solid.vertices, normals))
    if settings.colour == "texture":
        try:
            model = textured(model, paint, settings.texture, settings.unwrap_seconds)
        except UnwrapError as error:
            notes.append(f"{error}: colours are at the vertices; fewer faces or a larger unwrap_seconds may help")
    return model, notes
