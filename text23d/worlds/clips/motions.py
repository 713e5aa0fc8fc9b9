"""How things move. Every motion goes on beyond any window of it: turns and hops repeat, what leaves on one side comes
in on the other, and what comes closer has been coming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SCALES = 0.28, 1.05
"""The smallest and the largest that a thing is seen, 1 filling about five sixths of the frame."""
REACH = 0.7
"""About half of a thing's width at scale 1, in half frames."""


@dataclass(frozen=True)
class Course:
    """Where a thing is in each of F frames.

    azimuth  [F] degrees that the camera stands round from its front: rising, its front turns to the left
    x, y     [F] its centre, in half frames to the right of the middle and above it
    scale    [F] in SCALES
    """

    azimuth: Floats
    x: Floats
    y: Floats
    scale: Floats


def turning(way: float, t: Floats, rng: np.random.Generator) -> Course:
    """A turn in 20 to 36 frames; way 1 is to the left."""
    azimuth = rng.uniform(0, 360) + way * t * 360 / rng.uniform(20, 36)
    return _standing(rng, azimuth, rng.uniform(0.7, 1.05))


def moving(way: float, t: Floats, rng: np.random.Generator) -> Course:
    """Across the frame in 13 to 27 frames, its front ahead; way -1 is to the left. It goes out wholly before it comes
    in on the other side."""
    scale = rng.uniform(0.5, 0.7)
    edge = 1 + REACH * scale
    x = (rng.uniform(0, 2 * edge) + way * rng.uniform(0.11, 0.19) * t) % (2 * edge) - edge
    azimuth = np.full_like(t, -90 * way + rng.uniform(-30, 30))
    return Course(azimuth, x, np.full_like(t, rng.uniform(-0.15, 0.15)), np.full_like(t, scale))


def hopping(t: Floats, rng: np.random.Generator) -> Course:
    """A hop in 7 to 12 frames: a parabola from the ground to the ground."""
    phase = (rng.uniform() + t / rng.uniform(7, 12)) % 1
    y = -0.3 + rng.uniform(0.4, 0.7) * 4 * phase * (1 - phase)
    still = standing(t, rng)
    return Course(still.azimuth, still.x, y, np.full_like(t, rng.uniform(0.5, 0.7)))


def approaching(way: float, t: Floats, rng: np.random.Generator) -> Course:
    """By 2 to 7 % a frame, or less where that would lead beyond SCALES; way -1 is away."""
    low, high = np.log(SCALES)
    growth = min(rng.uniform(0.02, 0.07), (high - low) / t[-1])
    first = rng.uniform(low, high - growth * t[-1])
    still = standing(t, rng)
    return Course(still.azimuth, still.x, still.y, np.exp(first + growth * (t if way > 0 else t[::-1])))


def standing(t: Floats, rng: np.random.Generator) -> Course:
    """Still, its front to be seen."""
    return _standing(rng, np.full_like(t, rng.uniform(-75, 75)), rng.uniform(0.6, 1.05))


def _standing(rng: np.random.Generator, azimuth: Floats, scale: float) -> Course:
    x, y = rng.uniform(-0.12, 0.12, 2)
    return Course(azimuth, *(np.full_like(azimuth, value) for value in (x, y, scale)))


@dataclass(frozen=True)
class Motion:
    """course(t, rng): a random one at the times t [F], in frames. says: the plain words for it, then others."""

    course: Callable[[Floats, np.random.Generator], Course]
    says: tuple[str, ...]


def _sideways(course: Callable[[float, Floats, np.random.Generator], Course], way: float) -> Callable[..., Course]:
    return lambda t, rng: course(way, t, rng)


def _directed(verbs: tuple[str, ...], side: str) -> tuple[str, ...]:
    return tuple(f"{verb} {to}{side}" for to in ("", "to the ") for verb in verbs)


TURN, MOVE = ("turning", "spinning", "rotating"), ("moving", "driving", "sliding", "going")
MOTIONS: dict[str, Motion] = {
    "turning left": Motion(_sideways(turning, 1.0), _directed(TURN, "left")),
    "turning right": Motion(_sideways(turning, -1.0), _directed(TURN, "right")),
    "moving left": Motion(_sideways(moving, -1.0), _directed(MOVE, "left")),
    "moving right": Motion(_sideways(moving, 1.0), _directed(MOVE, "right")),
    "hopping": Motion(hopping, ("hopping", "jumping", "bouncing", "hopping up and down", "jumping up and down")),
    "coming closer": Motion(_sideways(approaching, 1.0), ("coming closer", "coming nearer", "approaching")),
    "going away": Motion(_sideways(approaching, -1.0), ("going away", "moving away", "leaving")),
    "standing still": Motion(standing, ("standing still", "standing", "resting", "waiting")),
}
