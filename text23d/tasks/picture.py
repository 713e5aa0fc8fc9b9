"""A picture as what a run makes: seen from one camera, it leaves itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from omegaconf import DictConfig
from torch import Tensor

from text23d.cameras import Cameras
from text23d.clock import Clock
from text23d.contracts import Constraint
from text23d.method.proposal import Rng
from text23d.pictures import write_picture
from text23d.tasks.task import Left, Phi


class Image(Phi, Protocol):
    """A picture as phi, and the side in pixels at which it is left."""

    size: int


IMAGE = "image.png"
SHEET_SIZE = 192


@dataclass(frozen=True)
class Flat:
    """Implements `subject.Subject`. view: the one camera; constraint: in picture space, kept exactly by what is shown,
    judged and left."""

    phi: Image
    view: Cameras
    constraint: Constraint[Cameras]

    file = "image.safetensors"
    columns = ["picture"]

    def prepare(self, iteration: int, draw: Rng) -> None:
        """A picture needs nothing."""

    def sheet(self) -> Tensor:
        return self.judged(max(self.phi.size, SHEET_SIZE))

    def judged(self, size: int) -> Tensor:
        with torch.no_grad():
            return self.constraint.project(self.phi.render(self.view, size), self.view)

    def leave(self, prompt: str, folder: Path, cfg: DictConfig, clock: Clock) -> Left:
        """image.png, at phi's own resolution."""
        size = self.phi.size
        with clock.stage("image"):
            write_picture(folder / IMAGE, self.judged(size)[0])
        return Left({"image": {"file": IMAGE, "size": size}}, f"{IMAGE} of {size} x {size} pixels", [])
