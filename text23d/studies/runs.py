"""The runs of a study: which are there, what they show, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from text23d.cameras import Cameras
from text23d.engine.folder import SUMMARY
from text23d.engine.saved import read_nerf
from text23d.errors import UserError
from text23d.files import read_json
from text23d.paths import slug
from text23d.quoting import quoted
from text23d.studies.figures import PictureSet
from text23d.studies.launcher import Job, Outcome, launch
from text23d.studies.records import cached, mapping, number, reading
from text23d.studies.suite import Suite
from text23d.tasks.object import judged_views

SIZE = 64
"""Side of the pictures that the judge sees."""
VIEWS = "views.safetensors"
"""What a study adds to the folder: what the judge sees of it."""
MESH = {
    "roughness": "roughness, degrees",
    "genus": "genus",
    "bodies": "bodies",
    "half_covered": "half-covered pixels",
    "iou": "silhouette IoU",
    "psnr": "colour PSNR, dB",
}
"""Of what a run says of its mesh, the figures that studies compare."""


def run_folder(folder: Path, prompt: str, seed: int) -> Path:
    """Where the run of a prompt and a seed lies."""
    return folder / f"{slug(prompt)}-{seed}"


def job(folder: Path, prompt: str, seed: int, overrides: Sequence[str]) -> Job:
    """The run of a prompt of a suite and a seed, in `folder`."""
    return Job((f"prompt={quoted(prompt)}", f"seed={seed}", *overrides), folder)


def make_missing(jobs: Sequence[Job], workers: int, device: str) -> list[Outcome]:
    """Run those of the jobs that have not finished yet; the outcomes of all, in order."""
    missing = [each for each in jobs if not (each.folder / SUMMARY).exists()]
    for each in missing:
        if (each.folder / VIEWS).is_file():  # of another run
            (each.folder / VIEWS).unlink()
    made = {outcome.job: outcome for outcome in launch(missing, workers, device)} if missing else {}
    return [made.get(each, Outcome(each)) for each in jobs]


def suite_runs(
    suite: Suite, folder: Path, seeds: Sequence[int], workers: int, overrides: Sequence[str], device: str
) -> tuple[list[PictureSet], list[Path], list[str]]:
    """The runs of a suite below `folder`, made where they are missing: what the judge sees of each, its folder, and a
    line for each that failed or cannot be read."""
    asked = [(prompt, seed) for prompt in suite.prompts for seed in dict.fromkeys(seeds)]
    jobs = [job(run_folder(folder, prompt, seed), prompt, seed, overrides) for prompt, seed in asked]
    cameras = run_cameras()
    sets, folders, failed = [], [], []
    for (prompt, seed), outcome in zip(asked, make_missing(jobs, workers, device), strict=True):
        where = outcome.job.folder
        try:
            if outcome.failure:
                raise UserError(outcome.failure)
            pictures = cached(where / VIEWS, partial(render_run, where, cameras))
        except UserError as error:
            failed.append(f"{prompt!r} with seed {seed} failed: {error}")
        else:
            sets.append(suite.picture_set(prompt, pictures, cameras))
            folders.append(where)
    return sets, folders, failed


def run_cameras() -> Cameras:
    """The cameras that runs are judged by: those of a run's own score."""
    return judged_views(torch.device("cpu"))


def render_run(folder: Path, cameras: Cameras) -> Tensor:
    """What a finished run made, seen by those cameras [B, 4, SIZE, SIZE]."""
    return read_nerf(folder).render_image(cameras, SIZE)


def mesh_fits(folders: Sequence[Path], sets: Sequence[PictureSet]) -> dict[str, list[dict[str, float]]]:
    """The MESH figures of each prompt's meshes, as their runs found them; runs without a mesh are left out."""
    found: dict[str, list[dict[str, float]]] = {}
    for folder, each in zip(folders, sets, strict=True):
        if fit := mesh_fit(folder):
            found.setdefault(each.prompt, []).append(fit)
    return found


def mesh_fit(folder: Path) -> dict[str, float]:
    """The MESH figures of a run's mesh; empty where it has none. Raises UserError where its summary is damaged."""
    path = folder / SUMMARY
    summary = read_json(path)
    with reading(path):
        mesh = mapping(summary.get("mesh", {}))
        return {name: number(mesh, name) for name in MESH} if "iou" in mesh else {}
