"""One iteration of Algorithm 1 ([0040]-[0045], claim 1): the arrows between the boxes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser, Representation, UserError
from text23d.method.invert import FixedPoint, Inversion, Inverter
from text23d.method.langevin import LevelPreserving, Scheme
from text23d.method.noise import gaussian, rms
from text23d.method.target import target
from text23d.method.update import Updater

Stage = Callable[[str], AbstractContextManager[object]]
"""Entered around a named stage of the iteration, to take its time."""


def unwatched(name: str) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class Method:
    """The strategies of one iteration: how to invert, which Langevin scheme and how many of its steps, which leak."""

    inversion: Inverter = field(default_factory=FixedPoint)
    langevin: Scheme = field(default_factory=LevelPreserving)
    churn: int = 1
    leak: float = 0.0

    def __post_init__(self) -> None:
        if self.churn < 1:
            raise UserError(f"churn = {self.churn}: an iteration takes at least 1 Langevin step; use churn = 1")

    def with_h(self, h: float) -> Method:
        """The same method with another Langevin step, for an h that follows a schedule."""
        return replace(self, langevin=replace(self.langevin, h=h))


@dataclass(frozen=True)
class StepReport:
    """What one iteration did.

    x0, target    [B, C, *S] the rendering, and where it was sent.
    losses        of the update's inner steps.
    nfe           network evaluations on the whole batch; a backward pass counts as 2.
    residual      [B] ||D'(x) - x0|| / ||D'(x0 + sigma n) - x0||.
    noise_ratio   [B] rms(x - D'(x)) over its value on real data at this sigma, or over sigma where that is not known.
    """

    x0: Tensor
    target: Tensor
    losses: list[float]
    nfe: int
    residual: Tensor
    noise_ratio: Tensor


def step(
    phi: Representation[Any],
    views: Any,
    D: Denoiser,
    D_aux: Denoiser,
    c: Any,
    c_aux: Any,
    sigma: Tensor,
    method: Method,
    update: Updater,
    rng: Callable[[str], torch.Generator],
    size: int,
    update_size: int | None = None,
    reference_rms: Callable[[float], float] | None = None,
    stage: Stage = unwatched,
) -> StepReport:
    """Render `views` at `size`, ask the priors where to go, and update phi in place at `update_size` (None: `size`).

    sigma [] or [B]; c and c_aux are what D and D' (D_aux) are told; rng(purpose) gives the stream of a draw;
    reference_rms(sigma) is the tabulated rms(x - D'(x)) of D' on real data; stage(name) is entered around each box.
    No gradient flows through D or D'.
    Where D is D', or D' guided, and both are told the same, the D'(x) of the inversion is not evaluated again.
    """
    with torch.no_grad():
        with stage("render"):
            x0 = phi.render(views, size).clone()  # a picture that is its own rendering is about to change in place
        sigma = torch.as_tensor(sigma, dtype=x0.dtype, device=x0.device)

        with stage("invert"):
            n = gaussian(x0, rng("inversion"))
            inverted = method.inversion(lambda x, level: D_aux(x, level, c_aux), x0, sigma, n)

        with stage("Langevin"):
            shared = c is c_aux and getattr(D, "denoiser", D) is D_aux
            x, stream, last = inverted.x, rng("langevin"), gaussian(x0, rng("langevin before"))
            for k in range(method.churn):
                denoised = _known(D, D_aux, inverted, sigma, c) if shared and k == 0 else D(x, sigma, c)
                e = gaussian(x, stream)
                x, last = method.langevin(x, denoised, sigma, e, last), e

        with stage("target"):
            x0_hat = target(x0, inverted.denoised, D_aux(x, sigma, c_aux), method.leak)

    with stage("update"):
        losses = update(phi, views, x0_hat, update_size or size)

    nfe = (inverted.nfe + 1 - shared) * _cost(D_aux) + method.churn * _cost(D)
    noise_ratio = rms(inverted.x - inverted.denoised) / _reference(sigma, reference_rms)
    return StepReport(x0, x0_hat, losses, nfe, inverted.residual, noise_ratio)


def _known(D: Denoiser, D_aux: Denoiser, inverted: Inversion, sigma: Tensor, c: Any) -> Tensor:
    """D(x) where the inversion has left D'(x), of the same network told the same."""
    if D is D_aux:
        return inverted.denoised
    guided: Any = D
    return guided(inverted.x, sigma, c, towards=inverted.denoised)


def _cost(denoiser: Denoiser) -> int:
    """Network evaluations a call of this denoiser makes: its `evaluations`, or 1."""
    return getattr(denoiser, "evaluations", 1)


def _reference(sigma: Tensor, reference_rms: Callable[[float], float] | None) -> Tensor:
    """sigma [] or [B] -> the rms expected of x - D'(x), as sigma."""
    return sigma if reference_rms is None else sigma.new_tensor([reference_rms(s) for s in sigma.reshape(-1).tolist()])
