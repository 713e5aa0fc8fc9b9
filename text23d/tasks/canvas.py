"""What is larger than the prior's examples, of whatever medium: what tasks of canvases share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from text23d.contracts import Constraint, Exported, Progress, Sampler, Shape, Stage, Task
from text23d.method.constraints import Inpaint, Unconstrained
from text23d.representation.canvas import Canvas
from text23d.representation.windowing import WindowGrid
from text23d.tasks.building import seeded
from text23d.tasks.regions import Axis, Regions
from text23d.windows import CanvasViews, Windows

FREE = Unconstrained()


@dataclass(frozen=True)
class CanvasTask(ABC):
    """Implements `contracts.Task` but for what a medium looks like. constraint: of a run, in the canvas' own space;
    what is known is kept exactly by what is shown, judged and exported."""

    axis: Axis
    regions: Regions | None = None
    constraint: Constraint[Any] = FREE

    name: ClassVar[str]
    file: ClassVar[str]
    columns: ClassVar[Sequence[str]]
    single: ClassVar[bool] = False

    @abstractmethod
    def preview(self, phi: Canvas) -> Tensor:
        """See `contracts.Task`."""

    @abstractmethod
    def export(self, phi: Canvas, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """See `contracts.Task`."""

    def build(self, section: Mapping[str, Any], seed: int, device: torch.device) -> Canvas:
        phi: Canvas = seeded(section, seed, device, (Canvas,), self.name)
        return phi

    def bound(self, views: Sampler, constraint: Constraint[Any], device: torch.device) -> Task:
        return replace(self, constraint=constraint)

    def prepare(self, phi: Canvas, iteration: int, draw: Callable[[str], torch.Generator]) -> None:
        """A canvas requires nothing."""
        return None

    def penalty(self, phi: Canvas, progress: float, draw: Callable[[str], torch.Generator]) -> None:
        """A canvas has no other loss."""
        return None

    def fault(self, phi: Canvas) -> str:
        """Whether it is the same everywhere."""
        whole = phi.values.detach()
        return f"the {self.name} is the same everywhere" if bool(whole.min() == whole.max()) else ""

    @torch.no_grad()
    def whole(self, phi: Canvas) -> Tensor:
        """All of it, [C, *S]."""
        everything = Windows(torch.zeros(1, len(phi.shape), dtype=torch.int64, device=phi.values.device), self.wraps)
        return self.constraint.project(phi.values.detach()[None], everything)[0]

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Along each axis, whether it goes on at its beginning."""
        return tuple(self.axis.wrap and each == self.axis.axis for each in range(len(self.axis.shape)))

    @torch.no_grad()
    def judged(self, phi: Canvas, shape: Shape) -> list[Tensor]:
        """Windows half of which overlap, all over it; with regions, those of each that show no other's."""
        whole = self.whole(phi)
        stride = tuple(max(1, side // 2) for side in shape)
        views = WindowGrid(phi.shape, shape, stride, self.wraps).all().to(whole.device)
        return self.parted(views, views.cut(whole, shape), shape)

    def parted(self, views: Any, x: Tensor, shape: Shape) -> list[Tensor]:
        """What views show, x [B, C, *shape], by region: those of each that show no other's; all without regions."""
        if self.regions is None:
            return [x]
        which = self.regions.alone(views, shape)
        return [x[which == region] for region in range(len(self.regions.prompts))]


def kept(values: Tensor, mask: Tensor, device: torch.device) -> Inpaint[CanvasViews]:
    """The constraint of a canvas of which values [C, *S] are known where mask [1, *S] is 1."""
    known, mask = Canvas(len(values), tuple(values.shape[1:])).requires_grad_(False), mask.to(device)
    known.values.copy_(values)
    return Inpaint(known.to(device), lambda views, shape: views.cut(mask, shape))
