"""The loop around the method's step: views, schedules, one iteration after another."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Shape, Stage, unwatched
from text23d.engine.build import Parts
from text23d.engine.state import RunState
from text23d.errors import Diverged
from text23d.memory import is_out_of_memory, let_go
from text23d.method.draft import Draft, turning
from text23d.method.proposal import Rng
from text23d.method.step import step
from text23d.rng import generator, generators


def advance(
    state: RunState, parts: Parts, stage: Stage = unwatched, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One iteration, a function of (state, seed, iteration); its figures. before: `state.snapshot()`, if known.

    Raises Diverged where a loss, a gradient, phi or what a denoiser returns is not finite. `state` is then what it was
    before, as it is after whatever else ends an iteration early, such as Ctrl-C.
    """
    start, before = time.perf_counter(), state.snapshot() if before is None else before
    try:
        with parts.ranks.together():
            figures = iterate(state, parts, stage)
    except BaseException as error:
        if is_out_of_memory(error):
            let_go(error)  # what the iteration held is room for what is restored
            forget_gradients(state)
        state.restore(before)
        if not isinstance(error, FloatingPointError):
            raise
        raise Diverged(f"iteration {state.iteration} of {parts.recipe.iterations} diverged: {error}") from error
    state.iteration += 1
    state.evaluations += figures["nfe"]
    seconds = time.perf_counter() - start
    state.clock.add("optimise", seconds)
    return {"iteration": state.iteration, **figures, "seconds": seconds}


def iterate(state: RunState, parts: Parts, stage: Stage) -> dict[str, Any]:
    """The method on fresh views."""
    recipe, guide, ranks = parts.recipe, parts.guide, parts.ranks
    progress = state.iteration / max(1, recipe.iterations - 1)
    draft = parts.draft(progress)
    turn = state.iteration if draft is None else draft.turn(state.iteration)

    def shared(purpose: str, iteration: int = state.iteration) -> torch.Generator:
        return generator(parts.seed, 0, iteration, streamed(purpose, state.stream))

    def draw(purpose: str) -> list[torch.Generator]:
        return generators(parts.seed, parts.share, turn, streamed(purpose, state.stream))

    share = torch.tensor(parts.share)
    # All views are drawn, whoever renders them, and what is a view's own from a stream of its own.
    everyone = parts.views.sample(recipe.views, shared("cameras", turn)).to(parts.device)
    views, levels, passed = everyone.rows(share), recipe.sigma, progress
    with stage("prepare"):
        parts.task.prepare(state.phi, state.iteration, shared)
        if parts.fine is not None and (through := parts.fine.progress(progress)) is not None:
            guide, levels, passed = parts.fine.guide, parts.fine.sigma, through
            views = parts.fine.look(state.phi, views, recipe.views, share, shared("windows"))  # type: ignore[arg-type]
    sigma = levels.draw(passed, recipe.views, shared("sigma"))
    sigma = (sigma if sigma.dim() == 0 else sigma[share]).to(parts.device)
    set_rates(state, parts, progress)
    report = step(
        guide.wrap(state.phi),  # type: ignore[arg-type]
        views,
        recipe.method_at(progress) if draft is None else draft.method,
        guide.conditioned_on(views, state.learner),
        sigma,
        parts.updater(state, everyone, progress, shared),
        draw,
        shape=guide.shape,
        update_shape=parts.update_shape(progress),
        noise=begun_with(state, parts, draft, views, guide.shape, draw),
        project=parts.constraint.project,
        stage=stage,
    )
    parts.seen(report)
    if not all(bool(each.isfinite().all()) for each in state.phi.parameters()):
        raise FloatingPointError("phi is no longer finite")
    if state.warm:
        noise = ranks.gathered(report.proposal.noise, recipe.views)  # whichever rank sees these views next
        state.warm.keep(views if ranks.alone else everyone, noise)
    if state.average:
        state.average.add()
    proposal = report.proposal
    own = [each.mean().item() for each in (sigma.double().log(), proposal.residual, proposal.noise_ratio)]
    log_sigma, residual, noise_ratio = ranks.means(len(share) / recipe.views, own)
    return {
        "sigma": math.exp(log_sigma),
        "size": parts.update_shape(progress)[-1],
        "loss": report.losses[0],
        "loss_after": report.losses[-1],
        "nfe": proposal.nfe,
        "residual": residual,
        "noise_ratio": noise_ratio,
    }


def begun_with(
    state: RunState, parts: Parts, draft: Draft | None, views: Any, shape: Shape, draw: Rng
) -> Tensor | None:
    """The noise [B, C, *shape] that an iteration begins with; None: fresh noise of each view's own."""
    if draft is not None and draft.noise == "turning":
        one = generator(parts.seed, 0, 0, streamed("draft", state.stream))
        return turning(views.azimuth.cpu(), torch.randn(3, parts.world.channels, *shape, generator=one))
    return state.warm.recall(views, draw("inversion"), shape) if state.warm else None


def forget_gradients(state: RunState) -> None:
    for parameter in state.phi.parameters():
        parameter.grad = None


def streamed(purpose: str, stream: int) -> str:
    """The purpose of a draw in this stream of the run's; the first has no name."""
    return f"{purpose}, stream {stream}" if stream else purpose


def set_rates(state: RunState, parts: Parts, progress: float) -> None:
    """The learning rates at this progress: from lr_grid and lr_mlp linearly to lr_end of themselves, all times
    `state.rate`."""
    recipe = parts.recipe
    factor = state.rate * (1 + progress * (recipe.lr_end - 1))
    for group in state.optimizer.param_groups if state.optimizer else []:
        group["lr"] = factor * (recipe.lr_grid if group["name"] == "grid" else recipe.lr_mlp)
