"""Pictures to judge that are no runs: samples of the prior, and renders of the world itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from text23d.cameras import Cameras, orbit
from text23d.meter import Meter
from text23d.method.ode import integrate, multistep
from text23d.paths import slug
from text23d.prior.builtin import edm
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.settings import Count, NonNegative, Seed
from text23d.studies.figures import PictureSet
from text23d.studies.records import cached
from text23d.studies.sampling.algorithm1 import algorithm1
from text23d.studies.suite import Suite
from text23d.worlds.corruption import corrupt
from text23d.worlds.objects.caption import tokenize
from text23d.worlds.objects.render import pictures, render, sample_light
from text23d.worlds.objects.scene import make

ELEVATION = 15.0


@dataclass(frozen=True)
class Sampling:
    """Samples of the prior for each prompt: `sets` of `views` pictures evenly round the object that share their noise.

    guidance  of the prior; 1 is none.
    sampler   DPM-Solver++(2M), Heun's, or Algorithm 1 on pictures that are their own renderings.
    steps     its noise levels.
    """

    sets: Count = 3
    views: Count = 8
    guidance: NonNegative = 3.0
    sampler: Literal["dpmpp", "heun", "algorithm1"] = "dpmpp"
    steps: Count = 20
    seed: Seed = 0

    @property
    def cameras(self) -> Cameras:
        return orbit(self.views, ELEVATION)


def samples(prior: BuiltinPrior, suite: Suite, folder: Path, how: Sampling) -> list[PictureSet]:
    """Samples of the prior for the suite's prompts, from `folder` where they are there already."""
    device = next(prior.denoiser.parameters()).device
    cameras, levels, main = how.cameras, edm.sigma_steps(how.steps), Guided(prior.denoiser, how.guidance)
    found = []
    for prompt in Meter().along(suite.prompts, "samples of prompt"):
        c = prior.condition(tokenize(prompt), cameras)
        for index in range(how.sets):
            stream = generator(how.seed, 0, index, f"sample {prompt}")
            noise = torch.randn(1, 4, *prior.shape, generator=stream)
            x = levels[0] * noise.expand(how.views, -1, -1, -1).to(device)
            draw = {
                "dpmpp": partial(multistep, partial(main, c=c), x, levels),
                "heun": partial(integrate, partial(main, c=c), x, levels, "heun"),
                "algorithm1": partial(algorithm1, main, prior.denoiser, x, levels, c, how.seed + index),
            }
            drawn = cached(folder / f"{slug(prompt)}-{index}.safetensors", draw[how.sampler])
            found.append(suite.picture_set(prompt, drawn, cameras))
    return found


def renders(suite: Suite, objects: int, seed: int, cameras: Cameras, light: float = 1.0) -> list[PictureSet]:
    """Fresh renders of `objects` of the world for each prompt, by those cameras."""
    found = []
    for number, prompt in enumerate(Meter().along(suite.prompts, "renders of prompt")):
        for index in range(objects):
            rng = np.random.default_rng([seed, number, index])
            thing = make(suite.caption[prompt], rng)
            drawn = pictures(render(thing, cameras, sample_light(rng, light)))
            found.append(suite.picture_set(prompt, drawn, cameras))
    return found


def corrupted(sets: Sequence[PictureSet]) -> list[PictureSet]:
    """The same things, blurred, moved, faded and noisy, as the judge is trained on them."""
    streams = [generator(1, 0, index, "worn") for index in range(len(sets))]
    return [replace(each, pictures=corrupt(each.pictures, stream)) for each, stream in zip(sets, streams, strict=True)]
