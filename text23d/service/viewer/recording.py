"""A run as a page of its own: how its object, or picture, grew, with a timeline, in one file that needs no server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rich
import torch

from text23d.artifact.colour import composited
from text23d.artifact.glb import write_glb
from text23d.artifact.mesh import SIDE, EmptyField, extract
from text23d.artifact.model import Model
from text23d.engine.snapshots import Snapshot
from text23d.errors import UserError
from text23d.files import write_bytes
from text23d.service.viewer.drawing import sheet
from text23d.service.viewer.placing import UP, add_mesh, upright
from text23d.service.viewer.site import FOV, START, Local, free_port
from text23d.service.viewer.source import Source

CELLS, FACES = 64, 5000
"""Of the surface of a snapshot."""
SECONDS, LAST = 0.4, 2.0
"""For which a snapshot is shown, and the last one."""
KINDS = (".html", ".viser")


def record(source: Source, path: Path, most: int, dark: bool) -> str:
    """Write at most so many snapshots of a run, evenly over it, to `path`; returns what a person should know. Raises
    UserError for another kind of file, for a run without snapshots, and where it cannot be written."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"record={path}: expected a name that ends in {' or '.join(KINDS)}")
    rich.get_console().quiet = True
    server = Local("127.0.0.1", free_port("127.0.0.1", 8080), verbose=False)
    try:
        camera = server.initial_camera
        camera.position, camera.look_at = (START if source.is_object else (0.0, -2.4, 0.0)), (0.0, 0.0, 0.0)
        camera.up, camera.fov = (0.0, 0.0, 1.0), FOV
        serializer = server.get_scene_serializer()
        shown = [each for each in snapshots_of(source, most) if play(server.scene, source, each, serializer)]
        if not shown:
            raise UserError(f"nothing to record in {source.folder}: no snapshot of the run shows anything yet")
        last = finish(server.scene, source, shown[-1])
        serializer.insert_sleep(LAST)
        html = path.suffix.lower() == ".html"
        write_bytes(path, serializer.as_html(dark).encode() if html else serializer.serialize())
    finally:
        server.stop()
    numbers = f"{len(shown)} snapshots, from iteration {shown[0].iteration} to {shown[-1].iteration}"
    return f"{path}: {numbers}{last}, {path.stat().st_size / 1e6:.1f} MB"


def snapshots_of(source: Source, most: int) -> Iterator[Snapshot]:
    """At most so many, evenly over the run, the last among them; what is damaged is left out."""
    frames = source.frames()
    for number in evenly(list(frames), most):
        found = source.snapshot(frames[number])
        if found is not None:
            yield found


def evenly(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of these, the last among them."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[-1 - round(index * (len(numbers) - 1) / max(1, most - 1))] for index in reversed(range(most))]


def play(scene: Any, source: Source, snapshot: Snapshot, serializer: Any) -> bool:
    """Show a snapshot for a while, in place of the one before. Says whether it shows anything."""
    if not source.is_object:
        upright(scene, "/shown", sheet(source.preview(snapshot)))
    else:
        try:
            scene.add_glb("/shown", surface(snapshot), wxyz=UP)
        except EmptyField:
            return False
    serializer.insert_sleep(SECONDS)
    return True


def finish(scene: Any, source: Source, snapshot: Snapshot) -> str:
    """Show the mesh that the run wrote, if it did, in place of the last snapshot; what is said of that."""
    path = source.mesh()
    if path is None or not source.is_object:
        return ""
    scene.remove_by_name("/shown")
    add_mesh(scene, path.read_bytes(), snapshot)
    return ", and its mesh"


def surface(snapshot: Snapshot) -> bytes:
    """The coloured surface of a snapshot's NeRF, in scene units, as GLB. Raises EmptyField."""
    nerf: Any = snapshot.phi
    device = next(nerf.parameters()).device
    solid = extract(nerf.density, CELLS, faces=FACES, occupied=nerf.occupancy.occupied, device=device)
    normals = np.array(solid.vertex_normals)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 0, 1)  # where the faces around a vertex cancel
    at, along = (torch.tensor(np.array(each), dtype=torch.float32, device=device) for each in (solid.vertices, normals))
    with torch.no_grad():
        colour = composited(nerf.query, at, along, SIDE / CELLS)
    levels = (colour.clamp(0, 1) * 255).round().byte().cpu().numpy()
    model = Model(np.array(solid.vertices), normals, np.array(solid.faces), levels)
    with tempfile.TemporaryDirectory() as folder:
        write_glb(model, Path(folder) / "surface.glb", "surface")
        return (Path(folder) / "surface.glb").read_bytes()
