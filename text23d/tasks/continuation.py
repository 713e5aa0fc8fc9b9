"""A sound that goes on from a given one."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from text23d import audio
from text23d.contracts import Constraint, Sampler
from text23d.errors import UserError
from text23d.representation.windowing import WindowGrid, WindowSampler
from text23d.tasks.canvas import kept
from text23d.windows import CanvasViews

LEAST = 3
"""Frames of the shortest sound to go on from."""


@dataclass(frozen=True)
class KnownBeginning:
    """A sound to keep as the beginning: audio, a file. Its last 16 ms pass over into what follows."""

    audio: str

    def constrain(self, views: Sampler, single: bool, device: torch.device) -> tuple[Constraint[CanvasViews], Sampler]:
        """See `Known`. Raises UserError for files that do not serve, and for another representation than audio."""
        if not isinstance(views, WindowSampler | WindowGrid) or len(views.whole) != 1:
            raise UserError("constraint=first_sound is the beginning of a sound: choose representation=audio")
        (extent,), (wrap,) = views.whole, views.wraps
        wave, given = audio.read_audio(self.audio, "constraint.audio"), f"constraint.audio={self.audio}"
        if audio.is_silent(wave):
            raise UserError(f"{given}: it is silent; expected a sound to go on from")
        # What is left of the last frame is cut off; a frame that reaches beyond the end of the file is not known.
        x = audio.from_wave(wave[: len(wave) // audio.BINS * audio.BINS], False)[..., : len(wave) // audio.BINS]
        x = x[..., 1:] if wrap else x
        known = x.shape[-1]
        if not LEAST <= known < extent:
            room = f"{LEAST * audio.BINS / audio.RATE:g} to less than {extent * audio.BINS / audio.RATE:g} s"
            raise UserError(
                f"{given} lasts {audio.seconds_of(wave):g} s: expected {room}, the length of what is made; cut it, or "
                "raise representation.seconds"
            )
        values, mask = torch.zeros(audio.BINS, extent), torch.zeros(1, extent)
        values[:, :known], mask[:, :known] = x, 1.0
        return kept(values, mask, device), views


def first_sound(audio: str) -> KnownBeginning:
    """`KnownBeginning` as a configuration says it."""
    return KnownBeginning(audio)
