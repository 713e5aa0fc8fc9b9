"""The twelve colour words, and the neutral colours of secondary parts. Albedo is display RGB in [0, 1]."""

from __future__ import annotations

import colorsys

import numpy as np

from text23d.worlds.objects.parts import Rgb

COLOURS: dict[str, Rgb] = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.97, 0.50, 0.06),
    "yellow": (0.97, 0.86, 0.12),
    "green": (0.16, 0.66, 0.22),
    "blue": (0.14, 0.34, 0.88),
    "purple": (0.50, 0.18, 0.78),
    "pink": (0.97, 0.50, 0.70),
    "brown": (0.44, 0.25, 0.12),
    "turquoise": (0.16, 0.78, 0.76),
    "white": (0.92, 0.92, 0.92),
    "grey": (0.50, 0.50, 0.52),
    "black": (0.10, 0.10, 0.10),
}
# Other words for them.
COLOURS_TOO: dict[str, str] = {
    "crimson": "red",
    "scarlet": "red",
    "golden": "yellow",
    "emerald": "green",
    "azure": "blue",
    "violet": "purple",
    "rosy": "pink",
    "chocolate": "brown",
    "teal": "turquoise",
    "cyan": "turquoise",
    "gray": "grey",
}

TYRE: Rgb = (0.17, 0.17, 0.18)
STEEL: Rgb = (0.72, 0.74, 0.76)
IVORY: Rgb = (0.95, 0.92, 0.84)
WOOD: Rgb = (0.76, 0.58, 0.38)
BARK: Rgb = (0.42, 0.28, 0.17)
LAMP: Rgb = (1.00, 0.96, 0.75)
TAIL_LAMP: Rgb = (0.75, 0.08, 0.08)


def jittered(name: str, rng: np.random.Generator) -> Rgb:
    """The albedo of a colour word, with a small change of hue, saturation and value per object."""
    h, s, v = colorsys.rgb_to_hsv(*COLOURS[name])
    h += rng.uniform(-0.012, 0.012)
    s *= rng.uniform(0.92, 1.05)
    v *= rng.uniform(0.94, 1.03) if name != "black" else rng.uniform(0.8, 1.2)
    return colorsys.hsv_to_rgb(h % 1.0, min(s, 1.0), min(v, 1.0))


def shaded(colour: Rgb, factor: float) -> Rgb:
    """The same colour darker (factor below 1) or lighter, clipped to [0, 1]."""
    red, green, blue = (min(max(channel * factor, 0.0), 1.0) for channel in colour)
    return red, green, blue


def brightness(colour: Rgb) -> float:
    """Luma in [0, 1]."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def is_pale(colour: Rgb) -> bool:
    """Whether white details would be lost on it."""
    return min(colour) > 0.7


def glass(body: Rgb) -> Rgb:
    """Dark windows, or light ones where the body is too dark for dark windows to show."""
    return (0.58, 0.70, 0.78) if brightness(body) < 0.15 else (0.13, 0.17, 0.23)
