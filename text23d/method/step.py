"""One iteration ([0040]-[0045], claim 1): the arrows between the boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Representation, Shape, Stage, unwatched
from text23d.guide import Guide
from text23d.method.noise import gaussian
from text23d.method.proposal import Method, Proposal, Rng
from text23d.method.update import Updater

Projection = Callable[[Tensor, Any], Tensor]
"""(x0_hat [B, C, *S], views) -> x0_hat as an external constraint wants it ([0041])."""


@dataclass(frozen=True)
class StepReport:
    """What one iteration did: x0 [B, C, *S] the rendering, what the method proposed for it, what of that the update
    followed, target as x0, and the losses of its inner steps."""

    x0: Tensor
    proposal: Proposal
    target: Tensor
    losses: list[float]


def step(
    phi: Representation[Any],
    views: Any,
    method: Method,
    guide: Guide,
    sigma: Tensor,
    update: Updater,
    rng: Rng,
    shape: Shape,
    update_shape: Shape | None = None,
    noise: Tensor | None = None,
    project: Projection | None = None,
    stage: Stage = unwatched,
) -> StepReport:
    """Render `views` to `shape`, compute the method's target, and update phi in place, at `update_shape` if given.

    sigma [] or [B]; rng(purpose) gives the stream of a draw; noise [B, C, *S] is what the method begins with (None:
    fresh); stage(name) is entered around each box. No gradient flows through D or D'.
    """
    with torch.no_grad():
        with stage("render"):
            x0 = phi.render(views, shape).clone()  # a picture that is its own rendering is about to change in place
        sigma = torch.as_tensor(sigma, dtype=x0.dtype, device=x0.device)
        n = gaussian(x0, rng("inversion")) if noise is None else noise.to(x0)  # it may come from a file
        proposal = method(guide, x0, sigma, n, rng, stage)
        x0_hat = proposal.target if project is None else project(proposal.target, views)

    with stage("update"):
        losses = update(phi, views, x0_hat, update_shape or shape)
    return StepReport(x0, proposal, x0_hat, losses)
