"""What meshes are measured by, and the world's objects as fields, against closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from text23d.artifact.formats import read
from text23d.artifact.model import display
from text23d.artifact.portrait import ALBEDO, GROUND, SKY, SUN, clay, portraits, suns
from text23d.artifact.score import half_covered, look, overlap
from text23d.artifact.shape import shape
from text23d.cameras import Cameras, orbit
from text23d.spaces import to_picture
from text23d.studies.evaluation.solids import Solid, filled, measured
from text23d.tasks.meshing import MeshSettings
from text23d.worlds.objects.parts import Mesh, Object, Part, box


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


def test_a_solid_is_meshed_as_a_field_is(tmp_path: Path) -> None:
    """A table with a red board, whose genus the ring beside it has not: exported and read as a NeRF's mesh is."""
    board, leg = box(1.2, 1.2, 0.3).moved(0, 0, -0.5), box(0.3, 0.3, 1.0).moved(0, 0, -0.4)
    table = Object((Part("board", board, (0.8, 0.1, 0.1)), Part("leg", leg, (0.1, 0.2, 0.7))))
    torus = trimesh.creation.torus(0.6, 0.2, 96, 48)
    ring = solid(Mesh(np.array(torus.vertices), np.array(torus.faces)))
    settings = MeshSettings(resolution=64, faces=4000, texture=256)
    found = measured([Solid(each, 64) for each in (table, ring)], "a table", tmp_path, settings)
    assert (found["bodies"], found["genus"], found["genus_least"], found["genus_most"]) == (1, 0, 0, 1)
    assert found["iou"] > 0.95 and found["psnr"] > 27 and found["light_removed"] > 0.9
    assert 0 < found["roughness"] < 15 and 0 < found["half_covered"] < 0.2
    hit, colour = look(
        read(tmp_path / "mesh.glb"), Cameras(*(torch.tensor([each]) for each in (0.0, 80.0, 3.0, 40.0))), 32
    )
    middle = colour[0][hit[0]]
    assert np.abs(middle - (0.1, 0.2, 0.7)).max(1).min() < 0.05, "albedo, whatever the light from above"


def test_clay_is_lamberts_law_of_a_sun_and_a_sky() -> None:
    """A ball, whose normal at every pixel is known, from the side and from above."""
    ball, cameras, size = trimesh.creation.icosphere(5), Cameras.cat([orbit(2, 0.0), orbit(1, 70.0)]), 48
    origins, towards = (each.double() for each in cameras.rays((size, size)))
    nearest = -(origins * towards).sum(-1, keepdim=True)
    closest = origins + nearest * towards
    inside = (closest.square().sum(-1) < 0.97**2).numpy()
    normal = closest - (1 - closest.square().sum(-1, keepdim=True)).clamp(min=0).sqrt() * towards
    sun = torch.from_numpy(suns(cameras))[:, None, None]
    light = SUN * (normal * sun).sum(-1).clamp(min=0) + GROUND + (SKY - GROUND) * (1 + normal[..., 2]) / 2
    levels = 255 * display((ALBEDO * light).numpy())
    seen = clay(ball, cameras, size)
    assert np.abs(seen[inside] - levels[inside][:, None]).max() < 4 and (seen[:, 0, 0] == 255).all()
    left, right = seen[0, :, :24][inside[0, :, :24]], seen[0, :, 24:][inside[0, :, 24:]]
    assert left.mean() > right.mean() + 30, "the sun stands to the left"


def test_unlit_is_the_colour_itself_and_portraits_fill_their_pictures() -> None:
    brick = trimesh.creation.box((40.0, 20.0, 30.0))
    brick.apply_translation([100, 0, 7])
    brick.visual = trimesh.visual.ColorVisuals(brick, vertex_colors=np.tile([200, 40, 90], (8, 1)))
    shaded, plain = portraits(brick, 64)
    covered: Any = (shaded < 255).all(-1)
    assert 0.15 < covered.mean() < 0.6 and not covered[[0, -1]].any() and not covered[:, [0, -1]].any()
    assert float((np.abs(plain[covered].astype(int) - (200, 40, 90)).max(-1) <= 1).mean()) > 0.9, "but for its outline"
    assert len(np.unique(shaded[covered][:, 0])) >= 3, "three sides in three greys"
