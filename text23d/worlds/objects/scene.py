"""From a caption to an object: which captions the world holds, and how what they say is built."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from text23d.worlds.objects.adjectives import SMALL, SMALL_RADIUS, STRETCH
from text23d.worlds.objects.caption import MOST_PARTS, Caption, kinds_with
from text23d.worlds.objects.colours import COLOURS, jittered
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.parts import OBJECT_RADIUS, Floats, Object, Part, normalise

# Pairs of kind and colour that the prior never sees, in training or as the other thing of a pair: what it makes of
# them shows whether it composes. The weights that this project ships saw none of them in any of their trainings.
HELD_OUT = (
    ("teapot", "turquoise"),
    ("chair", "pink"),
    ("duck", "green"),
    ("robot", "yellow"),
    ("mushroom", "grey"),
    ("guitar", "white"),
)
PART_SHARE, ADJECTIVE_SHARE, PAIR_SHARE = 0.60, 0.12, 0.10
# What is small enough to stand on furniture.
TABLETOP = ("mug", "teapot", "bottle", "lamp", "flower", "cactus", "hat", "duck", "mushroom", "robot")


def draw_caption(index: int, rng: np.random.Generator, held_out: bool = False, pairs: bool = True) -> Caption:
    """What object `index` of a data set is: kinds and colours in turn, so that any prefix is balanced; the rest drawn.

    held_out: whether the pairs of HELD_OUT may occur; where not, the next colour stands in. pairs: whether some stand
    on or beside another.
    """
    kind, colour = list(KINDS)[index % len(KINDS)], _colour(index // len(KINDS))
    if not held_out and (kind, colour) in HELD_OUT:
        colour = _colour(index // len(KINDS) + 1)
    if pairs and rng.random() < PAIR_SHARE:
        return _draw_pair(Caption(kind, colour), rng, held_out)
    adjective = str(rng.choice(list(STRETCH))) if rng.random() < ADJECTIVE_SHARE else None
    parts: list[tuple[str, str]] = []
    if rng.random() < PART_SHARE:
        have = list(KINDS[kind].parts)
        count = min(len(have), MOST_PARTS if rng.random() < 0.25 else 1)
        others = [name for name in COLOURS if name != colour]
        parts = [(str(word), str(rng.choice(others))) for word in rng.choice(have, count, replace=False)]
    return Caption(kind, colour, adjective, tuple(parts))


def _colour(index: int) -> str:
    return list(COLOURS)[index % len(COLOURS)]


def _draw_pair(first: Caption, rng: np.random.Generator, held_out: bool) -> Caption:
    carriers = [name for name, kind in KINDS.items() if kind.support]
    on = first.kind in TABLETOP and rng.random() < 0.7
    while True:
        other = str(rng.choice(carriers if on else list(KINDS))), str(rng.choice(list(COLOURS)))
        if held_out or other not in HELD_OUT:
            return replace(first, relation="on" if on else "beside", other=Caption(*other))


def make(caption: Caption, rng: np.random.Generator) -> Object:
    """A random object that the caption describes, in scene units. Without a kind or a colour in it, any that has the
    parts of the caption."""
    parts = _build(caption, rng)
    if caption.other is not None:
        return normalise(Object(tuple(_together(parts, caption, rng))))
    return Object(tuple(_moved(normalise(Object(tuple(parts))).parts, _size(caption))))


def _size(caption: Caption) -> float:
    return SMALL_RADIUS / OBJECT_RADIUS if caption.adjective == SMALL else 1.0


def _build(caption: Caption, rng: np.random.Generator) -> list[Part]:
    kind = KINDS[caption.kind or str(rng.choice(kinds_with(word for word, _ in caption.parts)))]
    parts = kind.build(rng, jittered(caption.colour or str(rng.choice(list(COLOURS))), rng))
    for word, colour in caption.parts:
        names, albedo = kind.parts[word], jittered(colour, rng)
        parts = [replace(part, colour=albedo) if part.name in names else part for part in parts]
    if caption.adjective is not None:
        x, y, z = STRETCH[caption.adjective]
        parts = [replace(part, mesh=part.mesh.scaled(x, y, z)) for part in parts]
    return parts


def _together(parts: list[Part], caption: Caption, rng: np.random.Generator) -> list[Part]:
    """The first thing on the other, or at its side (towards -X)."""
    assert caption.other is not None
    first, other = (list(normalise(Object(tuple(each))).parts) for each in (parts, _build(caption.other, rng)))
    other = _moved(other, _size(caption.other))
    low, high = _bounds(first)
    if caption.relation == "on":
        support = KINDS[caption.other.kind or ""].support
        ground, top = _bounds([part for part in other if part.name == support])
        room = ((top - ground)[:2] / (high - low)[:2]).min()
        scale = _size(caption) * min(rng.uniform(0.75, 0.95) * float(room), 0.8 / (high - low)[2])
        centre = np.append((ground + top)[:2] / 2, top[2])
    else:
        scale = _size(caption) * float(rng.uniform(0.85, 1.15))
        left, _ = _bounds(other)
        centre = np.array([left[0] - scale * (high - low)[0] / 2 - 0.06, 0.0, left[2]])
    foot = np.append((low + high)[:2] / 2, low[2])
    return [*_moved(first, scale, centre - scale * foot), *other]


def _bounds(parts: list[Part]) -> tuple[Floats, Floats]:
    everything = np.concatenate([part.mesh.vertices for part in parts])
    return everything.min(0), everything.max(0)


def _moved(parts: list[Part] | tuple[Part, ...], scale: float, by: Floats | float = 0.0) -> list[Part]:
    return [replace(p, mesh=replace(p.mesh, vertices=p.mesh.vertices * scale + by)) for p in parts]
