"""Where pictures to be judged come from: the prior's sampler, the world itself, and finished 3-D runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count, environ
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from text23d.cameras import Cameras, orbit
from text23d.engine.saved import read_nerf
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors, write_json
from text23d.paths import slug
from text23d.prior.builtin import edm
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.studies.evaluation.figures import PictureSet
from text23d.studies.evaluation.sampler import algorithm1
from text23d.studies.evaluation.suite import Suite
from text23d.tasks.object import judged_views
from text23d.worlds.corruption import corrupt
from text23d.worlds.objects.caption import tokenize
from text23d.worlds.objects.render import pictures, render, sample_light
from text23d.worlds.objects.scene import make

SAMPLE_ELEVATION = 15.0
SAMPLERS = ("heun", "algorithm1")
VIEWS = "views.safetensors"


def begun(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in `folder` what its pictures are made with. Raises UserError where those in it were made with something
    else: results must not mix them."""
    note, now = folder / "settings.json", json.loads(json.dumps(settings))
    before = json.loads(note.read_text()) if note.exists() else now
    different = sorted(name for name in now if now[name] != before.get(name))
    if different:
        raise UserError(f"{folder} was begun with another {', '.join(different)}: remove it or choose another folder=")
    write_json(note, now)


def kept(path: Path, make_it: Callable[[], Tensor]) -> Tensor:
    """Pictures [B, 4, H, W] in picture space from `path`, made and written there (as 8 bits) if they are not yet."""
    if not path.exists():
        save_tensors(path, {"pictures": ((make_it().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()}, "pictures")
    return load_tensors(path, "pictures")[0]["pictures"].float() / 127.5 - 1


def samples(
    prior: BuiltinPrior,
    suite: Suite,
    folder: Path,
    sets: int,
    views: int,
    guidance: float,
    steps: int,
    seed: int,
    sampler: str = "heun",
) -> list[PictureSet]:
    """Samples of the prior by one of SAMPLERS under guidance: `sets` noises for each prompt, each seen by all views."""
    device = next(prior.denoiser.parameters()).device
    cameras, levels = orbit(views, SAMPLE_ELEVATION), edm.sigma_steps(steps)
    found = []
    for prompt in tqdm(suite.prompts, "samples", unit="prompt"):
        c = prior.condition(tokenize(prompt), cameras)
        for index in range(sets):
            noise = torch.randn(1, 4, *prior.shape, generator=generator(seed, 0, index, f"sample {prompt}"))
            x = levels[0] * noise.expand(views, -1, -1, -1).to(device)
            path = folder / f"{slug(prompt)}-{index}.safetensors"
            main = Guided(prior.denoiser, guidance)
            ways = {
                "heun": partial(edm.heun, main, x, levels, c),
                "algorithm1": partial(algorithm1, main, prior.denoiser, x, levels, c, seed + index),
            }
            drawn = kept(path, ways[sampler])
            found.append(picture_set(suite, prompt, drawn, cameras))
    return found


def worlds(suite: Suite, objects: int, seed: int, cameras: Cameras, light: float = 1.0) -> list[PictureSet]:
    """Fresh renders of `objects` of the world for each prompt, by those cameras."""
    found = []
    for number, prompt in enumerate(tqdm(suite.prompts, "renders", unit="prompt")):
        for index in range(objects):
            rng = np.random.default_rng([seed, number, index])
            thing = make(suite.caption[prompt], rng)
            drawn = pictures(render(thing, cameras, sample_light(rng, light)))
            found.append(picture_set(suite, prompt, drawn, cameras))
    return found


def worn(sets: Sequence[PictureSet]) -> list[PictureSet]:
    """The same things, blurred, moved, faded and noisy, as the judge's own training corrupts them."""
    return [
        PictureSet(s.prompt, s.asked, s.front, corrupt(s.pictures, generator(1, 0, index, "worn")), s.azimuth)
        for index, s in enumerate(sets)
    ]


def run_views() -> Cameras:
    """The cameras that 3-D results are judged by: those of a run's own score."""
    return judged_views(torch.device("cpu"))


def runs(
    suite: Suite, folder: Path, seeds: Sequence[int], workers: int, settings: Sequence[str], device: str
) -> tuple[list[PictureSet], list[str]]:
    """The 3-D runs of the suite below `folder`, those that are not there yet made by `python -m text23d.run`.

    Returns their views, and a line for each run that failed.
    """
    jobs = [
        (prompt, seed, run_folder(folder, prompt, seed)) for prompt in suite.prompts for seed in dict.fromkeys(seeds)
    ]

    def job(prompt: str, seed: int, where: Path) -> None:
        if not (where / "summary.json").exists():
            (where / VIEWS).unlink(missing_ok=True)
            make_run(where, prompt, seed, settings, workers, device)

    with ThreadPoolExecutor(workers) as pool:
        list(tqdm(pool.map(lambda each: job(*each), jobs), "runs", len(jobs), unit="run"))
    cameras = run_views()
    found, failed = [], []
    for prompt, seed, where in jobs:
        if not (where / "summary.json").exists():
            failed.append(f"{prompt!r} with seed {seed} failed: see {where / 'log.txt'}")
            continue
        drawn = kept(where / VIEWS, partial(seen, where, cameras))
        found.append(picture_set(suite, prompt, drawn, cameras))
    return found, failed


def make_run(where: Path, prompt: str, seed: int, settings: Sequence[str], workers: int, device: str) -> None:
    """`python -m text23d.run` into the folder `where`, on its share of the cores among `workers`; what it says goes
    to log.txt there."""
    where.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "text23d.run", f"prompt={prompt}", f"seed={seed}", f"device={device}"]
    threads = max(1, (cpu_count() or 1) // workers)
    with open(where / "log.txt", "w") as log:
        subprocess.run(
            [*command, f"hydra.run.dir='{where}'", *settings],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_WAIT_POLICY": "passive", **environ, "OMP_NUM_THREADS": str(threads)},
        )


def run_folder(folder: Path, prompt: str, seed: int) -> Path:
    """Where a suite's 3-D run lies."""
    return folder / f"{slug(prompt)}-{seed}"


def meshes(suite: Suite, folder: Path, seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """Of each prompt's meshes, silhouette IoU and colour PSNR (dB) against their NeRFs, as the runs below `folder`
    found them, the mean over seeds; prompts without a mesh are left out."""
    found = {}
    for prompt in suite.prompts:
        paths = [run_folder(folder, prompt, seed) / "summary.json" for seed in dict.fromkeys(seeds)]
        told = [json.loads(path.read_text()).get("mesh", {}) for path in paths if path.exists()]
        if scored := [each for each in told if "iou" in each]:
            found[prompt] = {name: float(np.mean([each[name] for each in scored])) for name in ("iou", "psnr")}
    return found


def seen(where: Path, cameras: Cameras) -> Tensor:
    """The NeRF of a run, by those cameras."""
    return read_nerf(where).render_image(cameras, 64)


def picture_set(suite: Suite, prompt: str, drawn: Tensor, cameras: Cameras) -> PictureSet:
    return PictureSet(prompt, suite.asked(prompt), suite.front(prompt), drawn, cameras.azimuth)
