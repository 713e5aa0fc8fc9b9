"""The fine stage of an object's run: its last iterations look at it through windows, which show four times the detail
of whole views at the same cost ([0036])."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch

from text23d.cameras import Cameras
from text23d.closeups import Closeups, draw_corners
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.method.draft import Draft
from text23d.method.schedule import Schedule
from text23d.paths import weights_dir
from text23d.prior.builtin.guide import guide
from text23d.prior.wrappers.guidance import Scale
from text23d.prior.wrappers.rule import PLAIN, Rule
from text23d.representation.nerf import Nerf
from text23d.settings import number

WEIGHTS = "prior_fine.safetensors"
Begin = Annotated[float, number(least=0, below=1)]


@dataclass(frozen=True)
class Fine:
    """guide: D and D' of windows; begin: the run's progress in [0, 1) from which on it sees them; sigma: noise levels,
    as a function of the progress from there to the run's end; draft: how Algorithm 1 begins; None: as it goes on."""

    guide: Guide
    begin: float
    sigma: Schedule
    draft: Draft | None = None

    def progress(self, progress: float) -> float | None:
        """How far the stage is at this progress of the run, in [0, 1]; None before it begins."""
        return None if progress < self.begin else (progress - self.begin) / (1 - self.begin)

    def look(self, phi: Nerf, cameras: Cameras, count: int, which: torch.Tensor, stream: torch.Generator) -> Closeups:
        """A window of each of these cameras, which are those `which` of the iteration's `count`, and the whole of phi
        as they see it now."""
        corner = draw_corners(count, stream)[which].to(cameras.azimuth.device)
        return Closeups(cameras, corner, phi.render_image(cameras, self.guide.shape))


def fine(
    request: Request,
    begin: Begin,
    sigma: Schedule,
    draft: Draft | None = None,
    guidance: Scale = 1.5,
    weights: str | None = None,
    negative: str | None = None,
    rule: Rule | None = None,
) -> Fine:
    """The stage for what is asked, as `conf/stage/fine.yaml` explains it. Raises UserError for bad weights, for words
    that they do not know, and for a draft that goes on when windows are seen."""
    if draft is not None and draft.end > begin:
        raise UserError(f"stage.draft.end={draft.end:g} comes after stage.begin={begin:g}: draw it no longer than that")
    windows = guide(request, weights or str(weights_dir() / WEIGHTS), guidance, negative, rule=rule or PLAIN)
    return Fine(replace(windows, watched=True), begin, sigma, draft)
