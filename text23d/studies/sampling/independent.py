"""Independent samples: single pictures of the world, and of the prior under the world's captions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from text23d.prior.builtin.condition import Condition, known
from text23d.prior.builtin.prior import BuiltinPrior
from text23d.studies.figures import kid
from text23d.worlds.objects.caption import caption_text, tokenize
from text23d.worlds.objects.render import pictures
from text23d.worlds.objects.views import cameras_from
from text23d.worlds.objects.world import Objects

GROUPS = 16
"""Of pictures, each left out in turn, for the jackknife."""


def world_samples(numbers: range, seed: int, size: int) -> tuple[list[str], Tensor, Tensor]:
    """Objects of those numbers of the world of that seed, each seen once, as the prior's training set shows them:
    captions, pictures [B, 4, size, size] in picture space and camera rows [B, 4] (see `worlds.objects.views`)."""
    examples = [Objects(size).example(seed, number, 1) for number in numbers]
    images, rows = (np.concatenate([each.arrays[name] for each in examples]) for name in ("images", "camera"))
    return [caption_text(each.caption) for each in examples], pictures(images), torch.from_numpy(rows)


def condition(prior: BuiltinPrior, captions: list[str], rows: Tensor) -> Condition:
    """What the prior is conditioned on for these captions, each seen by its camera."""
    device = next(prior.denoiser.parameters()).device
    text = prior.vocabulary.encode([tokenize(caption) for caption in captions])
    return Condition(text, known(cameras_from(rows.numpy()))).to(device)


def jackknife(figure: Callable[[Tensor], float], count: int) -> tuple[float, float]:
    """`figure` of all of `count` pictures, and its standard error by leaving out one of GROUPS of them after the other
    (Efron and Stein 1981). figure: of the indices [N] that stay."""
    groups = torch.arange(count) % GROUPS
    without = torch.tensor([figure((groups != group).nonzero().flatten()) for group in range(GROUPS)])
    error = ((GROUPS - 1) * without.double().var(correction=0)).sqrt()
    return figure(torch.arange(count)), error.item()


def distances(features: dict[str, Tensor], world: Tensor) -> dict[str, dict[str, float]]:
    """KID of each sampler's features [N, F] from the world's [M, F], N and M multiples of GROUPS, the same N for all;
    and its ratio to that of the first, which drew from the same captions, cameras and noises; with standard errors."""
    names = list(features)
    times = len(world) // len(features[names[0]])

    def distance(name: str, stay: Tensor) -> float:
        others = torch.cat([stay + k * len(features[name]) for k in range(times)])
        return kid(features[name][stay], world[others])

    found = {}
    for name in names:
        count = len(features[name])
        value, error = jackknife(lambda stay, name=name: distance(name, stay), count)  # type: ignore[misc]
        found[name] = {"kid": value, "kid_error": error}
        if name != names[0]:
            ratio = jackknife(lambda stay, name=name: distance(name, stay) / distance(names[0], stay), count)  # type: ignore[misc]
            found[name] |= dict(zip(("ratio", "ratio_error"), ratio, strict=True))
    return found
