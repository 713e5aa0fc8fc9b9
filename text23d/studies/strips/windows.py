"""Windows that panoramas are compared with: the world's own, and samples of the prior."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from text23d.contracts import World
from text23d.crops import Crops
from text23d.method.ode import multistep
from text23d.prior.builtin import edm
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.worlds.landscapes.caption import SCENES, TIMES, WEATHERS, Caption
from text23d.worlds.landscapes.scenes import surroundings
from text23d.worlds.landscapes.world import FINER, Landscapes, crops

LEVELS = 24
"""Of the sampler."""
TURNS = 8
"""Windows side by side all the way round."""


def level(count: int) -> Crops:
    """So many flat crops, TURNS to a turn, level."""
    azimuth = (torch.arange(count) % TURNS + 0.5) * (360 / TURNS) - 180
    return Crops(azimuth, torch.zeros(count), torch.ones(count))


def world_windows(world: Landscapes, caption: Caption, count: int) -> Tensor:
    """[count, 3, size, size] of surroundings of this caption, what it leaves open drawn; TURNS of each."""
    found = []
    for index in range(-(-count // TURNS)):
        rng = np.random.default_rng([world.splits["comparison_reference"], index])
        scene, time = caption.scene or str(rng.choice(list(SCENES))), caption.time or str(rng.choice(list(TIMES)))
        weather = caption.weather or str(rng.choice(list(WEATHERS)[:2]))  # a prompt that says nothing means fair
        seen = surroundings(scene, time, weather, rng, FINER * world.size)
        found.append(torch.from_numpy(crops(seen, level(TURNS), world.size)))
    return torch.cat(found)[:count].movedim(-1, 1) * 2 - 1


@torch.no_grad()
def prior_windows(prior: BuiltinPrior, world: World[Caption], prompt: str, count: int, guidance: float) -> Tensor:
    """[count, 3, size, size] samples of the prior for this prompt, each on its own."""
    c = prior.condition(world.tokens(prompt), level(count))
    D = partial(Guided(prior.denoiser, guidance), c=c)
    levels = edm.sigma_steps(LEVELS)
    noise = torch.randn(count, world.channels, *prior.shape, generator=generator(0, 0, 0, prompt))
    return multistep(D, levels[0] * noise, levels)
