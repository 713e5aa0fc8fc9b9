"""The kinds of object: one parametric family a file, each a function build(rng, colour) -> parts.

A kind faces -Y with Z up, in any scale and place. To add one, write its file and name it here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from text23d.world.colours import jittered
from text23d.world.kinds import airplane, boat, car, chair, house, mug, mushroom, tree
from text23d.world.parts import Object, Part, Rgb, normalise

KINDS: dict[str, Callable[[np.random.Generator, Rgb], list[Part]]] = {
    "airplane": airplane.build,
    "boat": boat.build,
    "car": car.build,
    "chair": chair.build,
    "house": house.build,
    "mug": mug.build,
    "mushroom": mushroom.build,
    "tree": tree.build,
}


def make(kind: str, colour: str, rng: np.random.Generator) -> Object:
    """A random object of that kind and colour word, normalised to scene units."""
    return normalise(Object(kind, colour, tuple(KINDS[kind](rng, jittered(colour, rng)))))
