"""A sound, longer than those that its prior knows, as coefficients over time."""

from __future__ import annotations

from typing import Annotated

from text23d import audio
from text23d.representation.canvas import Canvas
from text23d.settings import Flag, number

Seconds = Annotated[float, number(least=1.1, most=7200)]
"""At least a little more than a window of the built-in prior."""


def sound(seconds: Seconds = 10.0, wrap: Flag = False) -> Canvas:
    """Silence of so many seconds; wrap: it goes on at its beginning. Raises UserError where it does not fit into
    memory."""
    return Canvas(audio.BINS, (audio.frames(seconds, wrap),))
