"""The noise that a pretrained model was trained with, and its network as D by what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Denoiser
from text23d.errors import UserError
from text23d.prior.hub.index import Index
from text23d.prior.hub.parts import read
from text23d.prior.wrappers.flow import RectifiedFlow
from text23d.prior.wrappers.rule import Prediction
from text23d.prior.wrappers.vp import Consistency, VariancePreserving, sigma_table

Call = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class Noise:
    """prediction: what the network says. sigmas: the noise level of each timestep, [T]; None: those of a flow.
    consistency: (sigma_data, scale of timesteps) of a latent consistency model; None: it is none."""

    prediction: Prediction
    sigmas: Tensor | None = None
    consistency: tuple[float, float] | None = None

    def denoiser(self, network: Call, device: torch.device) -> Denoiser:
        """D of a network (x, t, c) -> its prediction, in the units of its training data."""
        if self.sigmas is None:
            return RectifiedFlow(network)
        inner = VariancePreserving(network, self.sigmas.to(device), self.prediction)
        return inner if self.consistency is None else Consistency(inner, *self.consistency)


def noise_of(index: Index) -> Noise:
    """By the settings of the model's scheduler. Raises UserError where they are missing or of another kind of noise."""
    from diffusers import DDPMScheduler

    scheduler = read(index.folder, "scheduler", DDPMScheduler)
    settings = index.config("scheduler")
    kind, prediction = str(settings.get("_class_name")), str(settings.get("prediction_type", "epsilon"))
    if kind.startswith("FlowMatch") or prediction == "flow_prediction":
        return Noise("flow")
    if "beta_schedule" not in settings and "trained_betas" not in settings:
        raise UserError(
            f"the scheduler of {index.folder}, {kind}, has no betas and is none of a flow: expected a model trained "
            "with variance-preserving noise or by flow matching; choose another model"
        )
    consistency = None
    if kind == "LCMScheduler":
        consistency = 0.5, float(settings.get("timestep_scaling", 10.0))  # the 0.5 is fixed in that scheduler
    return Noise(prediction, sigma_table(scheduler.alphas_cumprod), consistency)  # type: ignore[arg-type]
