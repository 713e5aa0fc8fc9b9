"""A closed mesh of fewer faces: edges collapsed, and the sheets parted that collapses made touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import trimesh

VOLUME = 0.2  # of the surface's own, by which a decimated one may differ
EVEN, HASTY = 4, 7  # how fast the error that a collapse may make grows: the faster, the less do the least come first
SMALL = 20_000  # faces of a surface that may be left as it is


def decimated(mesh: trimesh.Trimesh, faces: int) -> trimesh.Trimesh:
    """At most `faces` triangles by quadric edge collapse; or more, about the fewest with which the mesh stays closed
    and its volume within VOLUME. Where no number will do, the mesh as it is if it is small, else one within reach of
    the budget."""
    tried: list[trimesh.Trimesh] = []

    def attempt(target: int) -> trimesh.Trimesh | None:
        fewer = parted(*collapsed(mesh, target))
        tried.append(fewer)
        return fewer if is_closed(fewer) and abs(fewer.volume / mesh.volume - 1) < VOLUME else None

    target = faces
    while target <= max(8 * faces, SMALL // 8):
        if target >= len(mesh.faces):
            return mesh
        kept = attempt(target)
        if kept is not None:
            between = None if target == faces else attempt(round(target / 2**0.5))
            return kept if between is None else between
        target *= 2
    return mesh if len(mesh.faces) < SMALL else next(filter(is_closed, tried), tried[-1])


def collapsed(mesh: trimesh.Trimesh, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces after quadric edge collapse to `target` faces, in the order of the errors as far as that
    leads."""
    import fast_simplification

    for haste in (EVEN, HASTY):
        vertices, faces = fast_simplification.simplify(mesh.vertices, mesh.faces, target_count=target, agg=haste)
        if len(faces) <= target:
            break
    return vertices, faces


def is_closed(mesh: trimesh.Trimesh) -> bool:
    """Every edge joins two faces that agree on the outside, and the inside is inside."""
    return bool(mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0)


def parted(vertices: np.ndarray, faces: np.ndarray, attempts: int = 8) -> trimesh.Trimesh:
    """The sheets of a surface that collapses made touch, each with vertices of its own where they do.

    Around an edge of four or more faces, each that runs along it one way is joined to one that runs the other way, and
    a fan is what so hangs together around a vertex. Where two fans still share an edge, other pairs are drawn.
    Copies of a vertex are moved 2% towards their faces, so that no reader merges them again.
    """
    import trimesh

    faces = _without_fins(faces)
    if not len(faces):
        return trimesh.Trimesh()
    halves = np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2)
    edge = np.unique(np.sort(halves, 1), axis=0, return_inverse=True)[1].reshape(-1)
    along, rng = halves[:, 0] < halves[:, 1], np.random.default_rng(0)
    order = np.arange(len(edge), dtype=float)
    for _ in range(attempts):
        fan = _fans(edge, along, order)
        shared = np.isin(edge, edge[_shared(fan)])
        if not shared.any():
            break
        order[shared] = rng.random(shared.sum())
    source = np.empty(fan.max() + 1, int)
    source[fan] = faces.reshape(-1)
    copies = np.bincount(source, minlength=len(vertices))[source] > 1
    weight = np.bincount(fan)[:, None]
    middle = np.repeat(vertices[faces].mean(1), 3, 0)
    towards = np.stack([np.bincount(fan, middle[:, axis]) for axis in range(3)], 1) / weight
    moved = np.where(copies[:, None], 0.98 * vertices[source] + 0.02 * towards, vertices[source])
    return trimesh.Trimesh(moved, fan.reshape(-1, 3), process=False)


def _without_fins(faces: np.ndarray) -> np.ndarray:
    """Two faces that lie back to back hold nothing between them: both go."""
    same = np.unique(np.sort(faces, 1), axis=0, return_inverse=True)[1].reshape(-1)
    first = np.take_along_axis(faces, (faces.argmin(1)[:, None] + np.arange(3)) % 3, 1)
    way = np.where(first[:, 1] < first[:, 2], 1, -1)
    surplus = np.bincount(same, way).astype(int)  # of the faces one way round over those the other
    order = np.lexsort((way, same))
    rank = np.empty(len(faces), int)
    kind = 2 * same + (way > 0)
    begin = np.searchsorted(kind[order], np.arange(2 * len(surplus)))
    rank[order] = np.arange(len(faces)) - begin[kind[order]]
    return faces[rank < surplus[same] * way]


def _fans(edge: np.ndarray, along: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The fan [3 F] that each corner belongs to. Half-edge i starts at corner i, lies on `edge[i]` and runs `along` it
    or back; the n-th of an edge that runs along it, by `order`, is joined to the n-th that runs back."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    corner = np.arange(len(edge))
    end = corner - corner % 3 + (corner + 1) % 3
    there, back = (corner[way][np.lexsort((order[way], edge[way]))] for way in (along, ~along))
    ends = np.concatenate([there, end[there]]), np.concatenate([end[back], back])
    links = coo_matrix((np.ones(len(ends[0])), ends), shape=(len(edge),) * 2)
    return connected_components(links, directed=False)[1]


def _shared(fan: np.ndarray) -> np.ndarray:
    """Which half-edges [3 F] lie on an edge of more than two faces."""
    faces = fan.reshape(-1, 3)
    halves = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2), 1)
    _, edge, count = np.unique(halves, axis=0, return_inverse=True, return_counts=True)
    return count[edge.reshape(-1)] > 2
