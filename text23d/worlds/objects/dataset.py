"""The prior's training set: pictures of random objects, with their captions and cameras, as plain files.

    images.npy      uint8 [N, size, size, 4]   premultiplied RGBA, row 0 at the top
    camera.npy      float32 [N, 4]             azimuth, elevation, distance, fov, in degrees and scene units
    captions.json   of each object             the fields of a `Caption`
    meta.json       version, seed, counts and the vocabulary

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
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from text23d.cameras import Cameras
from text23d.errors import UserError
from text23d.spaces import to_picture
from text23d.worlds.objects.caption import Caption, words
from text23d.worlds.objects.render import render, sample_light
from text23d.worlds.objects.scene import draw_caption, make
from text23d.worlds.objects.views import cameras_from, sample_cameras, to_rows

VERSION = 2
Rendered = tuple[Caption, NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True)
class Recipe:
    """What a data set is of.

    views            pictures of each object.
    seed             of the world: another seed, other objects.
    size             side of a picture in pixels.
    light_variation  see `render.sample_light`.
    held_out, pairs  see `scene.draw_caption`.

    Raises UserError where a number is out of range.
    """

    views: int
    seed: int
    size: int = 64
    light_variation: float = 1.0
    held_out: bool = False
    pairs: bool = True

    def __post_init__(self) -> None:
        if self.views < 1 or self.size < 1 or self.seed < 0:
            raise UserError(f"got {self.views} views, size {self.size}, seed {self.seed}: expected at least 1, 1 and 0")


def render_object(index: int, recipe: Recipe) -> Rendered:
    """Caption, pictures [views, size, size, 4] and camera rows [views, 4] of object `index`."""
    rng = np.random.default_rng(np.random.SeedSequence((recipe.seed, index)))
    caption = draw_caption(index, rng, recipe.held_out, recipe.pairs)
    thing = make(caption, rng)
    light = sample_light(rng, recipe.light_variation)
    cameras = sample_cameras(recipe.views, rng)
    return caption, render(thing, cameras, light, recipe.size), to_rows(cameras)


def build_dataset(folder: Path | str, objects: int, recipe: Recipe, workers: int) -> Path:
    """Render objects * recipe.views pictures into `folder`, which appears only when it is complete.

    workers: processes that render; 0 or 1 renders in this one.
    Raises UserError if `folder` exists already, or there is to be no object.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it, or choose another folder for the data set")
    if objects < 1:
        raise UserError(f"got {objects} objects: expected at least 1")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(partial_folder, objects, recipe, workers)
        partial_folder.chmod(0o755)
        os.replace(partial_folder, folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return folder


def _write(folder: Path, objects: int, recipe: Recipe, workers: int) -> None:
    views, size = recipe.views, recipe.size
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (objects * views, size, size, 4))
    camera, captions = np.empty((objects * views, 4), np.float32), []
    rendered = _results(partial(render_object, recipe=recipe), objects, workers)
    for index, (caption, pictures, rows) in enumerate(tqdm(rendered, "objects", objects, mininterval=1)):
        images[index * views : (index + 1) * views] = pictures
        camera[index * views : (index + 1) * views] = rows
        captions.append(asdict(caption))
    images.flush()
    np.save(folder / "camera.npy", camera)
    (folder / "captions.json").write_text(json.dumps(captions) + "\n")
    meta = {"version": VERSION, "words": list(words()), "objects": objects, **asdict(recipe)}
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
    """A finished data set: images stay on disk (memory-mapped, read-only), captions and cameras in memory."""

    images: NDArray[np.uint8]
    captions: list[Caption]
    camera: NDArray[np.float32]
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.images)

    def caption(self, row: int) -> Caption:
        """What picture `row` shows."""
        return self.captions[row // self.meta["views"]]

    def cameras(self, rows: NDArray[np.int64] | slice = slice(None)) -> Cameras:
        """The cameras of those rows, float32."""
        return cameras_from(self.camera[rows])

    @staticmethod
    def open(folder: Path | str) -> Dataset:
        """Open what `build_dataset` wrote. Raises UserError if it is missing, of another version, or truncated."""
        folder = Path(folder)
        again = "remove it to have it rendered again"
        if not (folder / "meta.json").is_file():
            raise UserError(f"no data set at {folder} (it has no meta.json): {again}")
        try:
            meta = json.loads((folder / "meta.json").read_text())
            version, vocabulary = meta["version"], meta["words"]
            count, size = meta["objects"] * meta["views"], meta["size"]
            images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
            camera = np.load(folder / "camera.npy", allow_pickle=False)
            captions = [read_caption(each) for each in json.loads((folder / "captions.json").read_text())]
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"the data set at {folder} is damaged or truncated: {again}") from error
        if version != VERSION or vocabulary != list(words()):
            raise UserError(f"the data set at {folder} is of another version of the world: {again}")
        found = [(images.shape, images.dtype), (camera.shape, camera.dtype), len(captions)]
        if found != [((count, size, size, 4), np.uint8), ((count, 4), np.float32), meta["objects"]]:
            raise UserError(f"the data set at {folder} has arrays of the wrong shape or type: {again}")
        return Dataset(images, captions, camera, meta)


def read_caption(fields: dict[str, Any]) -> Caption:
    """A caption from its fields, as JSON gives them back."""
    other = fields["other"] and read_caption(fields["other"])
    return Caption(**(fields | {"parts": tuple((word, colour) for word, colour in fields["parts"]), "other": other}))


def pictures(images: np.ndarray) -> torch.Tensor:
    """Premultiplied RGBA uint8 [B, H, W, 4] -> picture space [B, 4, H, W]."""
    unit = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return to_picture(unit[:, :3], unit[:, 3:])


def open_or_build(folder: Path, objects: int, recipe: Recipe, workers: int) -> Dataset:
    """The data set at `folder`, rendered first where it is not there yet. Raises UserError where it is another."""
    if not folder.exists():
        build_dataset(folder, objects, recipe, workers)
    data, asked = Dataset.open(folder), {"objects": objects, **asdict(recipe)}
    for name, value in asked.items():
        if data.meta[name] != value:
            raise UserError(
                f"the data set at {folder} has {name}={data.meta[name]}, but {value} was asked for: remove it, or "
                "choose another folder"
            )
    return data
