"""Closed solids, the parts made of them, and the objects made of parts.

Every solid is a loft: rings of K points joined side to side, and closed at both ends by a fan. Lengths are arbitrary
while an object is being built; `normalise` brings it to scene units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rgb = tuple[float, float, float]
Floats = NDArray[np.float64]

OBJECT_RADIUS = 0.9
SIDES = 20


@dataclass(frozen=True)
class Mesh:
    """A closed triangle mesh, wound outwards: vertices [V, 3] float64, faces [F, 3] int64."""

    vertices: Floats
    faces: NDArray[np.int64]

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        return replace(self, vertices=self.vertices + np.array((x, y, z)))

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        """Scaled about the origin; a negative factor mirrors, and the winding follows."""
        return replace(self, vertices=self.vertices * (x, y, z)).outward()

    def turned(self, axis: str, degrees: float) -> Mesh:
        """Turned about a coordinate axis through the origin, counter-clockwise seen from the axis's tip."""
        first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        vertices = self.vertices.copy()
        vertices[:, first] = c * self.vertices[:, first] - s * self.vertices[:, second]
        vertices[:, second] = s * self.vertices[:, first] + c * self.vertices[:, second]
        return replace(self, vertices=vertices)

    def outward(self) -> Mesh:
        """The same solid with its faces counter-clockwise seen from outside (its signed volume is positive)."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        volume = (a * np.cross(b, c)).sum()
        return self if volume >= 0 else replace(self, faces=self.faces[:, ::-1])


@dataclass(frozen=True)
class Part:
    """One solid of one colour: `colour` is its albedo as display RGB in [0, 1]."""

    name: str
    mesh: Mesh
    colour: Rgb


@dataclass(frozen=True)
class Object:
    """What a picture shows: solids, which may overlap."""

    parts: tuple[Part, ...]


def normalise(thing: Object) -> Object:
    """Centre the bounding box on the origin and scale so that the farthest vertex is OBJECT_RADIUS from it."""
    everything = np.concatenate([part.mesh.vertices for part in thing.parts])
    centre = (everything.min(0) + everything.max(0)) / 2
    scale = OBJECT_RADIUS / np.linalg.norm(everything - centre, axis=1).max()
    parts = [replace(p, mesh=replace(p.mesh, vertices=(p.mesh.vertices - centre) * scale)) for p in thing.parts]
    return replace(thing, parts=tuple(parts))


def loft(rings: ArrayLike, start: ArrayLike | None = None, end: ArrayLike | None = None) -> Mesh:
    """Join rings [R, K, 3] in order; the ends are fans around `start` and `end` [3], or around the ring's centroid.

    The solid is closed whatever the rings, and free of self-intersection where its end rings are star-shaped about
    their fan's centre.
    """
    points = np.asarray(rings, dtype=np.float64)
    count, around = points.shape[:2]
    first = points[0].mean(0) if start is None else np.asarray(start, dtype=np.float64)
    last = points[-1].mean(0) if end is None else np.asarray(end, dtype=np.float64)
    here = np.arange(around)
    there = np.roll(here, -1)
    faces = [np.stack([np.full(around, count * around), there, here], -1)]
    for low in range(0, (count - 1) * around, around):
        high = low + around
        faces.append(np.stack([low + here, low + there, high + there], -1))
        faces.append(np.stack([low + here, high + there, high + here], -1))
    top = (count - 1) * around
    faces.append(np.stack([np.full(around, count * around + 1), top + here, top + there], -1))
    return Mesh(np.concatenate([points.reshape(-1, 3), [first, last]]), np.concatenate(faces)).outward()


def extrude(polygon: ArrayLike, low: float, high: float, axis: str = "x", bevel: float = 0.0) -> Mesh:
    """Push a polygon [K, 2], star-shaped about its centroid, along `axis` from `low` to `high`.

    The polygon's two coordinates are the other axes in x, y, z order. `bevel` shrinks both ends by that fraction
    over the same fraction of the polygon's half extent.
    """
    flat = np.asarray(polygon, dtype=np.float64)
    centre = flat.mean(0)
    depth = bevel * np.ptp(flat, axis=0).min() / 2
    stations = [(low, 1 - bevel), (low + depth, 1.0), (high - depth, 1.0), (high, 1 - bevel)]
    if bevel == 0.0:
        stations = [(low, 1.0), (high, 1.0)]
    at = "xyz".index(axis)
    return loft([np.insert(centre + (flat - centre) * shrink, at, level, axis=1) for level, shrink in stations])


def box(x: float, y: float, z: float, bevel: float = 0.0, taper: tuple[float, float] = (1.0, 1.0)) -> Mesh:
    """A box of that size standing on z = 0, centred in x and y; `taper` scales its top in x and y."""

    def outline(level: float, inset: float) -> Floats:
        along = level / z
        a = (x / 2) * (1 + (taper[0] - 1) * along) - inset
        b = (y / 2) * (1 + (taper[1] - 1) * along) - inset
        flat = [(-a, -b), (a, -b), (a, b), (-a, b)]
        if bevel > 0:
            c = bevel - inset / 2
            flat = [(-a + c, -b), (a - c, -b), (a, -b + c), (a, b - c)]
            flat += [(a - c, b), (-a + c, b), (-a, b - c), (-a, -b + c)]
        return np.insert(np.asarray(flat), 2, level, axis=1)

    levels = [(0.0, bevel), (bevel, 0.0), (z - bevel, 0.0), (z, bevel)] if bevel > 0 else [(0.0, 0.0), (z, 0.0)]
    return loft([outline(level, inset) for level, inset in levels])


def lathe(profile: Sequence[tuple[float, float]], sides: int = SIDES) -> Mesh:
    """Revolve a profile of (radius, z) about Z. Radius 0 is allowed at the two ends only, where it makes a point."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(sides)], -1)
    start = (0, 0, profile[0][1]) if profile[0][0] == 0 else None
    end = (0, 0, profile[-1][1]) if profile[-1][0] == 0 else None
    rings = [circle * radius + (0, 0, z) for radius, z in profile if radius > 0]
    return loft(rings, start, end)


