"""Pitches of the world: the white keys of three octaves, in equal temperament from a' = 440 Hz."""

from __future__ import annotations

SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
"""Of a name above its octave's c."""
NAMES = tuple(SEMITONES)
REGISTERS = {"low": 3, "middle": 4, "high": 5}
"""The number of an octave in scientific pitch notation; a' is a4."""


def frequency(name: str, octave: int) -> float:
    """Of a pitch, in hertz: frequency("a", 4) = 440."""
    return 440.0 * 2.0 ** ((SEMITONES[name] + 12 * (octave - 4) - 9) / 12)


def degree(register: str, step: int) -> float:
    """The frequency in hertz so many white keys above the register's c."""
    octaves, key = divmod(step, len(NAMES))
    return frequency(NAMES[key], REGISTERS[register] + octaves)
