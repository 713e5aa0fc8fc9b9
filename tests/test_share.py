"""N processes with a share of the views each draw what one would, and their mean gradient is its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny
from torch import Tensor, nn

from text23d import checkpoint
from text23d.contracts import Stage, unwatched
from text23d.engine.build import Parts
from text23d.engine.loop import advance
from text23d.engine.recipe import FixedRecipe, Recipe
from text23d.engine.state import RunState
from text23d.guide import Guide
from text23d.method.noise import gaussian
from text23d.method.proposal import Method, Proposal, Rng

VIEWS = 4
SHARES = ((0, 1), (2, 3), (3, 0), (2,))
PURPOSES = ("inversion", "langevin", "langevin before", "inversion at level 1", "langevin at level 1")
FOUR = (f"method.views={VIEWS}", "method.inner=1")


class Watched:
    """`method`, and all that it was given or could have drawn."""

    def __init__(self, method: Method) -> None:
        self.method, self.seen, self.cameras = method, list[dict[str, Tensor]](), torch.empty(0)

    def __call__(
        self, guide: Guide, x0: Tensor, sigma: Tensor, n: Tensor, rng: Rng, stage: Stage = unwatched
    ) -> Proposal:
        found = self.method(guide, x0, sigma, n, rng, stage)
        draws = {purpose: gaussian(x0, rng(purpose)) for purpose in PURPOSES}
        given = {
            "camera": self.cameras,
            "x0": x0,
            "sigma": sigma.expand(len(x0)),
            "n": n,
            "target": found.target,
            "noise": found.noise,
        }
        self.seen.append(given | draws)
        return found


def watched(prior: Path, share: Sequence[int], *overrides: str) -> tuple[RunState, Parts, list[dict[str, Tensor]]]:
    """A run of FOUR views whose process has that share of them, and what its method sees."""
    state, parts = tiny(prior, *FOUR, *overrides)
    method = Watched(parts.recipe.method_at(0.0))
    loop = {name: getattr(parts.recipe, name) for name in Recipe.__dataclass_fields__}
    cameras = parts.guide.conditions

    def conditions(views: Any) -> Any:
        method.cameras = views.features()
        return cameras(views)

    guide = replace(parts.guide, conditions=conditions)
    return state, replace(parts, recipe=FixedRecipe(strategy=method, **loop), guide=guide, share=share), method.seen


CASES: dict[str, tuple[str, ...]] = {
    "one sigma": (),
    "random sigma": ("method/sigma=random",),
    "random sigma, together": ("method/sigma=random", "method.sigma.together=true"),
    "levels": ("method.levels=[1,0.5]", "method/sigma=random", "method/langevin=leimkuhler_matthews", "method.churn=2"),
    "bank": ("views=bank", "views.count=6"),
    "one camera": ("views=one",),
    "sds": ("method=sds",),
    "ism": ("method=ism", "method.strategy.steps=1"),
}
ROWS = ("camera", "sigma", "n", "x0", *PURPOSES)
"""The same bits; what networks make of them differs in the last ones with the size of a batch."""


@pytest.mark.parametrize("name", CASES)
def test_each_process_draws_what_one_would(name: str, tiny_prior: Path) -> None:
    state, parts, whole = watched(tiny_prior, range(VIEWS), *CASES[name])
    start = checkpoint.copied(state.state())
    for iteration in (0, 3):
        state.load(start)
        state.iteration = iteration
        advance(state, parts)
    assert not torch.equal(whole[0]["langevin"], whole[1]["langevin"]), "an iteration draws anew"
    rows = [row for row in whole[0]["langevin"]]
    assert not any(torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i]), "and each view for itself"
    for share in SHARES:
        own_state, own, seen = watched(tiny_prior, share, *CASES[name])
        for iteration in (0, 3):
            own_state.load(start)
            own_state.iteration = iteration
            advance(own_state, own)
        for found, expected in zip(seen, whole, strict=True):
            assert [key for key in ROWS if not torch.equal(found[key], expected[key][list(share)])] == []
            for key in ("target", "noise"):
                torch.testing.assert_close(found[key], expected[key][list(share)], rtol=1e-4, atol=1e-4)


def test_a_process_recalls_the_noise_that_one_would(tiny_prior: Path) -> None:
    """Of six cameras some were visited before, by whichever process; the others' noise is fresh."""
    bank = CASES["bank"]
    state, parts, whole = watched(tiny_prior, range(VIEWS), *bank)
    advance(state, parts)
    kept = checkpoint.copied(state.state())
    advance(state, parts)
    known = set(map(tuple, kept["warm"]["views"].tolist()))
    visited = [tuple(row) in known for row in whole[1]["camera"].tolist()]
    assert any(visited) and not all(visited)
    for share in SHARES:
        own_state, own, seen = watched(tiny_prior, share, *bank)
        own_state.load(kept)
        advance(own_state, own)
        assert torch.equal(seen[0]["n"], whole[1]["n"][list(share)])


class Heavy:
    """A constraint with a loss of its own, which every process adds whole."""

    def __init__(self, inside: Any) -> None:
        self.project, self.within = inside.project, inside.within

    @staticmethod
    def penalty(phi: Any) -> Tensor:
        return sum((each.square().sum() for each in phi.parameters()), start=torch.zeros(()))


def gradient(prior: Path, share: Sequence[int], overrides: Sequence[str], heavy: bool) -> list[Tensor]:
    """What phi's parameters were moved by in the one inner step of the first iteration."""
    state, parts, _ = watched(prior, share, *overrides)
    advance(state, replace(parts, constraint=Heavy(parts.constraint)) if heavy else parts)
    assert isinstance(state.phi, nn.Module)
    return [each.grad.clone() for each in state.phi.parameters() if each.grad is not None]


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("name", ["one sigma", "levels", "sds"])
def test_the_mean_of_the_gradients_is_the_gradient(name: str, heavy: bool, tiny_prior: Path) -> None:
    overrides = CASES[name]
    whole = gradient(tiny_prior, range(VIEWS), overrides, heavy)
    halves = [gradient(tiny_prior, share, overrides, heavy) for share in ((0, 1), (2, 3))]
    quarters = [gradient(tiny_prior, (view,), overrides, heavy) for view in range(VIEWS)]
    for shares in (halves, quarters):
        for expected, *parts in zip(whole, *shares, strict=True):
            mean = torch.stack(parts).mean(0)
            assert (mean - expected).norm() < 1e-4 * expected.norm() and expected.norm() > 0
    different = [(a - b).norm() / b.norm() for a, b in zip(halves[0], whole, strict=True)]
    assert max(different) > 0.01, "a share alone is another gradient"
