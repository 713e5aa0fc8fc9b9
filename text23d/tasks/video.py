"""A video, seen through windows in time: exported as an mp4 and a film strip; and what of it may be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.footage import read_clip
from text23d.artifact.media import contact_sheet, on_white, turntable, upscale
from text23d.contracts import Constraint, Exported, Progress, Sampler, Stage
from text23d.errors import UserError
from text23d.representation.canvas import Canvas
from text23d.representation.image import resized
from text23d.representation.video import Frames, Rate, Side
from text23d.representation.windowing import WindowGrid, WindowSampler
from text23d.settings import Flag, checked
from text23d.tasks.canvas import CanvasTask, kept
from text23d.tasks.regions import Axis, read_regions
from text23d.windows import CanvasViews

VIDEO, STRIP = "video.mp4", "strip.png"
SHOWN = 256
"""The side of a frame of video.mp4 in pixels, at the least; a multiple of 16."""
STRIP_SIDE, ACROSS = 96, 8
"""Of the strip: the side of a frame in pixels, and frames in a row."""
LOOKS = 16
"""Frames that a preview shows."""
BLEND = 4
"""Frames over which one prompt passes into the next."""


@dataclass(frozen=True)
class VideoTask(CanvasTask):
    """Implements `contracts.Task`. rate: frames a second."""

    rate: float = 8.0

    name = "video"
    file = "video.safetensors"
    columns = ("video",)

    def preview(self, phi: Canvas) -> Tensor:
        """LOOKS frames, evenly over the video, in two rows of twice their size: [1, 4, 4 S, LOOKS S]."""
        frames = self.frames(phi)
        looks = frames[torch.linspace(0, len(frames) - 1, LOOKS).round().long()]
        looks = resized(looks, (2 * looks.shape[2], 2 * looks.shape[3]))
        rows = looks.unflatten(0, (2, LOOKS // 2)).permute(2, 0, 3, 1, 4)
        return rows.reshape(1, 4, 2 * looks.shape[2], -1)

    def frames(self, phi: Canvas) -> Tensor:
        """All of it as pictures, [F, 4, S, S]."""
        return self.whole(phi).transpose(0, 1)

    def export(self, phi: Canvas, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """video.mp4, enlarged and over white, and strip.png, every frame."""
        pictures = on_white(self.frames(phi))
        side = max(SHOWN, -(-pictures.shape[1] // 16) * 16)
        with stage("video"):
            count = turntable((upscale(picture, side) for picture in pictures), folder / VIDEO, self.rate)
        with stage("strip"):
            contact_sheet(strip(pictures, self.rate), folder / STRIP)
        seconds = count / self.rate
        facts = {"file": VIDEO, "frames": count, "rate": self.rate, "seconds": seconds, "wrap": self.axis.wrap}
        return Exported({"video": facts}, f"{VIDEO} of {count} frames, {seconds:.3g} s, and {STRIP}")


def strip(pictures: np.ndarray, rate: float) -> list[tuple[str, list[np.ndarray]]]:
    """The frames in rows under the time of their first."""
    rows = []
    for start in range(0, len(pictures), ACROSS):
        row = [upscale(picture, STRIP_SIDE) for picture in pictures[start : start + ACROSS]]
        rows.append((f"{start / rate:.3g} s", row))
    return rows


def task(settings: Mapping[str, Any]) -> VideoTask:
    """The task of a configuration, which reads of it what `representation.video` has, and the prompts of its regions.
    Raises UserError for what is out of range, and for regions that do not fit."""
    section = settings.get("representation") or {}
    if "frames" not in section:
        raise UserError("task=video: expected frames to make; use representation=video")
    frames = checked(section["frames"], Frames, "representation.frames")
    size, rate, wrap = (
        checked(section.get(name, default), kind, f"representation.{name}")
        for name, default, kind in (("size", 32, Side), ("rate", 8.0, Rate), ("wrap", False, Flag))
    )
    axis = Axis((frames, size, size), 0, rate, "seconds", BLEND, wrap)
    return VideoTask(axis, read_regions(settings.get("regions"), axis), rate=rate)


@dataclass(frozen=True)
class FirstClip:
    """What a video begins with. clip: a file or a folder; rate: of the video."""

    clip: str
    rate: float

    def constrain(self, views: Sampler, single: bool, device: torch.device) -> tuple[Constraint[CanvasViews], Sampler]:
        """See `tasks.constraints.Known`. Raises UserError, too, for a clip as long as the video."""
        if not isinstance(views, WindowSampler | WindowGrid):
            raise UserError("constraint=first_clip: expected a video, which windows look at; use representation=video")
        frames, *sides = views.whole
        given = read_clip(self.clip, "constraint.clip", self.rate, frames)
        if len(given) >= frames:
            raise UserError(
                f"constraint.clip={self.clip}: it has {frames} frames or more at {self.rate:g} a second, and the video "
                f"{frames}: nothing is left to make; use a larger representation.frames"
            )
        values, mask = torch.zeros(4, *views.whole), torch.zeros(1, *views.whole)
        values[:, : len(given)], mask[:, : len(given)] = resized(given, tuple(sides)).transpose(0, 1), 1.0
        return kept(values, mask, device), views


def first_clip(clip: str, rate: Rate = 8.0) -> FirstClip:
    """`FirstClip` as a configuration says it."""
    return FirstClip(clip, rate)
