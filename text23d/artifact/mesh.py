"""From a density field to a closed mesh within a budget of faces. `colour.py` and `atlas.py` paint it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from text23d.artifact.decimate import decimated
from text23d.artifact.depth import least_depth
from text23d.artifact.parts import cleaned, joined
from text23d.cameras import Cameras
from text23d.errors import UserError

if TYPE_CHECKING:
    import trimesh

Field = Callable[[Tensor], Tensor]

CHUNK = 1 << 17  # points a call of the field: about 70 MB for a 64-wide network
SIDE = 2.0  # of the cube [-1, 1]^3
FINEST = 512  # cells along a side: 134 million cells, about 3 GB while the surface is cut out of them
CELL = 24  # bytes of one of them
SHARP = 3.0  # log-density from the level at which a cell counts as wholly solid or wholly empty
EVEN = 1 / 64  # scene units: a cell of the default resolution, and of the finest grid of the default NeRF
GIVEN = 0.02  # share of the best silhouettes' IoU, at most, for a surface nearer to the colours
LEVEL = 0.1  # optical depth of a surface, by which the field is evened
LEVELS = np.geomspace(LEVEL / 4, log(2) / 2, 24)  # that a surface may have in the end
OPAQUE = 1e6  # per scene unit: denser than this is no different, and infinity would spoil sums
WITNESSES = ((17.0, 5.0), (62.0, 35.0), (107.0, 5.0), (152.0, 35.0), (242.0, 5.0), (332.0, 35.0))
"""Azimuth and elevation, in degrees, of the cameras that a level is found by: none looks along an axis, where rays that
graze a flat side make it thicker than it is."""
MOST_FACES = 3_000_000  # of a surface before decimation: only noise has more


class EmptyField(UserError):
    """The field holds no surface: nothing is dense enough."""


def extract(
    density: Field,
    resolution: int = 128,
    threshold: float | None = None,
    faces: int = 20_000,
    occupied: Field | None = None,
    device: torch.device | str = "cpu",
) -> trimesh.Trimesh:
    """The surface of a field as a closed mesh, wound outwards: density = threshold or, without one, least optical depth
    (see `least_depth`) = `fitting_level`.

    density  [N, 3] points in [-1, 1]^3 -> [N] per scene unit, >= 0.
    resolution: cells along a side of the cube, at most FINEST. threshold: per scene unit, > 0. faces: the budget; see
    `decimate.decimated` for when it is passed. occupied [N, 3] -> [N] bool: where the field may be dense, so that empty
    space costs nothing. device: where the points are made.

    Floaters (below 1% of the largest part's volume) and enclosed cavities are removed. `metadata["level"]` is the
    threshold or the depth. Raises EmptyField when nothing is dense enough, UserError when the field has values that are
    not numbers or a setting is out of range.
    """
    if not 2 <= resolution <= FINEST or faces < 4 or (threshold is not None and not threshold > 0):
        raise UserError(
            f"mesh settings resolution={resolution}, faces={faces}, threshold={threshold}: expected 2 to {FINEST} "
            "cells, at least 4 faces and a threshold above 0; the defaults are 128, 20000 and none"
        )
    cell = SIDE / resolution
    field = sample(density, resolution, occupied, device)
    if threshold is not None and not field.max() > threshold:
        raise EmptyField(
            f"nothing is denser than {threshold:.3g} per scene unit: the densest point has {field.max():.3g}; "
            "lower the threshold, or optimise for longer"
        )
    value = closed(least_depth(field, cell)) if threshold is None else field
    even = evened(value, threshold or LEVEL, cell)
    level = threshold or fitting_level(field, even, cell)
    even = joined(even, value, level)
    mesh = surface(even if even.max() > level else value, level, cell)
    while len(mesh.faces) > MOST_FACES:
        value, cell = halved(value), 2 * cell
        mesh = surface(value, min(level, float(np.median(value))), cell)
    mesh = decimated(smoothed(mesh), faces)
    mesh.metadata["level"] = level
    return mesh


@torch.no_grad()
def sample(
    density: Field, resolution: int, occupied: Field | None = None, device: torch.device | str = "cpu"
) -> np.ndarray:
    """The density [R, R, R] (x, y, z; float32, per scene unit) at the centres of R^3 cells of the cube [-1, 1]^3."""
    field = np.empty(resolution**3, np.float32)
    for start in range(0, len(field), CHUNK):
        index = torch.arange(start, min(start + CHUNK, len(field)), device=device)
        at = torch.stack([index // resolution**2, index // resolution % resolution, index % resolution], -1)
        values = _where_occupied(density, occupied, (at + 0.5) * (SIDE / resolution) - 1.0)
        field[start : start + CHUNK] = values.cpu().numpy()
    bad = int(np.isnan(field).sum())
    if bad:
        raise UserError(
            f"the density is not a number at {bad} of {field.size} points: expected finite densities; "
            "the run has diverged, so take an earlier checkpoint or lower the learning rate"
        )
    return field.clip(0, OPAQUE, out=field).reshape((resolution,) * 3)


def _where_occupied(density: Field, occupied: Field | None, points: Tensor) -> Tensor:
    if occupied is None:
        return density(points).float()
    inside = occupied(points).bool()
    values = torch.zeros(len(points), device=points.device)
    if inside.any():
        values[inside] = density(points[inside]).float()
    return values


def closed(depth: np.ndarray) -> np.ndarray:
    """Without pits, slits and perforations of at most two cells, which is less than a NeRF's own steps."""
    from scipy import ndimage

    return ndimage.grey_closing(depth, size=(3, 3, 3))


def halved(field: np.ndarray) -> np.ndarray:
    """The mean of every 2 x 2 x 2 cells; a last odd one is left out."""
    half = [side // 2 for side in field.shape]
    whole = field[tuple(slice(0, 2 * side) for side in half)]
    return whole.reshape(half[0], 2, half[1], 2, half[2], 2).mean((1, 3, 5))


def evened(field: np.ndarray, level: float, cell: float) -> np.ndarray:
    """The field with the pits and bumps of its surface at `level` blurred away: a Gaussian of EVEN over `height`.

    What would vanish with them, as a leg one cell wide, stays as it is: all that is solid more than two cells off what
    is left, and as much of it as joins the two.
    """
    from scipy import ndimage

    even = level * np.exp(ndimage.gaussian_filter(height(field, level), EVEN / cell))
    solid = field > level
    thin = solid & ~ndimage.binary_dilation(even > level, iterations=2)
    around = ndimage.binary_dilation(thin, np.ones((3, 3, 3)), iterations=3)
    return np.where(around & solid, np.maximum(field, even), even)


def height(field: np.ndarray, level: float) -> np.ndarray:
    """log(field / level), clipped: as far below the level as a usual solid cell is above it counts as wholly empty, and
    SHARP at most, so that a sharp edge is met half way. Densities span decades: interpolated as they are, every vertex
    would stick to the outermost cell centre."""
    above = np.log(np.maximum(field, 1e-30) / np.float32(level))
    solid = above[above > 0]
    bound = min(SHARP, float(np.median(solid))) if solid.size else SHARP
    return above.clip(-bound, bound)


def fitting_level(field: np.ndarray, solid: np.ndarray, cell: float, levels: np.ndarray = LEVELS) -> float:
    """The one of `levels` at which {solid > level} has the silhouettes of the field, seen by WITNESSES: a ray meets the
    field where it is half absorbed, by an integral of ln 2, and the solid where that passes the level. What counts is
    the mean IoU of the rays that meet each; of those within GIVEN of the best the highest level wins, whose surface is
    the nearest to where the field's colours are. Raises EmptyField when no ray is half absorbed, or nothing has any of
    the levels."""
    fits, empty = [], levels[0] * np.exp(-SHARP)
    above = torch.from_numpy(np.log(levels / empty)).float()
    # The logarithm, as `surface` interpolates, and 0 where there is nothing, as outside the grid.
    for absorbed, most in _through(field, np.log(np.maximum(solid, empty) / empty), cell):
        covered, hit = absorbed[:, None] > log(2), most[:, None] > above
        if covered.any():
            fits.append((covered & hit).sum(0) / (covered | hit).sum(0))
    fit = torch.stack(fits).mean(0).numpy() if fits else np.zeros(len(levels))
    if not fit.any():
        raise EmptyField(
            f"the field is too thin to see: its densest point has {field.max():.3g} per scene unit, and no ray is "
            "half absorbed in it; give a threshold below that, or optimise for longer"
        )
    return float(levels[fit >= (1 - GIVEN) * fit.max()].max())


def _through(field: np.ndarray, value: np.ndarray, cell: float, size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of the WITNESSES, by ray [size^2]: the integral of the field, and the largest value."""
    azimuth, elevation = (torch.tensor(each, dtype=torch.float32) for each in zip(*WITNESSES, strict=True))
    rays = Cameras(azimuth, elevation, torch.full_like(azimuth, 3.0), torch.full_like(azimuth, 40.0)).rays((size, size))
    # Channels, then z, y, x, as grid_sample takes a volume: its points are x, y, z.
    volume = torch.from_numpy(np.stack([field, value.astype(np.float32, copy=False)])).permute(0, 3, 2, 1)[None]
    along = torch.arange(3 - 3**0.5, 3 + 3**0.5, cell)
    for origins, directions in zip(*(each.reshape(len(azimuth), -1, 3) for each in rays), strict=True):
        points = origins[:, None] + along[:, None] * directions[:, None]
        sigma, found = grid_sample(volume, points[None, None], align_corners=False)[0, :, 0]
        yield sigma.sum(1) * cell, found.amax(1)


def surface(field: np.ndarray, level: float, cell: float) -> trimesh.Trimesh:
    """Marching cubes over log(field / level), with empty cells all around: closed, wound outwards, without crumbs."""
    import trimesh
    from skimage.measure import marching_cubes

    box = _box(field > level)
    field = np.pad(field[box], 1)
    solid = cleaned(field > level)
    above = height(field, level)
    above /= np.abs(above).max()
    # The margin keeps vertices off the cell centres, where marching cubes makes faces without area.
    filled = np.where(above > 0, above.clip(min=0.02), 1.0)
    emptied = np.where(above < 0, above.clip(max=-0.02), -1.0)
    vertices, triangles, _, _ = marching_cubes(np.where(solid, filled, emptied), 0.0, gradient_direction="ascent")
    corner = np.array([side.start for side in box])
    return trimesh.Trimesh((vertices + corner - 0.5) * cell - 1.0, triangles)


def _box(solid: np.ndarray) -> tuple[slice, ...]:
    """The bounding box of what is solid, and a cell around it where there is one."""
    inside = [np.flatnonzero(solid.any(others)) for others in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(max(0, int(at[0]) - 1), int(at[-1]) + 2) for at in inside)


def smoothed(mesh: trimesh.Trimesh, rounds: int = 12, shrink: float = 0.5, swell: float = 0.53) -> trimesh.Trimesh:
    """Taubin's low-pass (A signal processing approach to fair surface design, 1995): x <- x + l L x, then
    x <- x - m L x, with L x the mean of the neighbours less x. Takes the staircase off and keeps the volume."""
    import trimesh
    from scipy.sparse import coo_matrix, diags

    a, b = mesh.edges_unique.T
    ends = np.concatenate([a, b]), np.concatenate([b, a])
    neighbours = coo_matrix((np.ones(2 * len(a)), ends), shape=(len(mesh.vertices),) * 2).tocsr()
    mean = diags(1.0 / np.asarray(neighbours.sum(1)).ravel()) @ neighbours
    at = np.array(mesh.vertices)
    for _ in range(rounds):
        at += shrink * (mean @ at - at)
        at -= swell * (mean @ at - at)
    return trimesh.Trimesh(at, mesh.faces, process=False)
