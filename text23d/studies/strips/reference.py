"""What results are compared with: windows of the world, and samples of the prior, each on its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from text23d.files import load_tensors, save_tensors
from text23d.method.ode import multistep
from text23d.paths import slug, weights_of
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.studies.records import check_settings, reading
from text23d.studies.strips.media import Medium

LEVELS = 24
"""Of the sampler."""
Reference = dict[str, tuple[Tensor, Tensor]]
"""By prompt windows of the world and samples of the prior, each [N, C, *S]."""


def references(medium: Medium, prompts: Sequence[str], count: int, folder: Path) -> Reference:
    """`count` of each, from the folder, or made and written there. Raises UserError where it holds those of other
    weights, or damaged ones."""
    weights = weights_of("prior", medium.world.name)
    fingerprint = hashlib.sha256(weights.read_bytes()).hexdigest()
    check_settings(folder, {"windows": count, "weights": fingerprint, "guidance": medium.guidance})
    found = {}
    for prompt in prompts:
        path = folder / f"{slug(prompt)}.safetensors"
        if not path.exists():
            samples = drawn(builtin.load(weights), medium, prompt, count)
            save_tensors(path, {"world": medium.examples(prompt, count).contiguous(), "prior": samples}, "windows")
        tensors, _ = load_tensors(path, "windows")
        with reading(path):
            found[prompt] = tensors["world"], tensors["prior"]
    return found


@torch.no_grad()
def drawn(prior: builtin.BuiltinPrior, medium: Medium, prompt: str, count: int) -> Tensor:
    """Samples [count, C, *S] of the prior for this prompt, without anything beside them."""
    world = medium.world
    c = prior.condition(world.tokens(prompt), medium.views(count))
    D = partial(Guided(prior.denoiser, medium.guidance), c=c)
    levels = edm.sigma_steps(LEVELS)
    noise = torch.randn(count, world.channels, *prior.shape, generator=generator(0, 0, 0, prompt))
    return multistep(D, levels[0] * noise, levels)