def cylinder(radius: float, height: float, bevel: float = 0.0, top: float = 1.0, sides: int = SIDES) -> Mesh:
    """A cylinder standing on z = 0; `top` scales its upper radius, `bevel` is the length cut off its edges."""
    if bevel == 0:
        return lathe([(radius, 0), (radius * top, height)], sides)
    return lathe(
        [(radius - bevel, 0), (radius, bevel), (radius * top, height - bevel), (radius * top - bevel, height)], sides
    )


def ellipsoid(x: float, y: float, z: float, sides: int = 16) -> Mesh:
    """An ellipsoid of those half axes about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)
    inner = [(float(np.cos(a)), float(np.sin(a))) for a in angle[1:-1]]
    return lathe([(0.0, -1.0), *inner, (0.0, 1.0)], sides).scaled(x, y, z)


def tube(path: ArrayLike, radius: float, flatten: float = 1.0, sides: int = 12) -> Mesh:
    """A round rod along a path [N, 3] in a plane y = const; `flatten` scales its width along y."""
    points = np.asarray(path, dtype=np.float64)
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along, (0.0, 1.0, 0.0))
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    rings = [
        p + radius * (np.cos(angle)[:, None] * n + np.sin(angle)[:, None] * np.array([0.0, flatten, 0.0]))
        for p, n in zip(points, across, strict=True)
    ]
    return loft(rings)


def sections(stations: Sequence[tuple[float, float, float, float]], sides: int = SIDES) -> Mesh:
    """A body along Y through elliptic sections (y, z, half width, half height)."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    return loft(
        [np.stack([a * np.cos(angle), np.full(sides, y), z + b * np.sin(angle)], -1) for y, z, a, b in stations]
    )


def wing(chord: float, tip: float, span: float, sweep: float, thickness: float, rise: float = 0.0) -> Mesh:
    """A symmetric pair of wings across X, its leading edge at y = 0 at the root and `sweep` behind it at the tips.

    `chord` and `tip` are lengths along Y, `span` the whole width, `rise` how much higher the tips are.
    """
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    section = np.stack([(1 - np.cos(angle)) / 2, np.sin(angle) / 2], -1)
    rings = []
    for at in (-1.0, -0.96, 0.0, 0.96, 1.0):
        out = abs(at)
        round_off = 0.6 if out == 1 else 1.0
        length = (chord + (tip - chord) * out) * (0.9 if out == 1 else 1.0)
        y = sweep * out + section[:, 0] * length
        z = rise * out + section[:, 1] * thickness * round_off * (1 - 0.3 * out)
        rings.append(np.stack([np.full(12, at * span / 2), y, z], -1))
    return loft(rings)
