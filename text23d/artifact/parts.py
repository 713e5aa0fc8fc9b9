"""The parts of a solid: floaters go, cavities are filled, and what hangs together by faint matter is joined."""

from __future__ import annotations

import numpy as np

CRUMB = 0.01  # parts smaller than this fraction of the largest are floaters
FAINT = 0.5  # of the level, at least, is what may join two parts
STRUT = 2.0  # levels that the joint has


def cleaned(solid: np.ndarray) -> np.ndarray:
    """Without floaters and without cavities. A cavity counts as open only through a face, so that no inner shell
    survives marching cubes."""
    from scipy import ndimage

    return ndimage.binary_fill_holes(labelled(solid)[0] > 0)


def labelled(solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of the part that each cell belongs to, 0 for none, and the parts' numbers, the largest first, without
    floaters. Parts may hang together by a corner, as a slanted thin leg does."""
    from scipy import ndimage

    parts, count = ndimage.label(solid, np.ones((3, 3, 3)))
    size = np.bincount(parts.ravel(), minlength=count + 1)
    size[0] = 0
    kept = size >= max(1, CRUMB * size.max())
    order = np.argsort(-size, kind="stable")
    return parts * kept[parts], order[kept[order]]


def joined(even: np.ndarray, value: np.ndarray, level: float) -> np.ndarray:
    """An evened field with each part of {even > level} joined to the largest one, where {value > FAINT level} holds
    them together: along the way with the least integral of 1 / value, three cells wide."""
    from scipy import ndimage
    from skimage.graph import MCP_Geometric

    parts, order = labelled(even > level)
    if len(order) < 2:
        return even
    passable = (value > FAINT * level) | (parts > 0)
    way = MCP_Geometric(np.where(passable, 1 / np.maximum(value, FAINT * level), -1.0))
    largest = parts == order[0]
    costs, _ = way.find_costs(np.argwhere(largest & ~ndimage.binary_erosion(largest)))
    joint = np.zeros(value.shape, bool)
    for part in order[1:]:
        cells = np.argwhere(parts == part)
        reached = costs[tuple(cells.T)]
        if np.isfinite(reached.min()):
            joint[tuple(np.transpose(way.traceback(cells[reached.argmin()])))] = True
    return np.where(ndimage.binary_dilation(joint), np.maximum(even, STRUT * level), even)
