"""A picture, seen by one view, which leaves itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Constraint, Exported, Progress, Sampler, Shape, Stage, Task, Views
from text23d.errors import UserError
from text23d.pictures import write_picture
from text23d.representation.image import MlpImage, PixelImage
from text23d.tasks.building import seeded

Image = PixelImage | MlpImage
IMAGE = "image.png"
PREVIEW_SIZE = 192


@dataclass(frozen=True)
class PictureTask:
    """Implements `contracts.Task`. view: the only one; constraint: in picture space, kept exactly by what is shown,
    judged and exported."""

    view: Views | None = None
    constraint: Constraint[Any] | None = None

    file = "image.safetensors"
    columns = ("picture",)
    single = True
    regions = None

    def build(self, section: Mapping[str, Any], seed: int, device: torch.device) -> Image:
        image: Image = seeded(section, seed, device, (PixelImage, MlpImage), "picture")
        return image

    def bound(self, views: Sampler, constraint: Constraint[Any], device: torch.device) -> Task:
        if views.count != 1:
            raise UserError("an image is seen by one camera, which the prior is told: choose views=one")
        return replace(self, view=views.sample(1).to(device), constraint=constraint)

    def prepare(self, phi: Image, iteration: int, draw: Callable[[str], torch.Generator]) -> None:
        """A picture requires nothing."""

    def penalty(self, phi: Image, progress: float, draw: Callable[[str], torch.Generator]) -> None:
        """A picture has no other loss."""

    def fault(self, phi: Image) -> str:
        """Whether the picture is of one colour."""
        picture = self.picture(phi, (phi.size, phi.size))
        return "the picture is of one colour" if bool((picture == picture[..., :1, :1]).all()) else ""

    def preview(self, phi: Image) -> Tensor:
        size = max(phi.size, PREVIEW_SIZE)
        return self.picture(phi, (size, size))

    @torch.no_grad()
    def picture(self, phi: Image, shape: Shape) -> Tensor:
        """[1, 4, *shape], what is known of it kept."""
        assert self.view is not None and self.constraint is not None, "the task of a run is bound to its views"
        return self.constraint.project(phi.render(self.view, shape), self.view)

    def judged(self, phi: Image, shape: Shape) -> list[Tensor]:
        return [self.picture(phi, shape)]

    def export(self, phi: Image, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """image.png, at phi's own resolution."""
        size = phi.size
        with stage("image"):
            write_picture(folder / IMAGE, self.picture(phi, (size, size))[0])
        return Exported({"image": {"file": IMAGE, "size": size}}, f"{IMAGE} of {size} x {size} pixels")


def task(settings: Mapping[str, Any]) -> PictureTask:
    """The task of a configuration, of which it reads nothing."""
    return PictureTask()
