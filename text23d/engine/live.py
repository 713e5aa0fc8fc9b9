"""What a run shows to a viewer, and hears from it, through the folder `viewer` in its own: snapshots, a status and
commands. The viewer is another process, and may be gone, or several: the run waits for none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from text23d.engine import commands, snapshots
from text23d.engine.folder import VIEWER
from text23d.errors import UserError
from text23d.files import read_json, write_json
from text23d.guide import Guide
from text23d.method.step import StepReport
from text23d.settings import Flag, Positive, whole
from text23d.spaces import from_picture

STATUS, WATCHED = f"{VIEWER}/status.json", f"{VIEWER}/watched"
SHARE = 0.02
"""Of a run's time that snapshots may take: where they take longer, there are fewer."""
FRESH = 5.0
"""Seconds for which a viewer is taken to be watched after it said so."""
SIDE_BY_SIDE = 4
"""Views of an iteration whose pictures are kept."""


@dataclass(frozen=True)
class ViewerSettings:
    """What conf/viewer/on.yaml explains."""

    active: Flag = False
    start: Flag = True
    port: Annotated[int, whole(1, 65_535)] = 8080
    keep: Flag = False
    snapshots: Annotated[int, whole(1, 1000)] = 24
    every: Positive = 1.0


class Live:
    """Of the run in `folder`, of so many iterations. Raises UserError where the folder cannot be written to.

    scores: what the judge said, [iteration, score] each. news: lines that a person should know of a viewer, each once.
    """

    def __init__(self, folder: Path, settings: ViewerSettings, iterations: int, note: Callable[[str], None]) -> None:
        self.folder, self.settings, self.iterations, self.note = folder, settings, iterations, note
        self.scores: list[list[float]] = []
        self.report: StepReport | None = None
        self._wrote, self._wait, self._last = 0.0, 0.0, -1
        self._told: Mapping[str, Any] = {}
        self.failed = False
        self.news: Callable[[], Sequence[str]] = list
        commands.ready(folder)

    def begin(self, iteration: int) -> None:
        """Before the first iteration of this process, which is number `iteration` + 1."""
        with suppress(UserError, KeyError, TypeError):
            self.scores = [[int(each[0]), float(each[1])] for each in read_json(self.folder / STATUS)["scores"]]
        self.back_to(iteration)

    def back_to(self, iteration: int) -> None:
        """What came after this iteration is taken again."""
        self.scores = [each for each in self.scores if each[0] <= iteration]
        for later, path in snapshots.listed(self.folder).items():
            if later > iteration and path.parent.name == "snapshots":
                path.unlink(missing_ok=True)
        self.report, self._last = None, -1

    def received(self) -> Iterator[commands.Command | UserError]:
        return commands.received(self.folder)

    def see(self, report: StepReport) -> None:
        """The iteration that is being taken: what it rendered, and where that was to go."""
        self.report = report

    @property
    def watched(self) -> bool:
        """Whether somebody looks at a viewer."""
        try:
            return time.time() - (self.folder / WATCHED).stat().st_mtime < FRESH
        except OSError:
            return False

    def due(self, iteration: int) -> bool:
        """Whether a snapshot is to be written now: a part of the run has passed without one, or somebody looks; and the
        last one is paid for."""
        if self.failed or iteration == self._last or time.monotonic() < self._wrote + self._wait:
            return False
        return self._part(iteration) > self._part(self._last) or self.watched

    def _part(self, iteration: int) -> int:
        return -1 if iteration < 0 else iteration * self.settings.snapshots // self.iterations

    def show(self, iteration: int, phi: Callable[[], nn.Module], guide: Guide, world: Any, representation: Any) -> None:
        """Write a snapshot if one is due. phi: called for what is shown."""
        if not self.due(iteration):
            return
        start = time.monotonic()
        try:
            snapshots.write(self.folder, iteration, phi(), representation, self.pictures(guide, world))
            if self._last >= 0 and self._part(self._last) == self._part(iteration):
                snapshots.path_of(self.folder, self._last).unlink(missing_ok=True)
        except UserError as error:  # such as that the disk is full: the run itself goes on
            self.failed = True
            self.note(f"{error}; the viewer gets no more snapshots")
        self._wrote, self._last = time.monotonic(), iteration
        self._wait = max(self.settings.every, (self._wrote - start) / SHARE)

    @torch.no_grad()
    def pictures(self, guide: Guide, world: Any) -> Tensor | None:
        """[3, H, W, 3] uint8: what the last iteration rendered, its target, and half their difference, over mid grey;
        views side by side. None before the first iteration."""
        if self.report is None:
            return None
        found = [colour(x[:SIDE_BY_SIDE], guide, world) for x in (self.report.x0, self.report.target)]
        rendered, target = (x.float().cpu().permute(1, 2, 0, 3).flatten(2) for x in found)
        rows = torch.stack([rendered, target, 0.5 + (target - rendered) / 2])
        return (rows.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous()

    def tell(self, state: str, prompt: str, guidance: Mapping[str, float | None], iteration: int) -> None:
        """Write the status, where it is another than before. state: running or paused."""
        status = {"state": state, "iteration": iteration, "iterations": self.iterations, "prompt": prompt}
        told = {**status, "guidance": dict(guidance), "scores": [list(each) for each in self.scores]}
        unchanged = {**told, "iteration": 0} == {**self._told, "iteration": 0}
        if not unchanged:
            self._told = told
            with suppress(UserError):
                write_json(self.folder / STATUS, told)


def colour(x: Tensor, guide: Guide, world: Any) -> Tensor:
    """What a prior sees, x [B, C, *S], as colour [B, 3, H, W] in [0, 1] over mid grey."""
    if guide.latents is not None:
        return (guide.latents.decode(x)[:, :3] + 1) / 2
    if x.dim() != 4 or x.shape[1] not in (3, 4):
        x = world.shown(x)
    if x.shape[1] == 3:
        return (x + 1) / 2
    premultiplied, alpha = from_picture(x)
    return premultiplied + (1 - alpha) / 2


def guidances(cfg: Mapping[str, Any], sections: Mapping[str, str]) -> dict[str, float | None]:
    """The scale of guidance in each of these sections of a configuration; None where there is none."""
    found = {name: cfg.get(section) for name, section in sections.items()}
    return {name: each.get("guidance") if isinstance(each, Mapping) else None for name, each in found.items()}
