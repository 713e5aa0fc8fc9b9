"""Figures of panoramas: closed forms on their pixels, and on what the judge makes of their windows."""

from __future__ import annotations

import torch
from torch import Tensor

from text23d.judge.network import Judge, Opinion
from text23d.studies.figures import kid


def steps(x: Tensor, wrap: bool) -> Tensor:
    """The mean absolute difference of each column of x [C, H, W] to the next one: [W], or [W - 1] where the panorama
    does not go on at its left end."""
    following = x.roll(-1, 2) if wrap else x[..., 1:]
    return (following - x[..., : following.shape[2]]).abs().mean((0, 1))


def edge_ratio(x: Tensor, stride: int, wrap: bool) -> float:
    """The mean of `steps` where windows on a grid of this stride begin, relative to that of all others: 1 where the
    edges do not show."""
    found = steps(x, wrap)
    at = (torch.arange(len(found)) + 1) % stride == 0
    return (found[at].mean() / found[~at].mean()).item()


def seam_rank(x: Tensor) -> float:
    """The share of the columns of a panorama that goes all the way round whose step to the next is larger than that
    over its seam."""
    found = steps(x, True)
    return (found > found[-1]).float().mean().item()


def neighbours(wide: int, window: int) -> list[int]:
    """Where windows begin that lie side by side and do not overlap."""
    return list(range(0, wide - window + 1, window))


def coherence(opinions: list[Opinion], world: Tensor) -> float:
    """The mean correlation of the judge's features of windows side by side, each panorama an opinion on its windows in
    order, the last beside the first: relative to the features of the world [N, F], which are subtracted."""
    found = []
    for opinion in opinions:
        features = torch.nn.functional.normalize(opinion.features - world.mean(0), dim=1)
        found.append((features * features.roll(-1, 0)).sum(1).mean())
    return torch.stack(found).mean().item()


def kid_ratio(judge: Judge, windows: Tensor, samples: Tensor, world: Tensor) -> dict[str, float]:
    """Kernel distances to the world's windows: of a panorama's windows (kid), of the prior's own samples (kid_prior),
    all [N, C, H, W], and their ratio."""
    own, prior, reference = (judge.look(each).features for each in (windows, samples, world))
    found = {"kid": kid(own, reference), "kid_prior": kid(prior, reference)}
    return found | {"kid_ratio": found["kid"] / found["kid_prior"]}
