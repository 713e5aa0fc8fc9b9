"""What a run makes: an object or a picture, and all that depends on which of them it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig
from torch import Tensor, nn

from text23d.cameras import Cameras
from text23d.clock import Clock
from text23d.method.proposal import Rng


class Phi(Protocol):
    """phi: a `contracts.Representation`, a torch module, that says which of its parameters want which of the two
    learning rates."""

    def render(self, views: Cameras, size: int) -> Tensor: ...

    def parameters(self) -> Iterable[nn.Parameter]: ...

    def param_groups(self, lr_grid: float, lr_mlp: float) -> list[dict[str, Any]]: ...

    def state_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Left:
    """What a finished subject left in the run's folder: for summary.json, in a few words, and what a person should
    know."""

    summary: dict[str, Any]
    told: str
    notes: list[str]


class Subject(Protocol):
    """phi, and what is made of it. file: the name of its parameters' file; columns: labels of the pictures that the
    contact sheet has of a stage."""

    file: str
    columns: list[str]

    @property
    def phi(self) -> Any: ...

    def prepare(self, iteration: int, draw: Rng) -> None:
        """What phi has to do before an iteration."""
        ...

    def sheet(self) -> Tensor:
        """The contact sheet's pictures of phi as it is, in picture space [B, 4, H, W]."""
        ...

    def judged(self, size: int) -> Tensor:
        """What the judge is to see, in picture space [B, 4, size, size]."""
        ...

    def leave(self, prompt: str, folder: Path, cfg: DictConfig, clock: Clock) -> Left:
        """Write the results of the finished run into `folder`, timing each. Raises UserError if one cannot be
        written."""
        ...
