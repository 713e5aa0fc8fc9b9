"""python tests/dataset_check.py folder=outputs/dataset: what `text23d dataset` made, checked by what its guide says.

Nothing of the package reads it: cameras come from transforms.json, depths and normals from their PNG, and trimesh cuts
the rays of random pixels with the triangles of mesh.glb. A row an object, in Markdown: where the depths lie against the
mesh, whether the masks show what the rays meet, by how much normals differ; and the shards have the very bytes of the
files. It ends with status 1 where a bound is exceeded. Options are key=value: folder, pixels (of each view) and seed.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image

BOUNDS = {"depth": 0.04, "masks": 0.95, "normals": 15.0}
"""Scene units and degrees in the median; and the least share of rays about which mesh and mask agree."""


@dataclass(frozen=True)
class Seen:
    """Of one object's views: how far the depths lie below the mesh (the median, and its absolute value's), the share of
    rays of which mesh and mask say the same, and the angle between normals in degrees, the median."""

    views: int
    below: float
    depth: float
    masks: float
    normals: float

    @property
    def sound(self) -> bool:
        within = self.depth <= BOUNDS["depth"] and self.normals <= BOUNDS["normals"]
        return within and self.masks >= BOUNDS["masks"]


def upright(path: Path) -> trimesh.Trimesh:
    """The mesh of a GLB, whose Y points up, in the axes of the world, whose Z does."""
    mesh: Any = trimesh.load(path, force="mesh")
    x, y, z = mesh.vertices.T
    return trimesh.Trimesh(np.stack([x, -z, y], -1), mesh.faces, process=False)


def looked(folder: Path, pixels: int, rng: np.random.Generator) -> Seen:
    """One object's views, at so many random pixels each."""
    said, mesh = json.loads((folder / "transforms.json").read_text()), upright(folder / "mesh.glb")
    below, agree, angles = [], [], []
    for frame in said["frames"]:
        row, column = rng.integers(said["h"], size=pixels), rng.integers(said["w"], size=pixels)
        pose = np.array(frame["transform_matrix"])
        focal = (frame.get("fl_x", said.get("fl_x")), frame.get("fl_y", said.get("fl_y")))
        ahead = [(column + 0.5 - said["cx"]) / focal[0], -(row + 0.5 - said["cy"]) / focal[1], -np.ones(pixels)]
        directions = np.stack(ahead, -1) @ pose[:3, :3].T
        origins = np.broadcast_to(pose[:3, 3], directions.shape)
        met, ray, face = mesh.ray.intersects_location(origins, directions, multiple_hits=False)
        hit, t, normal = np.zeros(pixels, bool), np.full(pixels, np.nan), np.zeros((pixels, 3))
        hit[ray], t[ray], normal[ray] = True, (met - pose[:3, 3]) @ -pose[:3, 2], mesh.face_normals[face]
        unit = said["depth_unit_scale_factor"]
        depth = unit * picture(folder / frame["depth_file_path"])[row, column].astype(np.float32)
        mask = picture(folder / frame["mask_path"])[row, column] > 127
        agree.append(mask == hit)
        both = mask & hit & (depth > 0)
        below.append((depth - t)[both])
        told = picture(folder / frame["normal_file_path"])[row, column][both] / 127.5 - 1
        cosine = (told * normal[both]).sum(-1) / np.linalg.norm(told, axis=-1)
        angles.append(np.degrees(np.arccos(cosine.clip(-1, 1))))
    gap, angle = np.concatenate(below), np.concatenate(angles)
    share = float(np.concatenate(agree).mean())
    return Seen(len(said["frames"]), float(np.median(gap)), float(np.median(abs(gap))), share, float(np.median(angle)))


def picture(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def shards(folder: Path) -> Iterator[str]:
    """What is wrong with the shards: samples that lack a file, and bytes that are others than the object's."""
    samples: dict[str, set[str]] = {}
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                samples.setdefault(key, set()).add(kind)
                file = original(folder, key, kind)
                if file is not None and file.read_bytes() != tar.extractfile(member).read():  # type: ignore[union-attr]
                    yield f"{path.name}: {member.name} is not {file.relative_to(folder)}"
    kinds = Counter(frozenset(each) for each in samples.values())
    if len(kinds) > 2:  # of views, and of meshes
        yield f"samples of other files than their neighbours: {kinds}"
    views = sum(len(json.loads(path.read_text())["frames"]) for path in folder.glob("objects/*/transforms.json"))
    if sum("json" in each and "png" in each for each in samples.values()) != views:
        yield f"{views} views, and another number in the shards"


def original(folder: Path, key: str, kind: str) -> Path | None:
    """The file that a member of a shard is a copy of, if it is one."""
    places: Mapping[str, str] = {"png": "images", "mask.png": "masks", "depth.png": "depths", "normal.png": "normals"}
    if kind == "glb":
        return folder / "objects" / key / "mesh.glb"
    name, _, view = key.rpartition("-")
    return folder / "objects" / name / places[kind] / f"{view}.png" if kind in places else None


def main(arguments: list[str]) -> int:
    given = {"folder": "outputs/dataset", "pixels": "200", "seed": "0"}
    given |= dict(each.split("=", 1) for each in arguments)
    folder, rng = Path(given["folder"]), np.random.default_rng(int(given["seed"]))
    print("| object | views | depth below the mesh | its size | masks as the mesh | normals, degrees |")
    print("|---|---|---|---|---|---|")
    sound = True
    for each in sorted((folder / "objects").iterdir()):
        seen = looked(each, int(given["pixels"]), rng)
        sound = sound and seen.sound
        said = (each / "caption.txt").read_text().strip()
        figures = f"{seen.below:.4f} | {seen.depth:.4f} | {seen.masks:.4f} | {seen.normals:.2f}"
        print(f"| {said} | {seen.views} | {figures} |{'' if seen.sound else ' **beyond the bounds**'}", flush=True)
    for problem in shards(folder):
        sound = False
        print(f"- {problem}")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
