"""Figures of pictures that should show something, as the judge sees them: closed forms on its logits and features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from text23d.judge.network import Asked, Judge, Opinion

FRONT_BINS = 2
"""A view is of the front if the judge puts more than half on the azimuths within that many bins of it: 37.5 degrees."""
JANUS_APART = 90.0
AZIMUTH_NEAR = 30.0


@dataclass(frozen=True)
class PictureSet:
    """Views of one thing: a NeRF, an object of the world, or samples that share their noise.

    pictures [V, 4, 64, 64] in picture space; azimuth [V] in degrees, of each view; front: whether the kind has one.
    """

    prompt: str
    asked: Asked
    front: bool
    pictures: Tensor
    azimuth: Tensor


Judged = list[tuple[PictureSet, Opinion]]


def judge_all(judge: Judge, sets: Sequence[PictureSet]) -> Judged:
    return [(each, judge.look(each.pictures)) for each in sets]


def summary(judge: Judge, judged: Judged, prompts: Mapping[str, Asked], reference: Judged) -> dict[str, float]:
    """Every figure, over all pictures; those that do not apply are left out.

    prompts: all that R-precision is over. reference: fresh renders of the world for the same prompts.
    """
    figures = accuracies(judge, judged)
    figures["r_precision"] = r_precision(judge, judged, prompts)
    own, worlds = features(judged), features(reference)
    if min(len(own), len(worlds)) > 1:
        figures["kid"] = kid(own, worlds)
    fronts = [(each, opinion) for each, opinion in judged if each.front]
    if fronts:
        figures["azimuth"] = sum(azimuth_right(judge, *pair) for pair in fronts) / len(fronts)
        figures["janus"] = sum(is_janus(each.azimuth, opinion) for each, opinion in fronts) / len(fronts)
    figures["consistency"] = sum(consistency(opinion) for _, opinion in judged) / len(judged)
    spread, natural = diversity(judged), diversity(reference)
    if spread is not None and natural:
        figures["diversity"] = spread / natural
    return figures


def accuracies(judge: Judge, judged: Judged) -> dict[str, float]:
    """Accuracy and mean probability of kind, colour and parts' colours, and kind and colour both right, over views."""
    found: dict[str, list[Tensor]] = {}
    for each, opinion in judged:
        right = {}
        for name, logits, index in judge.answers(opinion, each.asked):
            right[name] = logits.argmax(-1) == index
            found.setdefault(name, []).append(right[name].float())
            found.setdefault(f"{name}_probability", []).append(logits.softmax(-1)[:, index])
        if "colour" in right:
            found.setdefault("both", []).append((right["kind"] & right["colour"]).float())
    return {name: torch.cat(values).mean().item() for name, values in found.items()}


def r_precision(judge: Judge, judged: Judged, prompts: Mapping[str, Asked]) -> float:
    """Share of views for which, of all prompts, none is likelier than their own (Park et al. 2021, with our judge)."""
    names, hits = list(prompts), []
    for each, opinion in judged:
        scores = torch.stack([judge.log_likelihood(opinion, asked) for asked in prompts.values()])
        hits.append(scores[names.index(each.prompt)] >= scores.amax(0))  # prompts may ask the same of the judge
    return torch.cat(hits).float().mean().item()


def features(judged: Judged) -> Tensor:
    return torch.cat([opinion.features for _, opinion in judged])


def kid(x: Tensor, y: Tensor) -> float:
    """Kernel inception distance: the unbiased squared MMD of features [N, F] and [M, F], N and M above 1, under the
    kernel (x . y / F + 1)^3 (Binkowski et al. 2018, section 3), with features scaled by y's root mean square."""
    x, y = (each.double() / y.double().square().mean().sqrt() for each in (x, y))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    xx, yy = kernel(x, x), kernel(y, y)
    own = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return (own - 2 * kernel(x, y).mean()).item()


def azimuth_right(judge: Judge, each: PictureSet, opinion: Opinion) -> float:
    """Share of views that look as if from within AZIMUTH_NEAR of where the camera stands."""
    return (apart(judge.angles(opinion, "azimuth"), each.azimuth) <= AZIMUTH_NEAR).float().mean().item()


def is_janus(azimuth: Tensor, opinion: Opinion) -> bool:
    """Whether two azimuths more than JANUS_APART degrees from each other both show the front, by the mean of the
    judge's probabilities over the views from there: several elevations outvote one mistake."""
    chance = opinion["azimuth"].softmax(-1).roll(FRONT_BINS, -1)[:, : 2 * FRONT_BINS + 1].sum(-1)
    at, place = azimuth.unique(return_inverse=True)
    mean = torch.zeros(len(at)).index_add(0, place, chance) / torch.bincount(place)
    fronts = at[mean > 0.5]
    return bool((apart(fronts[:, None], fronts) > JANUS_APART).any())


def apart(a: Tensor, b: Tensor) -> Tensor:
    """The angle between azimuths, in [0, 180] degrees."""
    return ((a - b + 180) % 360 - 180).abs()


def consistency(opinion: Opinion) -> float:
    """Share of a thing's views that agree with the most of them on kind and colour, right or wrong."""
    votes = Counter(zip(opinion["kind"].argmax(-1).tolist(), opinion["colour"].argmax(-1).tolist(), strict=True))
    return max(votes.values()) / votes.total()


def diversity(judged: Judged) -> float | None:
    """Mean distance of features between things of one prompt, seen from the same side; None: no prompt has two."""
    groups: dict[str, list[Tensor]] = {}
    for each, opinion in judged:
        groups.setdefault(each.prompt, []).append(opinion.features)
    pairs = [(a - b).norm(dim=-1).mean() for things in groups.values() for a, b in combinations(things, 2)]
    return torch.stack(pairs).mean().item() if pairs else None
