"""Whether a sound is as its prompt asks, by arithmetic alone: tempo by onsets, pitch by the peaks of the spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from text23d import audio
from text23d.artifact import hearing
from text23d.errors import UserError
from text23d.settings import build
from text23d.worlds.sounds.caption import HELD, TEMPOS, Caption
from text23d.worlds.sounds.pitch import NAMES, degree
from text23d.worlds.sounds.world import Sounds

QUARTER_TONE = 50.0
"""Cents."""
SHORTEST, LONGEST = 0.12, 1.0
"""Seconds of a note whose pitch can be told; longer ones are heard in pieces."""
ATTACK = 0.02
"""Seconds after an onset that are left out: noise, and what sounded before."""


@dataclass(frozen=True)
class Listener:
    """Who knows what prompts of the world of sounds ask for."""

    world: Sounds

    @staticmethod
    def of(section: Any) -> Listener | None:
        """The listener of a configuration's world; None where that is another than sounds."""
        world = build(section, "world") if isinstance(section, Mapping) else None
        return Listener(world) if isinstance(world, Sounds) else None

    def heard(self, wave: hearing.Wave, prompt: str) -> dict[str, float | int | None]:
        """Of samples [T] at `audio.RATE`:

        notes_per_second, asked_notes_per_second  by onsets; None: too few, or none are asked for
        notes, in_tune                            how many pitches were told, and the share of them within a quarter
                                                  tone of one that the prompt asks for; of notes and melodies alone
        """
        found = hearing.tempo(wave, audio.RATE)
        facts: dict[str, float | int | None] = {"notes_per_second": None if np.isnan(found) else found}
        try:
            caption = self.world.read(prompt)
        except UserError:
            return facts
        facts["asked_notes_per_second"] = None if caption.tempo == HELD else TEMPOS[caption.tempo]
        if caption.form in ("note", "melody"):
            off = [nearest(each, caption) for each in pitches(wave, caption.tempo == HELD)]
            facts["notes"] = len(off)
            facts["in_tune"] = float(np.mean([each <= QUARTER_TONE for each in off])) if off else None
        return facts


def pitches(wave: hearing.Wave, held: bool) -> list[float]:
    """The frequency in hertz of each note of samples [T], between one onset and the next; of a held one, of each piece
    of SHORTEST or more."""
    end = len(wave) / audio.RATE
    starts = np.arange(0.0, end, LONGEST) if held else hearing.onsets(wave, audio.RATE)
    found = []
    for start, stop in pairwise([*starts, end]):
        if stop - start >= SHORTEST:
            note = wave[int((start + ATTACK) * audio.RATE) : int(min(stop, start + LONGEST) * audio.RATE)]
            found.append(hearing.pitch(note, audio.RATE))
    return found


def nearest(frequency: float, caption: Caption) -> float:
    """How far a frequency is, in cents, from the nearest that a note or melody of this caption may have."""
    assert caption.pitch is not None, "a drum has no notes"
    keys = range(len(NAMES)) if caption.name is None else [NAMES.index(caption.name)]
    return min(abs(hearing.cents(frequency, degree(caption.pitch, key))) for key in keys)
