"""From a density field to a closed, coloured mesh. `glb.py` writes it for Blender."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.glb import read_back as read_back
from text23d.artifact.glb import write_glb as write_glb
from text23d.contracts import UserError

if TYPE_CHECKING:
    import trimesh

Field = Callable[[Tensor], Tensor]

CHUNK = 1 << 17  # points a call of the field: about 70 MB for a 64-wide network
SIDE = 2.0  # of the cube [-1, 1]^3
SHARP = 3.0  # log-density from the level at which a cell counts as wholly solid or wholly empty
OPAQUE = 1e6  # per scene unit: denser than this is no different, and infinity would spoil sums
CRUMB = 0.05  # parts smaller than this fraction of the largest are floaters


class EmptyField(UserError):
    """The field holds no surface: nothing is dense enough."""


def extract(
    density: Field,
    colour: Field,
    resolution: int = 128,
    threshold: float | None = None,
    faces: int = 20_000,
    occupied: Field | None = None,
    device: torch.device | str = "cpu",
) -> trimesh.Trimesh:
    """The surface density = threshold as a closed mesh, wound outwards, with 8-bit sRGB vertex colours.

    density  [N, 3] points in [-1, 1]^3 -> [N] per scene unit, >= 0.
    colour   [N, 3] points -> [N, 3] display (sRGB) colour in [0, 1].
    resolution: cells along a side of the cube. threshold: per scene unit, > 0; None: see `silhouette_level`.
    faces: the budget; passed only where a smaller mesh would not stay closed. occupied [N, 3] -> [N] bool: where the
    field may be dense, so that empty space costs nothing. device: where the points are made.

    Floaters (below 5% of the largest part's volume) and enclosed cavities are removed. Raises EmptyField when nothing
    is dense enough, UserError when the field has values that are not numbers or a setting is out of range.
    """
    from trimesh.visual import ColorVisuals

    if resolution < 2 or faces < 4 or (threshold is not None and not threshold > 0):
        raise UserError(
            f"mesh settings resolution={resolution}, faces={faces}, threshold={threshold}: expected at least 2 cells, "
            "4 faces and a threshold above 0; the defaults are 128, 20000 and none"
        )
    cell = SIDE / resolution
    field = sample(density, resolution, occupied, device)
    level = silhouette_level(field, cell) if threshold is None else threshold
    if not field.max() > level:
        raise EmptyField(
            f"nothing is denser than {level:.3g} per scene unit: the densest point has {field.max():.3g}; "
            "lower the threshold, or optimise for longer"
        )
    mesh = decimated(smoothed(surface(field, level, cell)), faces)
    mesh.visual = ColorVisuals(mesh, vertex_colors=_seen_colours(mesh, density, colour, cell, device))
    return mesh


@torch.no_grad()
def sample(
    density: Field, resolution: int, occupied: Field | None = None, device: torch.device | str = "cpu"
) -> np.ndarray:
    """The density [R, R, R] (x, y, z; float32, per scene unit) at the centres of R^3 cells of the cube [-1, 1]^3."""
    values = []
    for index in torch.arange(resolution**3, device=device).split(CHUNK):
        at = torch.stack([index // resolution**2, index // resolution % resolution, index % resolution], -1)
        values.append(_where_occupied(density, occupied, (at + 0.5) * (SIDE / resolution) - 1.0).cpu())
    field = torch.cat(values)
    bad = int(field.isnan().sum())
    if bad:
        raise UserError(
            f"the density is not a number at {bad} of {field.numel()} points: expected finite densities; "
            "the run has diverged, so take an earlier checkpoint or lower the learning rate"
        )
    return field.clamp(0, OPAQUE).view(resolution, resolution, resolution).numpy()


def _where_occupied(density: Field, occupied: Field | None, points: Tensor) -> Tensor:
    if occupied is None:
        return density(points).float()
    inside = occupied(points).bool()
    values = torch.zeros(len(points), device=points.device)
    if inside.any():
        values[inside] = density(points[inside]).float()
    return values


def silhouette_level(field: np.ndarray, cell: float, candidates: int = 32) -> float:
    """The level (per scene unit) whose solid casts the same shadows as the field itself, along x, y and z.

    A ray is covered where 1 - exp(-sum sigma cell) > 1/2; the solid {sigma > level} covers it where its largest sigma
    passes the level. The best mean IoU wins, and the geometric middle where several levels are as good. Only levels
    in [ln 2 / side, ln 2 / cell] can be best: every covered ray has a cell above the first, and a cell above the
    second covers its ray alone. Raises EmptyField when no ray is covered.
    """
    views = [(field.sum(axis) * cell > log(2), field.max(axis)) for axis in range(3)]
    views = [(covered, peak) for covered, peak in views if covered.any()]
    if not views:
        raise EmptyField(
            f"the field is too thin to see: its densest point has {field.max():.3g} per scene unit, and no ray along "
            "an axis is half covered; give a threshold below that, or optimise for longer"
        )
    levels = np.geomspace(log(2) / SIDE, log(2) / cell, candidates)
    score = np.array([np.mean([_iou(peak > level, covered) for covered, peak in views]) for level in levels])
    return float(np.exp(np.log(levels[score >= score.max() - 2e-3]).mean()))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def surface(field: np.ndarray, level: float, cell: float) -> trimesh.Trimesh:
    """Marching cubes over log(field / level), with empty cells all around: closed, wound outwards, without crumbs."""
    import trimesh
    from skimage.measure import marching_cubes

    field = np.pad(field, 1)
    solid = _cleaned(field > level)
    # Densities span decades: interpolated as they are, every vertex would stick to the outermost cell centre. As far
    # below the level as a usual solid cell is above it counts as empty, so that a sharp edge is met half way.
    height = np.log(np.maximum(field, 1e-30) / level)
    height = (height / min(SHARP, float(np.median(height[height > 0])))).clip(-1, 1)
    # The margin keeps vertices off the cell centres, where marching cubes makes faces without area.
    filled = np.where(height > 0, height.clip(min=0.02), 1.0)
    emptied = np.where(height < 0, height.clip(max=-0.02), -1.0)
    vertices, triangles, _, _ = marching_cubes(np.where(solid, filled, emptied), 0.0, gradient_direction="ascent")
    return trimesh.Trimesh((vertices - 0.5) * cell - 1.0, triangles)


def _cleaned(solid: np.ndarray) -> np.ndarray:
    """Without floaters and without cavities. Parts may hang together by a corner, as a slanted thin leg does; a
    cavity counts as open only through a face, so that no inner shell survives marching cubes."""
    from scipy import ndimage

    parts, count = ndimage.label(solid, np.ones((3, 3, 3)))
    size = np.bincount(parts.ravel(), minlength=count + 1)
    size[0] = 0
    return ndimage.binary_fill_holes((size >= CRUMB * size.max())[parts])


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


def decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """At most `faces` triangles by quadric edge collapse; more where that would open the mesh or bend its volume."""
    import fast_simplification

    target = faces
    while target < len(mesh.faces):
        fewer = _parted(*fast_simplification.simplify(mesh.vertices, mesh.faces, target_count=target))
        if fewer.is_watertight and fewer.is_winding_consistent and abs(fewer.volume / mesh.volume - 1) < 0.05:
            return fewer
        target = target * 3 // 2
    return mesh


def _parted(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    """Collapses can make two sheets touch in an edge or a corner. Each sheet gets vertices of its own there, drawn 2%
    towards its faces: a fan is what hangs together around a vertex through edges of exactly two faces."""
    import trimesh
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    corner = np.arange(faces.size).reshape(-1, 3)
    edge, at = (np.stack([x, np.roll(x, -1, 1)], -1).reshape(-1, 2) for x in (faces, corner))
    at = np.take_along_axis(at, edge.argsort(1), 1)
    _, which, shared = np.unique(np.sort(edge, 1), axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    pairs = np.flatnonzero(shared[which] == 2)
    left, right = at[pairs[which[pairs].argsort(kind="stable")]].reshape(-1, 2, 2).transpose(1, 0, 2).reshape(2, -1)
    links = coo_matrix((np.ones(len(left)), (left, right)), shape=(faces.size,) * 2)
    count, fan = connected_components(links, directed=False)
    source = np.empty(count, int)
    source[fan] = faces.reshape(-1)
    copies = np.bincount(source, minlength=len(vertices))[source] > 1
    weight = np.bincount(fan)[:, None]
    middle = np.repeat(vertices[faces].mean(1), 3, 0)
    towards = np.stack([np.bincount(fan, middle[:, axis]) for axis in range(3)], 1) / weight
    moved = np.where(copies[:, None], 0.98 * vertices[source] + 0.02 * towards, vertices[source])
    return trimesh.Trimesh(moved, fan.reshape(-1, 3))


@torch.no_grad()
def _seen_colours(
    mesh: trimesh.Trimesh, density: Field, colour: Field, cell: float, device: torch.device | str, steps: int = 10
) -> np.ndarray:
    """What a ray that enters a vertex against its normal sees [V, 4] uint8: colours composited from one cell outside
    to four inside, because a field's colour exactly on its surface is noisy."""
    depth = torch.linspace(-1.0, 4.0, steps, dtype=torch.float64) * cell
    at, normal = (torch.tensor(np.array(value)) for value in (mesh.vertices, mesh.vertex_normals))
    points = (at[:, None] - depth[:, None] * normal[:, None]).clamp(-1, 1).float().view(-1, 3).to(device)
    seen = [(density(part).float(), colour(part).float()) for part in points.split(CHUNK)]
    sigma = torch.cat([s for s, _ in seen]).clamp(0, OPAQUE).view(-1, steps).double().cpu()
    rgb = torch.cat([c for _, c in seen]).view(-1, steps, 3).double().cpu()
    thickness = sigma * float(depth[1] - depth[0])
    before = thickness.cumsum(1) - thickness
    # The last term decides only where the ray meets nothing at all.
    weight = torch.exp(-before) * -torch.expm1(-thickness) + 1e-9
    mixed = (weight[..., None] * rgb).sum(1) / weight.sum(1, keepdim=True)
    levels = (mixed.clamp(0, 1) * 255).round().byte().numpy()
    return np.concatenate([levels, np.full((len(levels), 1), 255, np.uint8)], 1)
