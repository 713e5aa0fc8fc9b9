"""A piece as a caption tells it, without beginning or end, and as much of its sound as is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from text23d.audio import RATE
from text23d.worlds.sounds.caption import CHORDS, HELD, LEVELS, TEMPOS, Caption
from text23d.worlds.sounds.instruments import DRUM, DRUMS, INSTRUMENTS, PATTERNS, Wave
from text23d.worlds.sounds.pitch import NAMES, degree

TRIAD = (0, 2, 4)
"""White keys of a chord above its root."""
DETACHED = 0.75
"""How much of its time a held note lasts, so that one can be told from the next."""
LONGEST_RING = 1.6
"""Seconds."""


def play(caption: Caption, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """So many seconds out of the middle of a piece, [seconds * RATE], in [-1, 1]."""
    wave = np.zeros(round(seconds * RATE))
    for start, sound in struck(caption, seconds, rng):
        first = round(start * RATE)
        begin, end = max(first, 0), min(first + len(sound), len(wave))
        if begin < end:
            wave[begin:end] += sound[begin - first : end - first]
    return (wave * (LEVELS[caption.loudness] / np.abs(wave).max())).astype(np.float32)


def struck(caption: Caption, seconds: float, rng: np.random.Generator) -> Iterator[tuple[float, Wave]]:
    """All that can be heard in [0, seconds): when it begins, and its sound."""
    held = caption.tempo == HELD
    period = seconds + 2 * LONGEST_RING if held else 1 / TEMPOS[caption.tempo]
    start = -LONGEST_RING if held else -LONGEST_RING - rng.uniform(0, period)
    keys, bar = melody(caption, rng), str(rng.choice(PATTERNS))
    shift = int(rng.integers(len(bar)))
    for index in range(1 if held else int((seconds - start) / period) + 1):
        at, accent = start + index * period, rng.uniform(0.85, 1.0)
        if caption.instrument == DRUM:
            yield at, accent * DRUMS[bar[(index + shift) % len(bar)]](rng)
            continue
        assert caption.pitch is not None, "only drums have none"
        instrument, key = INSTRUMENTS[caption.instrument], next(keys)
        for step in TRIAD if caption.form == "chord" else (0,):
            yield at, accent * instrument.note(degree(caption.pitch, key + step), DETACHED * period, rng)


def melody(caption: Caption, rng: np.random.Generator) -> Iterator[int]:
    """The white keys above the register's c that are played one after the other: a random walk, or always the same."""
    names = CHORDS if caption.form == "chord" else NAMES
    key = NAMES.index(caption.name or str(rng.choice(names)))
    while True:
        yield key
        if caption.form == "melody":
            key = int(rng.choice([to for move in (-2, -1, 1, 2) if 0 <= (to := key + move) < len(NAMES)]))
