"""What a surface is as a shape, whatever its colours: how rough, of how many bodies, with how many handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import trimesh


def shape(mesh: trimesh.Trimesh) -> dict[str, Any]:
    """mesh: closed, equal vertices merged.

    roughness  mean angle between the normals of two faces that share an edge, in degrees.
    bodies     the number of its connected components.
    genus      handles of all bodies together: each has (2 - V + E - F) / 2 of them.
    """
    from trimesh.graph import connected_component_labels

    body = connected_component_labels(mesh.edges_unique, node_count=len(mesh.vertices))
    used = np.unique(mesh.faces)
    bodies = len(np.unique(body[used]))
    characteristic = len(used) - len(mesh.edges_unique) + len(mesh.faces)
    angles = mesh.face_adjacency_angles
    return {
        "roughness": float(np.degrees(angles.mean())) if len(angles) else 0.0,
        "bodies": bodies,
        "genus": (2 * bodies - characteristic) // 2,
    }
