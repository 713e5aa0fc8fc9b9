"""What meshes are measured by, and the world's objects as fields, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from text23d.artifact.score import half_covered, overlap
from text23d.artifact.shape import shape
from text23d.spaces import to_picture
from text23d.studies.evaluation.solids import filled, measured
from text23d.tasks.meshing import MeshSettings, scored
from text23d.worlds.objects.parts import Mesh, Object, Part, box
from text23d.worlds.objects.render import pictures, render


@pytest.mark.parametrize(
    ("mesh", "roughness", "bodies", "genus"),
    [
        (trimesh.creation.box(), 12 * 90 / 18, 1, 0),  # two triangles a side: six edges are flat
        (trimesh.creation.icosphere(0), 180 - np.degrees(np.arccos(-(5**0.5) / 3)), 1, 0),
        (trimesh.creation.torus(0.6, 0.2), None, 1, 1),
        (trimesh.creation.annulus(0.2, 0.5, 0.1), None, 1, 1),
    ],
)
def test_solids_in_closed_form(mesh: trimesh.Trimesh, roughness: float | None, bodies: int, genus: int) -> None:
    found = shape(mesh)
    assert (found["bodies"], found["genus"]) == (bodies, genus)
    assert roughness is None or found["roughness"] == pytest.approx(roughness)


def test_bodies_are_counted_and_their_handles_added() -> None:
    rings = [trimesh.creation.torus(0.6, 0.2) for _ in range(2)]
    for x, ring in enumerate(rings):
        ring.apply_translation([3 * x, 0, 0])
    everything = trimesh.util.concatenate([*rings, trimesh.creation.box(bounds=[[9, 9, 9], [10, 10, 10]])])
    assert isinstance(everything, trimesh.Trimesh)
    found = shape(everything)
    assert (found["bodies"], found["genus"]) == (3, 2)


def test_half_covered_pixels_and_overlap_by_hand() -> None:
    alpha = torch.tensor([[0.0, 0.05, 0.2, 0.5], [0.89, 0.91, 1.0, 1.0]]).view(1, 1, 2, 4)
    assert half_covered(to_picture(0.5 * alpha.expand(-1, 3, -1, -1), alpha)) == pytest.approx(3 / 6)
    assert half_covered(torch.cat([torch.zeros(1, 3, 2, 2), -torch.ones(1, 1, 2, 2)], 1)) == 0
    a, b = np.zeros((3, 2, 2), bool), np.zeros((3, 2, 2), bool)
    a[0], b[0, 0], a[1, 0] = True, True, True  # 1/2, then 0, then both are empty
    assert overlap(a, b) == pytest.approx((0.5 + 0 + 1) / 3)


def solid(*meshes: Mesh) -> Object:
    return Object(tuple(Part("part", mesh, (1.0, 0.0, 0.0)) for mesh in meshes))


def test_the_share_that_a_box_fills_of_each_cell() -> None:
    """Exact along Z; across, the box ends between the columns that its cells are measured by."""
    share = filled(solid(box(1.0, 0.75, 0.7).moved(0.0, 0.0, -0.3)), 8)
    x, y = np.array([0, 0, 1, 1, 1, 1, 0, 0]), np.array([0, 0, 0.5, 1, 1, 0.5, 0, 0])
    z = np.array([0, 0, 0.2, 1, 1, 0.6, 0, 0])
    assert share == pytest.approx(x[:, None, None] * y[:, None] * z, abs=1e-5)


def test_solids_that_overlap_are_one_and_holes_stay() -> None:
    ring, ball = trimesh.creation.torus(0.6, 0.2, 96, 48), trimesh.creation.icosphere(4, radius=0.45)
    ball.apply_translation([0.6, 0, 0])
    parts = [Mesh(np.array(each.vertices), np.array(each.faces)) for each in (ring, ball)]
    share, centre = filled(solid(*parts), 32), (np.arange(32) + 0.5) / 16 - 1
    x, y, z = np.meshgrid(centre, centre, centre, indexing="ij")
    outside = np.minimum(np.hypot(np.hypot(x, y) - 0.6, z) - 0.2, np.sqrt((x - 0.6) ** 2 + y**2 + z**2) - 0.45)
    assert (share[outside < -1 / 16] > 0.999).all() and not share[outside > 1 / 16].any()
    assert share.mean() == pytest.approx((outside < 0).mean(), rel=0.02)


def test_a_solid_is_meshed_as_a_field_is() -> None:
    thing = solid(box(1.2, 1.2, 0.3).moved(0, 0, -0.5), box(0.3, 0.3, 1.0).moved(0, 0, -0.4))
    seen = pictures(render(thing, scored(), size=64))
    found = measured(filled(thing, 64), seen, MeshSettings(resolution=64, faces=4000))
    assert (found["bodies"], found["genus"]) == (1, 0) and found["iou"] > 0.92
    assert 0 < found["roughness"] < 15 and 0 < found["half_covered"] < 0.2
