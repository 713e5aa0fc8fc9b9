"""Runs that are over in a moment: two views, a coarse grid, and a prior that has learned nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch

from text23d.compose import compose
from text23d.contracts import Stage, unwatched
from text23d.engine.build import Parts, build_run
from text23d.engine.loop import advance
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.state import RunState
from text23d.engine.thrift import thriftily

PROMPT = ("prompt=a red car", "outputs=minimal", "stages=1")
LOOP = ("method.iterations=4", "method.views=2", "method.inner=2", "method.size.stages=[[0,8],[0.5,16]]")
GRID = tuple(f"representation.encoding.{each}" for each in ("levels=2", "log2_table=8", "base=4", "finest=16"))
NERF = (*GRID, "representation.hidden=8", "representation.steps=16")
IMAGE = ("representation=image", "method.views=1", "representation.size=16")
MLP_IMAGE = ("representation=mlp_image", *IMAGE[1:], "representation.hidden=8", "representation.features=4")


@cache
def settings(prior: Path, *overrides: str) -> dict[str, Any]:
    """The configuration of a tiny run of a NeRF, unless `overrides` ask for an image. Its last iterations see windows
    by the prior of them that lies beside `prior`."""
    images = any(each.startswith("representation=") and "image" in each for each in overrides)
    fine = prior.with_name("prior_fine.safetensors")
    windows = (f"stage.weights={fine}",) if fine.exists() and takes_windows(overrides) else ("stage=none",)
    shape = LOOP[:1] + LOOP[2:] if images else (*LOOP, *NERF, *windows)
    return compose("config", [*PROMPT, f"prior.weights={prior}", "prior.precision=float32", *shape, *overrides])


def takes_windows(overrides: tuple[str, ...]) -> bool:
    """Whether the settings leave the fine stage as it is."""
    others = ("method=vsd", "views=bank", "views=one", "constraint=inpaint", "prior=", "stage=")
    return not any(each.startswith(others) for each in overrides)


def tiny(prior: Path, *overrides: str, ranks: Ranks = ALONE) -> tuple[RunState, Parts]:
    """The state and parts of that run, on one of these ranks."""
    return build_run(settings(prior, *overrides), torch.device("cpu"), ranks)


def optimise(
    state: RunState, parts: Parts, stage: Stage = unwatched, tell: Callable[[str], object] = print
) -> Iterator[dict[str, Any]]:
    """Take the run's iterations, yielding each one's figures for metrics.jsonl. stage: see `method.step.step`; tell is
    called with a line where one has to be taken again. Raises as `advance`, and TooLarge where memory does not
    suffice."""
    while state.iteration < parts.recipe.iterations:
        yield thriftily(lambda sparing: advance(state, sparing, stage), state, parts, tell)
