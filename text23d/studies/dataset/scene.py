"""One object in its folder: pictures, maps, mesh, caption, and the transforms.json that nerfstudio reads.

Each file is written whole and once, from the NeRF and the settings alone, so that a dataset that was interrupted goes
on with the first file that is missing, to the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from text23d.artifact.formats import facts
from text23d.artifact.formats import read as read_mesh
from text23d.artifact.glb import write_glb
from text23d.artifact.media import composite_on
from text23d.artifact.mesh import EmptyField
from text23d.artifact.score import score
from text23d.cameras import Cameras
from text23d.engine.resume import read_config
from text23d.engine.saved import NERF
from text23d.files import read_json, write_bytes, write_json, write_text
from text23d.meter import Meter
from text23d.pictures import write_picture
from text23d.representation.geometry import Geometry, geometry
from text23d.representation.nerf import Nerf
from text23d.settings import read
from text23d.spaces import from_picture
from text23d.studies.dataset.plan import SPLITS, UNIT, Plan, Thing
from text23d.tasks.lighting import light_of
from text23d.tasks.meshing import SCORED_SIZE, MeshSettings, build, scored
from text23d.worlds.objects.caption import parse

DONE, TRANSFORMS, CAPTION, MESH = "object.json", "transforms.json", "caption.txt", "mesh.glb"
FOLDERS = {"image": "images", "mask": "masks", "depth": "depths", "normal": "normals"}
KEYS = {"image": "file_path", "mask": "mask_path", "depth": "depth_file_path", "normal": "normal_file_path"}
"""What transforms.json calls them; the first three are nerfstudio's own words."""
COVERED = 128
"""The least alpha, of 255, of a pixel that counts as the object's."""


def files_of_view(plan: Plan, index: int) -> dict[str, str]:
    """The files of a view of an object, by their kinds, from the object's folder."""
    ends = {"depth": plan.depth}
    kinds = ["image", *(each for each in FOLDERS if each in plan.maps)]
    return {kind: f"{FOLDERS[kind]}/{index:05d}.{ends.get(kind, 'png')}" for kind in kinds}


def is_made(plan: Plan, thing: Thing) -> bool:
    """Whether the object's folder is complete."""
    return (plan.place(thing) / DONE).is_file()


def make_scene(plan: Plan, thing: Thing, run: Path, nerf: Nerf, turn: str) -> None:
    """Make what is missing in the object's folder, of the NeRF that the run in the folder `run` left. turn: which of
    the objects it is, as its progress says. Raises UserError where a file cannot be written."""
    cfg, folder, device = read_config(run), plan.place(thing), nerf.occupancy.mask.device
    cameras = plan.cameras.cameras(thing.name)
    for index in Meter().along(range(len(cameras)), f"object {turn}, {thing.name}: view"):
        paths = {kind: folder / name for kind, name in files_of_view(plan, index).items()}
        if missing := {kind: path for kind, path in paths.items() if not path.is_file()}:
            write_view(plan, nerf, cameras.rows(slice(index, index + 1)), missing)
    mesh = write_mesh(nerf, thing.prompt, folder / MESH, cfg, device) if plan.meshes else {}
    write_text(folder / CAPTION, thing.prompt + "\n")
    write_json(folder / TRANSFORMS, transforms(plan, thing, cameras))
    caption = {"caption": asdict(parse(thing.prompt))} if plan.captions else {}
    digest = hashlib.sha256((run / NERF).read_bytes()).hexdigest()
    write_json(folder / DONE, {**asdict(thing), **caption, "views": len(cameras), "nerf_sha256": digest, "mesh": mesh})


def write_view(plan: Plan, nerf: Nerf, camera: Cameras, paths: Mapping[str, Path]) -> None:
    """Those of the picture and the maps of one view that have a path."""
    single = Cameras(*(each.float() for each in (camera.azimuth, camera.elevation, camera.distance, camera.fov)))
    single = single.to(nerf.occupancy.mask.device)
    x = nerf.render_image(single, plan.size)[0].cpu()
    if "image" in paths:
        if plan.background is None:
            write_picture(paths["image"], x)
        else:
            save(paths["image"], composite_on(plan.background, *from_picture(x)))
    covered = (255 * from_picture(x)[1][0]).round().numpy() >= COVERED
    if "mask" in paths:
        save(paths["mask"], covered.astype(np.uint8) * 255)
    if {"depth", "normal"} & paths.keys():
        seen = Geometry(*(each.cpu() for each in geometry(nerf, single, plan.size)))
        known = covered & (seen.alpha.numpy() > 0.25)
        if "depth" in paths:
            save(paths["depth"], levels(np.where(known, seen.depth.numpy(), 0.0), plan.depth))
        if "normal" in paths:
            facing = np.rint(127.5 * (seen.normal.numpy() + 1))
            save(paths["normal"], np.where(known[..., None], facing, 0).astype(np.uint8))


