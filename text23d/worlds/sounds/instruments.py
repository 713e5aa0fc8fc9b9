"""Instruments: sums of partials, each with a strength and a decay of its own, and drums of noise and falling tones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from text23d.audio import RATE

Wave = NDArray[np.float64]
INAUDIBLE = 0.002
"""The share of its strength at which a decaying partial ends."""


@dataclass(frozen=True)
class Instrument:
    """How a note of one sounds.

    partials  (multiple of the note's frequency, strength, decay in 1/s)
    attack    seconds until a note has its full strength
    breath    strength of the noise that goes with it
    held      whether a note lasts as long as it is held, instead of dying away
    also      other words for it
    """

    partials: tuple[tuple[float, float, float], ...]
    attack: float
    breath: float = 0.0
    held: bool = False
    also: tuple[str, ...] = ()

    @property
    def ring(self) -> float:
        """Seconds that a note sounds on after it is let go, or struck."""
        return RELEASE if self.held else math.log(1 / INAUDIBLE) / min(decay for _, _, decay in self.partials)

    def note(self, frequency: float, seconds: float, rng: np.random.Generator) -> Wave:
        """A note of so many hertz, held for `seconds`, [samples]; its partials begin at random phases."""
        t = np.arange(int(((seconds if self.held else 0.0) + self.ring) * RATE)) / RATE
        wave = self.breath * rng.standard_normal(len(t)) if self.breath else np.zeros(len(t))
        for multiple, strength, decay in self.partials:
            if multiple * frequency < 0.48 * RATE:
                tone = np.sin(2 * np.pi * (multiple * frequency * t + rng.random()))
                wave += strength * (tone * np.exp(-decay * t) if decay else tone)
        wave *= rise(t / self.attack)
        return wave * rise((seconds + RELEASE - t) / RELEASE) if self.held else wave


RELEASE = 0.04
"""Seconds in which a held note ends."""


def rise(t: Wave) -> Wave:
    """Half a cosine from 0 at t = 0 to 1 at t = 1."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(t, 0.0, 1.0))


INSTRUMENTS: Mapping[str, Instrument] = {
    # The partials of a church bell above its strike note: minor third, fifth, octave and beyond.
    "bell": Instrument(
        ((1.0, 1.0, 4.0), (2.0, 0.6, 5.0), (2.4, 0.35, 6.5), (3.0, 0.3, 8.0), (4.0, 0.3, 10.0), (5.4, 0.2, 14.0)),
        attack=0.002,
        also=("chime",),
    ),
    "flute": Instrument(((1.0, 1.0, 0.0), (2.0, 0.2, 0.0), (3.0, 0.06, 0.0)), attack=0.05, breath=0.02, held=True),
    "string": Instrument(
        tuple((float(n), math.sin(0.4 * n * math.pi) / n, 4.0 + 2.0 * n) for n in range(1, 11) if n % 5),
        attack=0.003,
        also=("guitar", "harp"),
    ),
    "organ": Instrument(
        ((1.0, 1.0, 0.0), (2.0, 0.7, 0.0), (3.0, 0.5, 0.0), (4.0, 0.4, 0.0), (6.0, 0.3, 0.0), (8.0, 0.25, 0.0)),
        attack=0.015,
        held=True,
    ),
}
"""Those with a pitch."""
DRUM = "drum"


def kick(rng: np.random.Generator) -> Wave:
    """A tone that falls from 160 to 50 Hz in 0.25 s."""
    t = np.arange(int(0.25 * RATE)) / RATE
    return np.sin(2 * np.pi * (50 * t + 110 * 0.03 * (1 - np.exp(-t / 0.03)))) * np.exp(-12 * t) * rise(t / 0.002)


def snare(rng: np.random.Generator) -> Wave:
    """Noise and a tone of 190 Hz, for 0.2 s."""
    t = np.arange(int(0.2 * RATE)) / RATE
    return (0.5 * rng.standard_normal(len(t)) + 0.5 * np.sin(2 * np.pi * 190 * t)) * np.exp(-22 * t) * rise(t / 0.002)


def hat(rng: np.random.Generator) -> Wave:
    """Noise without its low half, for 0.08 s."""
    t = np.arange(int(0.08 * RATE)) / RATE
    noise = rng.standard_normal(len(t) + 1)
    return 0.3 * np.diff(noise) * np.exp(-50 * t) * rise(t / 0.002)


DRUMS: Mapping[str, Callable[[np.random.Generator], Wave]] = {"k": kick, "s": snare, "h": hat}
PATTERNS = ("khsh", "kksh", "ksks", "khss")
"""What is struck on the steps of a bar."""
