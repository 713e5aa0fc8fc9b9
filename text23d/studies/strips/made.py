"""A finished run of a canvas, read again: what it shows, and where the windows were that it was made through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from text23d.contracts import Sampler, Shape
from text23d.engine.folder import SUMMARY
from text23d.engine.resume import read_config
from text23d.errors import UserError
from text23d.files import load_tensors, read_json
from text23d.representation.canvas import Canvas
from text23d.rng import generator
from text23d.settings import build
from text23d.studies.comparison.budget import read_cost
from text23d.studies.records import mapping, number, reading
from text23d.tasks.canvas import CanvasTask
from text23d.windows import Windows


@dataclass(frozen=True)
class Made:
    """prompts: of all of it, or of its halves; cfg, summary: of its run; task, phi: what it is of, and it itself."""

    prompts: Sequence[str]
    folder: Path
    cfg: Mapping[str, Any]
    summary: Mapping[str, Any]
    task: CanvasTask
    phi: Canvas

    @staticmethod
    def read(prompts: Sequence[str], folder: Path) -> Made:
        """Raises UserError where the run's files are damaged, or of something else."""
        cfg = read_config(folder)
        task: CanvasTask = build(cfg.get("task"), "task", CanvasTask, settings=cfg)
        phi: Canvas = build(cfg["representation"], "representation", nn.Module)
        tensors, _ = load_tensors(folder / task.file, Path(task.file).stem)
        try:
            phi.load_state_dict(tensors)
        except RuntimeError as error:
            raise UserError(f"{folder / task.file} does not fit its own settings: repeat the run") from error
        with reading(folder / SUMMARY):
            summary = mapping(read_json(folder / SUMMARY))
        return Made(prompts, folder, cfg, summary, task, phi.requires_grad_(False))

    @property
    def title(self) -> str:
        return ", then ".join(self.prompts)

    @property
    def axis(self) -> int:
        """The long axis."""
        return self.task.axis.axis

    @property
    def wrap(self) -> bool:
        """Whether the long axis goes on at its beginning."""
        return self.task.axis.wrap

    @cached_property
    def whole(self) -> Tensor:
        """[C, *S]."""
        return self.task.whole(self.phi)

    def beside(self, shape: Shape) -> Tensor:
        """The windows of that shape that lie side by side along the long axis, [N, C, *shape]; halfway up the
        others."""
        extents, side = self.phi.shape, shape[self.axis]
        starts = torch.tensor([[(extent - own) // 2 for extent, own in zip(extents, shape, strict=True)]])
        starts = starts.repeat(extents[self.axis] // side, 1)
        starts[:, self.axis] = side * torch.arange(len(starts))
        return Windows(starts, self.task.wraps).cut(self.whole, shape)

    def edges(self) -> Tensor:
        """Where along the long axis the windows of the last iteration began or ended, each place once; the ends of what
        does not wrap are none."""
        sampler: Any = build(self.cfg.get("views"), "views", Sampler)
        last = number(self.summary, "iterations") - 1
        draw = generator(int(number(self.summary, "seed")), 0, int(last), "cameras")
        start = sampler.sample(int(self.cfg["method"]["views"]), draw).start[:, self.axis]
        extent = self.phi.shape[self.axis]
        places = torch.cat([start, start + sampler.window[self.axis]]).unique()
        return (places % extent).unique() if self.wrap else places[(places > 0) & (places < extent)]

    def spent(self) -> dict[str, float]:
        """Evaluations of the network on one window, and seconds of the loop."""
        with reading(self.folder / SUMMARY):
            count = number(self.summary, "iterations")
        return {name: each * count for name, each in vars(read_cost(self.folder)).items()}
