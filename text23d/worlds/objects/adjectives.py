"""Adjectives that change an object's shape: how it is stretched along x, y, z before it is brought to scene units."""

from __future__ import annotations

SMALL = "small"
SMALL_RADIUS = 0.55  # of the ball around a small object, where any other fills OBJECT_RADIUS

STRETCH: dict[str, tuple[float, float, float]] = {
    "tall": (1.0, 1.0, 1.45),
    "low": (1.0, 1.0, 0.65),
    "wide": (1.45, 1.0, 1.0),
    "narrow": (0.65, 1.0, 1.0),
    "long": (1.0, 1.45, 1.0),
    SMALL: (1.0, 1.0, 1.0),
}
