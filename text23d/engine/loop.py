"""The loop around the method's step: views, schedules, one iteration after another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from text23d.engine.build import Run
from text23d.errors import UserError
from text23d.method.priors import Priors
from text23d.method.proposal import Stage, unwatched
from text23d.method.schedule import Random, Schedule
from text23d.method.step import step
from text23d.rng import generator


def optimise(run: Run, stage: Stage = unwatched) -> Iterator[dict[str, Any]]:
    """Take the run's iterations, yielding each one's figures for metrics.jsonl.

    Every draw is a function of (seed, iteration, purpose). stage: see `method.step.step`. Raises UserError if the
    optimisation diverges.
    """
    while run.iteration < run.plan.iterations:
        start = time.perf_counter()
        try:
            figures = iterate(run, stage)
        except FloatingPointError as error:
            raise UserError(f"iteration {run.iteration} of {run.plan.iterations} diverged: {error}") from error
        run.iteration += 1
        if run.average and run.iteration == run.plan.iterations:
            run.average.exchange()
        yield {"iteration": run.iteration, **figures, "seconds": time.perf_counter() - start}


def iterate(run: Run, stage: Stage = unwatched) -> dict[str, Any]:
    """One iteration of the method on fresh cameras."""
    plan = run.plan
    progress = run.iteration / max(1, plan.iterations - 1)
    size, method = int(plan.size(progress)), plan.strategy(progress)
    draw = partial(generator, run.seed, 0, run.iteration)
    sigma = levels(plan.sigma, progress, plan.views, draw("sigma")).to(run.device)
    with stage("prepare"):
        run.subject.prepare(run.iteration, draw)
    cameras = run.cameras.sample(plan.views, draw("cameras")).to(run.device)
    set_rates(run, progress)
    pair = run.pair
    ask = Priors(pair.main, pair.auxiliary, *pair.conditions(cameras), pair.reference_rms)
    phi, sizes, project = pair.wrap(run.phi), (pair.size, size), run.constraint.project
    noise = run.warm.recall(cameras, draw("inversion")) if run.warm else None
    report = step(phi, cameras, method, ask, sigma, run.update, draw, *sizes, noise, project, stage)
    proposal = report.proposal
    if run.warm:
        run.warm.keep(cameras, proposal.noise)
    if run.average:
        run.average.add()
    return {
        "sigma": sigma.double().log().mean().exp().item(),
        "size": size,
        "loss": report.losses[0],
        "loss_after": report.losses[-1],
        "nfe": proposal.nfe,
        "residual": proposal.residual.mean().item(),
        "noise_ratio": proposal.noise_ratio.mean().item(),
    }


def levels(schedule: Schedule, progress: float, views: int, generator: torch.Generator) -> Tensor:
    """The noise level of all views, [], or of each, [views], where it is drawn."""
    if isinstance(schedule, Random):
        return schedule.draw(progress, views, generator)
    return torch.tensor(schedule(progress))


def set_rates(run: Run, progress: float) -> None:
    """The learning rates at this progress: from lr_grid and lr_mlp linearly to lr_end of themselves."""
    factor = 1 + progress * (run.plan.lr_end - 1)
    for group in run.optimizer.param_groups if run.optimizer else []:
        group["lr"] = factor * (run.plan.lr_grid if group["name"] == "grid" else run.plan.lr_mlp)
