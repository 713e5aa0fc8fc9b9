"""Figures of what is longer than a prior's examples: closed forms on its elements, and on what the judge makes of its
windows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor

from text23d.contracts import World
from text23d.judge.network import Judge, Opinion
from text23d.studies.figures import kid
from text23d.studies.strips.made import Made


def steps(x: Tensor, axis: int, wrap: bool) -> Tensor:
    """The mean absolute difference of x [C, *S], at each place of an axis of S, to the place before: [extent] where the
    axis goes on at its beginning, or [extent - 1], from its second place on."""
    x = x.movedim(axis + 1, 0).flatten(1)
    found = (x - x.roll(1, 0)).abs().mean(1)
    return found if wrap else found[1:]


def edge_ratio(found: Tensor, edges: Tensor) -> float:
    """The mean of `found` [N] at these places relative to that of all others: 1 where windows do not show. NaN where
    there are none, or no others."""
    at, elsewhere = means(found, edges)
    return (at / elsewhere).item()


def means(found: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Of `found` [N] at these places, and at all others."""
    at = torch.zeros(len(found), dtype=torch.bool)
    at[edges] = True
    return found[at].mean(), found[~at].mean()


def step_ratio(made: Made) -> float:
    """`edge_ratio` of `steps` where the windows of the last iteration begin or end."""
    return edge_ratio(steps(made.whole, made.axis, made.wrap), made.edges() - int(not made.wrap))


def seam_rank(x: Tensor, axis: int) -> float:
    """The share of the places of an axis that goes all the way round, whose step from the one before is larger than
    that over the seam."""
    found = steps(x, axis, True)
    return (found > found[0]).float().mean().item()


def coherence(opinions: Sequence[Opinion], world: Tensor, wrap: bool) -> float:
    """The mean correlation of the judge's features of windows side by side, each result an opinion on its windows in
    order, where it wraps the last beside the first: relative to the features of the world [N, F], whose mean is
    subtracted. NaN where there is but one window."""
    found = []
    for opinion in opinions:
        features = torch.nn.functional.normalize(opinion.features - world.mean(0), dim=1)
        beside = (features * features.roll(-1, 0)).sum(1)
        found.append((beside if wrap else beside[:-1]).mean())
    return torch.stack(found).mean().item()


def kid_ratio(judge: Judge, windows: Tensor, samples: Tensor, world: Tensor) -> dict[str, float]:
    """Kernel distances to the world's windows: of a result's windows (kid), of the prior's own samples (kid_prior), all
    [N, C, *S], and their ratio."""
    own, prior, reference = (judge.look(each).features for each in (windows, samples, world))
    found = {"kid": kid(own, reference), "kid_prior": kid(prior, reference)}
    return found | {"kid_ratio": found["kid"] / found["kid_prior"]}


def rightness(judge: Judge, world: World[object], made: Made) -> list[dict[str, Tensor]]:
    """For each of its prompts, by head whether the judge finds in each window [B] what is asked for; and under `asked`
    whether it finds all of that there."""
    found = []
    for prompt, x in zip(made.prompts, made.task.judged(made.phi, world.shape), strict=True):
        answers = judge.answers(judge.look(x), world.labels(world.read(prompt))) if len(x) else []
        right = {name: logits.argmax(-1) == index for name, logits, index in answers}
        found.append(right | ({"asked": torch.stack(list(right.values())).all(0)} if right else {}))
    return found


def accuracies(judge: Judge, world: World[object], made: Sequence[Made]) -> dict[str, float]:
    """The means over results of what `rightness` finds: by head, and `asked`."""
    rows = [right for each in made for right in rightness(judge, world, each)]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: fmean(row[name].float().mean().item() for row in rows if name in row) for name in names}
