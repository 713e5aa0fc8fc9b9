"""A sound of any length, which leaves itself and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from text23d import audio, lapped
from text23d.contracts import Exported, Progress, Shape, Stage
from text23d.pictures import write_picture
from text23d.representation.audio import Seconds
from text23d.representation.canvas import Canvas
from text23d.settings import Flag, read
from text23d.tasks.canvas import CanvasTask
from text23d.tasks.listening import Listener
from text23d.tasks.regions import Axis, read_regions

WAV, PICTURE = "audio.wav", "audio.png"
PREVIEW = 128, 640
WIDEST = 2000
"""Pixels of the largest picture."""
BLEND = 0.5
"""Seconds in which one prompt passes into the next."""


@dataclass(frozen=True)
class Extent:
    """What `representation` says of a sound: see `representation.audio.sound`."""

    seconds: Seconds = 10.0
    wrap: Flag = False


@dataclass(frozen=True)
class AudioTask(CanvasTask):
    """Implements `contracts.Task`. listener: what hears whether the sound is as asked; None: nobody does."""

    listener: Listener | None = None

    name: ClassVar = "audio"
    file: ClassVar = "audio.safetensors"
    columns: ClassVar = ("spectrogram",)

    @torch.no_grad()
    def preview(self, phi: Canvas) -> Tensor:
        return picture(self.whole(phi), PREVIEW)

    @torch.no_grad()
    def export(self, phi: Canvas, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """audio.wav, and audio.png: time from left to right, frequency from 0 Hz at the bottom to half of the rate."""
        x = self.whole(phi)
        with stage("audio"):
            wave = audio.to_wave(x.float().cpu(), self.axis.wrap)
            gain = audio.write_wav(folder / WAV, wave)
            write_picture(folder / PICTURE, picture(x, (256, min(2 * x.shape[-1], WIDEST)))[0])
            heard = self.listener.heard(wave.numpy(), prompt) if self.listener and self.regions is None else {}
        seconds = audio.seconds_of(wave)
        facts = {"file": WAV, "seconds": seconds, "rate": audio.RATE, "loop": self.axis.wrap, "gain": gain, **heard}
        notes = [] if gain == 1 else [f"{WAV} was made quieter, by {gain:.2f}, so that nothing of it is cut off"]
        return Exported({"audio": facts}, f"{WAV} of {seconds:g} s and {PICTURE}", notes)


def picture(x: Tensor, shape: Shape) -> Tensor:
    """A spectrogram of coefficients [bins, F], in picture space [1, 4, *shape]."""
    shown = lapped.picture(x[None].float())
    shrunk = F.interpolate(shown, (shown.shape[2], min(shape[1], shown.shape[3])), mode="area")
    return F.interpolate(shrunk, shape, mode="nearest")


def task(settings: Mapping[str, Any]) -> AudioTask:
    """The task of a configuration, of which it reads `representation`, `regions` and `world`. Raises UserError for a
    length out of range, and for regions that do not fit it."""
    extent = read(Extent, settings["representation"], "representation.")
    count = audio.frames(extent.seconds, extent.wrap)
    unit = count / extent.seconds  # ranges may end where it was said that the sound ends, whatever that is in frames
    axis = Axis((count,), 0, unit, "seconds", round(BLEND * unit), extent.wrap)
    return AudioTask(axis, read_regions(settings.get("regions"), axis), listener=Listener.of(settings.get("world")))
