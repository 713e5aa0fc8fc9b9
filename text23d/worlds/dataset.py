"""Data sets of any world: examples with their captions, as plain files.

    <array>.npy     one row for each view, of each of the world's arrays
    captions.json   of each example, the fields of its caption
    meta.json       version, vocabulary, counts, seed and the world's settings; "objects" counts the examples

Row example * views + view. Example i depends on the world, the seed and i alone, so the same rows come out whatever the
number of workers, and a larger set begins with the smaller one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from text23d.contracts import Example, World
from text23d.errors import UserError

VERSION = 4
AGAIN = "remove it to have it made again"


@dataclass(frozen=True)
class Recipe:
    """What a data set is of: so many examples of a world of that seed, each by so many views.

    Raises UserError where a number is out of range.
    """

    world: World[Any]
    examples: int
    views: int
    seed: int

    def __post_init__(self) -> None:
        if self.examples < 1 or self.views < 1 or self.seed < 0:
            raise UserError(
                f"got {self.examples} examples, {self.views} views, seed {self.seed}: expected at least 1, 1 and 0"
            )

    @property
    def meta(self) -> dict[str, Any]:
        """What meta.json says of it."""
        counts = {"objects": self.examples, "views": self.views, "seed": self.seed}
        settings: dict[str, Any] = asdict(self.world)  # type: ignore[call-overload]
        return {"version": VERSION, "words": list(self.world.words), **counts, **settings}


def unheard(done: int, total: int) -> None:
    """For a set whose making nobody watches."""


def build_dataset(
    folder: Path | str, recipe: Recipe, workers: int = 1, progress: Callable[[int, int], None] = unheard
) -> Path:
    """Make the examples in `folder`, which appears only when it is complete.

    workers: processes that make them; 0 or 1: this one. progress: called with how many are made, of how many.
    Raises UserError if `folder` exists already.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it, or choose another folder for the data set")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(partial_folder, recipe, workers, progress)
        partial_folder.chmod(0o755)
        os.replace(partial_folder, folder)
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
    return folder


def _write(folder: Path, recipe: Recipe, workers: int, progress: Callable[[int, int], None]) -> None:
    views, total = recipe.views, recipe.examples
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (total * views, *shape))
        for name, (shape, dtype) in recipe.world.arrays.items()
    }
    captions = []
    for index, example in enumerate(_made(recipe, workers)):
        for name, rows in example.arrays.items():
            arrays[name][index * views : (index + 1) * views] = rows
        captions.append(asdict(example.caption))
        progress(index + 1, total)
    for array in arrays.values():
        array.flush()
    (folder / "captions.json").write_text(json.dumps(captions) + "\n")
    (folder / "meta.json").write_text(json.dumps(recipe.meta, indent=2) + "\n")


def _made(recipe: Recipe, workers: int) -> Iterator[Example]:
    task = partial(_example, recipe)
    if workers <= 1:
        yield from map(task, range(recipe.examples))
        return
    # spawn: a forked child inherits torch's thread pool in an unknown state and may hang
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap(task, range(recipe.examples), chunksize=8)


def _example(recipe: Recipe, index: int) -> Example:
    return recipe.world.example(recipe.seed, index, recipe.views)


@dataclass(frozen=True)
class Dataset:
    """A finished data set: arrays stay on disk (memory-mapped, read-only), captions in memory, one for each example."""

    world: World[Any]
    arrays: dict[str, NDArray[Any]]
    captions: list[Any]
    views: int

    def __len__(self) -> int:
        return len(self.captions) * self.views

    def caption(self, row: int) -> Any:
        """What row `row` shows."""
        return self.captions[row // self.views]

    def rows(self, rows: NDArray[np.int64]) -> tuple[Tensor, Any]:
        """x [B, channels, *shape] as priors see those rows, and their views."""
        return self.world.decode({name: array[rows] for name, array in self.arrays.items()})

    @staticmethod
    def open(folder: Path | str, recipe: Recipe) -> Dataset:
        """Open what `build_dataset` wrote. Raises UserError if it is missing, truncated, of another version of the
        world, or of another recipe."""
        folder, world = Path(folder), recipe.world
        if not (folder / "meta.json").is_file():
            raise UserError(f"no data set at {folder} (it has no meta.json): {AGAIN}")
        try:
            meta = json.loads((folder / "meta.json").read_text())
            _require_same(folder, meta, recipe.meta)
            arrays = {name: np.load(folder / f"{name}.npy", "r", allow_pickle=False) for name in world.arrays}
            captions = [world.caption(each) for each in json.loads((folder / "captions.json").read_text())]
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise UserError(f"the data set at {folder} is damaged or truncated: {AGAIN}") from error
        rows = recipe.examples * recipe.views
        expected = {name: ((rows, *shape), np.dtype(dtype)) for name, (shape, dtype) in world.arrays.items()}
        found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        if found != expected or len(captions) != recipe.examples:
            raise UserError(f"the data set at {folder} has arrays of the wrong shape or type: {AGAIN}")
        return Dataset(world, arrays, captions, recipe.views)


def _require_same(folder: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    if any(found[name] != asked[name] for name in ("version", "words")):
        raise UserError(f"the data set at {folder} is of another version of the world: {AGAIN}")
    for name, value in asked.items():
        if found[name] != value:
            raise UserError(
                f"the data set at {folder} has {name}={found[name]}, but {value} was asked for: remove it, or "
                "choose another folder"
            )


def open_or_build(
    folder: Path, recipe: Recipe, workers: int = 1, progress: Callable[[int, int], None] = unheard
) -> Dataset:
    """The data set at `folder`, made first where it is not there yet. Raises UserError where it is another."""
    if not folder.exists():
        build_dataset(folder, recipe, workers, progress)
    return Dataset.open(folder, recipe)
