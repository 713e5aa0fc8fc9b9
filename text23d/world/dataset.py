"""The prior's training set: pictures of random objects, with their labels and cameras, as plain arrays on disk.

    images.npy   uint8 [N, size, size, 4]   premultiplied RGBA, row 0 at the top
    kind.npy     int8 [N]                   index into meta["kinds"]
    colour.npy   int8 [N]                   index into meta["colours"]
    camera.npy   float32 [N, 4]             azimuth, elevation, distance, fov, in degrees and scene units
    meta.json    version, seed, counts and the word lists

Row object * views_per_object + view. Object i is drawn from SeedSequence((seed, i)) alone, so the same pictures come
out whatever the number of workers, and a larger set begins with the smaller one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from text23d.contracts import Cameras, UserError
from text23d.world.colours import COLOURS
from text23d.world.kinds import KINDS, make
from text23d.world.render import render, sample_light
from text23d.world.views import cameras_from, sample_cameras, to_rows

VERSION = 1
Rendered = tuple[NDArray[np.uint8], NDArray[np.float32]]


def labels_of(index: int) -> tuple[int, int]:
    """Kind and colour of object `index`: all 64 pairs in turn, so that every prefix is balanced."""
    return index % len(KINDS), index // len(KINDS) % len(COLOURS)


def render_object(index: int, seed: int, views: int, size: int, light_variation: float) -> Rendered:
    """The pictures [views, size, size, 4] and camera rows [views, 4] of object `index` of the world `seed`."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
    kind, colour = labels_of(index)
    thing = make(list(KINDS)[kind], list(COLOURS)[colour], rng)
    light = sample_light(rng, light_variation)
    cameras = sample_cameras(views, rng)
    return render(thing, cameras, light, size), to_rows(cameras)


def build_dataset(
    folder: Path | str,
    objects: int,
    views_per_object: int,
    seed: int,
    workers: int,
    size: int = 64,
    light_variation: float = 1.0,
) -> Path:
    """Render objects * views_per_object pictures into `folder`, which appears only when it is complete.

    workers: processes that render; 0 or 1 renders in this one. light_variation: see `render.sample_light`.
    Raises UserError if `folder` exists already, or a count is not positive.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it, or choose another folder for the data set")
    if objects < 1 or views_per_object < 1 or size < 1:
        raise UserError(f"got {objects} objects, {views_per_object} views, size {size}: each must be at least 1")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(partial_folder, objects, views_per_object, seed, workers, size, light_variation)
        partial_folder.chmod(0o755)
        os.replace(partial_folder, folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return folder


def _write(folder: Path, objects: int, views: int, seed: int, workers: int, size: int, variation: float) -> None:
    count = objects * views
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, size, size, 4))
    camera = np.empty((count, 4), np.float32)
    task = partial(render_object, seed=seed, views=views, size=size, light_variation=variation)
    for index, (pictures, rows) in enumerate(tqdm(_results(task, objects, workers), "objects", objects, mininterval=1)):
        images[index * views : (index + 1) * views] = pictures
        camera[index * views : (index + 1) * views] = rows
    images.flush()
    labels = np.repeat(np.array([labels_of(index) for index in range(objects)], np.int8), views, axis=0)
    np.save(folder / "kind.npy", labels[:, 0])
    np.save(folder / "colour.npy", labels[:, 1])
    np.save(folder / "camera.npy", camera)
    meta: dict[str, Any] = {"version": VERSION, "kinds": list(KINDS), "colours": list(COLOURS)}
    meta |= {"seed": seed, "objects": objects, "views_per_object": views, "size": size, "light_variation": variation}
    (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


def _results(task: partial[Rendered], objects: int, workers: int) -> Iterator[Rendered]:
    if workers <= 1:
        yield from map(task, range(objects))
        return
    # spawn: a forked child inherits torch's thread pool in an unknown state and may hang
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap(task, range(objects), chunksize=8)


@dataclass(frozen=True)
class Dataset:
    """A finished data set: images stay on disk (memory-mapped, read-only), labels and cameras in memory."""

    images: NDArray[np.uint8]
    kind: NDArray[np.int8]
    colour: NDArray[np.int8]
    camera: NDArray[np.float32]
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.images)

    def cameras(self, rows: NDArray[np.int64] | slice = slice(None)) -> Cameras:
        """The cameras of those rows, float32."""
        return cameras_from(self.camera[rows])

    @staticmethod
    def open(folder: Path | str) -> Dataset:
        """Open what `build_dataset` wrote. Raises UserError if it is missing, of another version, or truncated."""
        folder = Path(folder)
        again = "build it again with text23d.world.dataset.build_dataset"
        if not (folder / "meta.json").is_file():
            raise UserError(f"no data set at {folder} (it has no meta.json): {again}")
        try:
            meta = json.loads((folder / "meta.json").read_text())
            images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
            labels = [np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("kind", "colour", "camera")]
            count, size = meta["objects"] * meta["views_per_object"], meta["size"]
            version, words = meta["version"], (meta["kinds"], meta["colours"])
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"the data set at {folder} is damaged or truncated: {again}") from error
        if version != VERSION or words != (list(KINDS), list(COLOURS)):
            raise UserError(f"the data set at {folder} is of another version of the world: {again}")
        shapes = [(count, size, size, 4), (count,), (count,), (count, 4)]
        types = [np.uint8, np.int8, np.int8, np.float32]
        arrays = [images, *labels]
        if [a.shape for a in arrays] != shapes or [a.dtype for a in arrays] != types:
            raise UserError(f"the data set at {folder} has arrays of the wrong shape or type: {again}")
        kind, colour, camera = labels
        return Dataset(images, kind, colour, camera, meta)