def levels(depth: np.ndarray, kind: str) -> np.ndarray:
    """Depths in scene units as a file holds them, in UNIT: 16 bits in a PNG, float32 in an NPY."""
    return np.rint(depth / UNIT).astype(np.uint16) if kind == "png" else (depth / UNIT).astype(np.float32)


def save(path: Path, array: np.ndarray) -> None:
    """A picture [H, W] or [H, W, 3] as PNG, or an array as NPY. Raises UserError where it cannot be written."""
    from PIL import Image

    file = io.BytesIO()
    if path.suffix == ".npy":
        np.save(file, array)
    else:
        Image.fromarray(array).save(file, "PNG")
    write_bytes(path, file.getvalue())


def write_mesh(nerf: Nerf, name: str, path: Path, cfg: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The mesh, made with the run's own settings, in the units and, once Y is turned up as in all GLBs, the axes of the
    cameras; what reading it back found. A field without a surface leaves none, and says why."""
    settings = replace(read(MeshSettings, cfg.get("mesh", {}), "mesh."), format=("glb",))
    try:
        model, _, notes = build(nerf, settings, device, light_of(cfg))
    except EmptyField as error:
        return {"faces": 0, "notes": [f"no mesh: {error}"]}
    write_glb(model, path, name)
    mesh, cameras = read_mesh(path), scored()
    found = {key: value for key, value in facts(mesh, path).items() if key in ("faces", "watertight", "bytes")}
    fit = score(mesh, cameras, nerf.render_image(cameras.to(device), SCORED_SIZE).cpu())
    return {**found, "iou": fit["iou"], "notes": notes}


def transforms(plan: Plan, thing: Thing, cameras: Cameras) -> dict[str, Any]:
    """transforms.json: intrinsics of each frame, and at the top where all have the same; cameras to world in OpenGL's
    axes; and the frames of each split."""
    frames = [
        {
            **{KEYS[kind]: name for kind, name in files_of_view(plan, index).items()},
            "transform_matrix": pose.tolist(),
            "fl_x": focal,
            "fl_y": focal,
            "split": split,
        }
        for index, (pose, focal, split) in enumerate(
            zip(
                cameras.to_world(),
                (plan.size / 2 / torch.tan(torch.deg2rad(cameras.fov) / 2)).tolist(),
                plan.split.of(plan.cameras, thing.name),
                strict=True,
            )
        )
    ]
    same = {frame["fl_x"] for frame in frames}
    shared = dict.fromkeys(("fl_x", "fl_y"), same.pop()) if len(same) == 1 else {}
    lists = {
        f"{split}_filenames": [frame["file_path"] for frame in frames if frame["split"] == split] for split in SPLITS
    }
    middle = plan.size / 2
    return {
        "camera_model": "OPENCV",
        **shared,
        **{"cx": middle, "cy": middle, "w": plan.size, "h": plan.size},
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        **{"orientation_override": "none", "depth_unit_scale_factor": UNIT},
        "frames": frames,
        **lists,
    }


def sample_facts(meta: Mapping[str, Any], index: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """What a shard says of one view: the frame's own part of transforms.json, and the object."""
    frame = meta["frames"][index]
    shared = {name: meta[name] for name in ("camera_model", "cx", "cy", "w", "h", "depth_unit_scale_factor")}
    own = {name: frame[name] for name in ("fl_x", "fl_y", "transform_matrix", "split")}
    told = {name: about[name] for name in ("name", "prompt", "seed", "caption") if name in about}
    return {**told, "view": index, **shared, **own}


def read_scene(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """transforms.json and object.json of a complete object. Raises UserError where they are missing or damaged."""
    return read_json(folder / TRANSFORMS), read_json(folder / DONE)
