"""Houses: one or two storeys under a steep gable roof, the door towards -Y; some with a chimney."""

from __future__ import annotations

import numpy as np

from text23d.worlds.objects.colours import BARK, IVORY, is_pale, shaded
from text23d.worlds.objects.kind import Kind
from text23d.worlds.objects.parts import Mesh, Part, Rgb, box, extrude

ROOFS: tuple[Rgb, ...] = ((0.45, 0.29, 0.20), (0.36, 0.25, 0.19), (0.42, 0.42, 0.45), (0.52, 0.52, 0.54))
PANE: Rgb = (0.22, 0.30, 0.40)
BRICK: Rgb = (0.55, 0.36, 0.28)


def build(rng: np.random.Generator, colour: Rgb) -> list[Part]:
    storeys = int(rng.integers(1, 3))
    width, depth = rng.uniform(1.15, 1.6), rng.uniform(1.0, 1.3)
    if storeys == 2:
        width *= 0.85
    walls, rise = 0.54 + 0.44 * storeys * rng.uniform(0.9, 1.1), rng.uniform(0.44, 0.58)
    roof = ROOFS[int(rng.integers(len(ROOFS)))]
    style = str(rng.choice(["gable front", "gable side"]))
    parts = _shell(style, width, depth, walls, rise, colour, roof)
    parts += _openings(rng, storeys, width, depth, walls, colour)
    if rng.random() < 0.7:
        stack = box(0.20, 0.20, rise + 0.26).moved(rng.choice([-1, 1]) * width * 0.27, depth * 0.18, walls)
        parts.append(Part("chimney", stack, BRICK))
    return parts


def _shell(style: str, width: float, depth: float, walls: float, rise: float, colour: Rgb, roof: Rgb) -> list[Part]:
    across, along = (width, depth) if style == "gable front" else (depth, width)
    gable = [(-across / 2, 0), (across / 2, 0), (across / 2, walls), (0, walls + rise), (-across / 2, walls)]
    shell = extrude(gable, -along / 2, along / 2, "y")
    parts = [Part("walls", shell, colour)]
    parts += [Part("roof", _slope(side, across / 2, along / 2 + 0.08, walls, rise), roof) for side in (-1, 1)]
    if style == "gable side":
        parts = [Part(part.name, part.mesh.turned("z", 90), part.colour) for part in parts]
    return parts


def _slope(side: int, half: float, reach: float, walls: float, rise: float) -> Mesh:
    """One side of a gable roof: a plank from just beyond the ridge to beyond the wall, |y| < reach."""
    over, thick, fall = 0.11, 0.1, rise / half
    eave = (half + over, walls - over * fall)
    plank = [(0.0, walls + rise), eave, (eave[0], eave[1] + thick), (0.0, walls + rise + thick * 1.2)]
    return extrude([(side * x, z) for x, z in plank], -reach, reach, "y")


def _openings(
    rng: np.random.Generator, storeys: int, width: float, depth: float, walls: float, colour: Rgb
) -> list[Part]:
    """The door in front, and framed windows on all sides in rows, one a storey."""
    frame = (0.45, 0.45, 0.47) if is_pale(colour) else IVORY
    tall = min(0.52, walls / storeys * 0.80)
    door_x = width * rng.choice([-0.25, 0.0, 0.25]) if storeys == 1 else 0.0
    wood = shaded(BARK, rng.uniform(0.9, 1.3))
    parts = [
        Part("door frame", box(0.42, 0.10, tall + 0.05).moved(door_x, -depth / 2), frame),
        Part("door", box(0.32, 0.16, tall).moved(door_x, -depth / 2), wood),
    ]
    for storey in range(storeys):
        z = walls * (storey + 0.56) / storeys
        front = [x for x in (-0.29 * width, 0.29 * width) if storey > 0 or abs(x - door_x) > 0.3]
        parts += [piece for x in front for piece in _window(0.32, frame, 0, x, -depth / 2, z)]
        parts += [piece for x in (-0.25 * width, 0.25 * width) for piece in _window(0.32, frame, 180, x, depth / 2, z)]
        for turn, x in ((90, width / 2), (-90, -width / 2)):
            parts += [piece for y in (-0.24 * depth, 0.24 * depth) for piece in _window(0.32, frame, turn, x, y, z)]
    return parts


def _window(size: float, frame: Rgb, turn: float, x: float, y: float, z: float) -> list[Part]:
    """A pane in a frame, centred at (x, y, z), facing -Y turned about Z by `turn` degrees."""
    pieces = [
        Part("window frame", box(size, 0.10, size).moved(z=-size / 2), frame),
        Part("window", box(size * 0.70, 0.16, size * 0.70).moved(z=-size * 0.35), PANE),
    ]
    return [Part(piece.name, piece.mesh.turned("z", turn).moved(x, y, z), piece.colour) for piece in pieces]


KIND = Kind(
    build,
    parts={"roof": ("roof",)},
    also=("cottage",),
    part_also={"top": "roof", "rooftop": "roof"},
)
