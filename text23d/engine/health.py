"""Whether a run is sound, and how it goes on where it is not (claim 15: error correction and self-healing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch

from text23d.contracts import Task
from text23d.errors import Diverged
from text23d.settings import Count, Natural, Positive, number


@dataclass(frozen=True)
class HealthSettings:
    """What `health` in conf/config.yaml explains.

    retries      times in a row that a run may go back; 0: it ends at once.
    rate         what the learning rates are multiplied by each time.
    noise_ratio  the least and the largest mean noise ratio.
    patience     iterations in a row outside that range which are one too many.
    stall        seconds after which an iteration is taken to hang; None: never.
    """

    retries: Natural = 3
    rate: Annotated[float, number(above=0, most=1)] = 0.5
    noise_ratio: tuple[Positive, Positive] = (0.25, 2.5)
    patience: Count = 8
    stall: Positive | None = 1800.0


class Unsound(Diverged):
    """A run has lost its health gradually: it is not known since when."""


class Health:
    """Watches a run. failures: how often it failed since it last got past the iteration where it failed."""

    def __init__(self, settings: HealthSettings) -> None:
        self.settings = settings
        self.failures = 0
        self._failed_at = 0
        self._outside = 0

    def examine(self, figures: Mapping[str, Any], tabulated: bool) -> None:
        """Look at an iteration's figures. tabulated: whether it is known what the noise ratio should be. Raises
        Unsound."""
        iteration, ratio = figures["iteration"], figures["noise_ratio"]
        low, high = self.settings.noise_ratio
        self._outside = 0 if not tabulated or low <= ratio <= high else self._outside + 1
        if self._outside >= self.settings.patience:
            raise Unsound(
                f"the noise ratio was outside {low:g} to {high:g} for {self._outside} iterations, and is {ratio:.3g}"
            )
        if iteration > self._failed_at + self.settings.patience:
            self.failures = 0

    def examine_field(self, task: Task, phi: Any) -> None:
        """Look at phi as a whole. Raises Unsound."""
        fault = task.fault(phi)
        if fault:
            raise Unsound(fault)

    def failed(self, error: Diverged, iteration: int) -> None:
        """Take note of a failure after `iteration`. Raises `error` where there have been too many."""
        self.failures, self._failed_at, self._outside = self.failures + 1, max(iteration, self._failed_at), 0
        if self.failures > self.settings.retries:
            raise error


def finite(state: Any) -> bool:
    """Whether all numbers of a state, nested as `checkpoint.save` takes it, are finite."""
    if isinstance(state, Mapping):
        return all(map(finite, state.values()))
    if isinstance(state, torch.Tensor) and state.is_floating_point() and state.numel():
        return bool(torch.stack(state.aminmax()).isfinite().all())
    return True
