"""Meshes of analytic fields against their closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from text23d.artifact import mesh as mesh_module
from text23d.artifact.decimate import VOLUME, decimated, is_closed, parted
from text23d.artifact.depth import least_depth
from text23d.artifact.mesh import (
    FINEST,
    GIVEN,
    LEVELS,
    EmptyField,
    _through,
    evened,
    extract,
    fitting_level,
    halved,
    sample,
    smoothed,
    surface,
)
from text23d.artifact.shape import shape
from text23d.errors import UserError

Field = Callable[[Tensor], Tensor]


def ball(radius: float, centre: tuple[float, float, float] = (0, 0, 0), width: float = 0.004) -> Field:
    """100 per scene unit inside, almost 0 outside."""
    return lambda p: 100 * torch.sigmoid((radius - (p - torch.tensor(centre)).norm(dim=-1)) / width)


def test_a_ball() -> None:
    mesh = extract(ball(0.6), resolution=96, threshold=50.0)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert is_closed(mesh) and mesh.body_count == 1 and len(mesh.faces) <= 20_000
    assert abs(radius.mean() - 0.6) < 0.002 and radius.std() < 0.002
    assert abs(mesh.volume / (4 / 3 * np.pi * 0.6**3) - 1) < 0.01
    outward = np.einsum("vi,vi->v", mesh.vertex_normals, mesh.vertices / radius[:, None])
    assert outward.mean() > 0.998 and outward.min() > 0.8


def test_floaters_go_and_parts_stay() -> None:
    crown, trunk, dust = ball(0.5, (0, 0, 0.3)), ball(0.25, (0, 0, -0.6)), ball(0.08, (0.8, 0.8, 0.8))
    mesh = extract(lambda p: crown(p) + trunk(p) + dust(p), resolution=64, threshold=50.0)
    assert is_closed(mesh) and mesh.body_count == 2
    assert mesh.bounds[0, 2] < -0.8 and mesh.bounds[1, 0] < 0.55


def test_an_inner_shell_goes() -> None:
    outer, inner = ball(0.7), ball(0.4)
    mesh = extract(lambda p: outer(p) - inner(p), resolution=64, threshold=50.0)
    assert is_closed(mesh) and mesh.body_count == 1 and np.linalg.norm(mesh.vertices, axis=1).min() > 0.65
    assert abs(mesh.volume / (4 / 3 * np.pi * 0.7**3) - 1) < 0.02


def test_an_open_cup_keeps_its_inside() -> None:
    outer, inner = ball(0.7), ball(0.5)
    mesh = extract(lambda p: (outer(p) - inner(p)) * (p[:, 2] < 0.3), resolution=64, threshold=50.0)
    assert is_closed(mesh) and np.linalg.norm(mesh.vertices, axis=1).min() < 0.55


def test_a_slanted_thin_leg_stays() -> None:
    """A leg one cell wide along a diagonal hangs on its body by corners only, cell by cell."""
    axis = torch.tensor([1.0, 1.0, 1.0]) / 3**0.5

    def leg(p: Tensor) -> Tensor:
        along = p @ axis
        return 100.0 * (((p - along[:, None] * axis).norm(dim=-1) < 0.02) & (along.abs() < 0.7))

    body = ball(0.3, (0.4, 0.4, 0.4))
    mesh = extract(lambda p: leg(p) + body(p), resolution=64, threshold=10.0)
    assert is_closed(mesh) and (mesh.vertices @ axis.numpy()).min() < -0.65


@pytest.mark.parametrize("threshold", [None, 10.0])
def test_a_solid_field_becomes_the_box(threshold: float | None) -> None:
    mesh = extract(lambda p: torch.full((len(p),), 30.0), resolution=32, threshold=threshold)
    assert is_closed(mesh) and np.abs(np.abs(mesh.bounds) - 1).max() < 1 / 32
    assert abs(mesh.volume / 8 - 1) < 0.05


def test_overflowed_densities_are_merely_opaque() -> None:
    def density(p: Tensor) -> Tensor:
        return torch.where(p.norm(dim=-1) < 0.5, torch.inf, 0.0)

    mesh = extract(density, resolution=48)
    assert is_closed(mesh) and abs(np.linalg.norm(mesh.vertices, axis=1).mean() - 0.5) < 0.01


def test_an_empty_field_says_so() -> None:
    def nothing(p: Tensor) -> Tensor:
        return torch.zeros(len(p))

    with pytest.raises(EmptyField, match=r"nothing is denser than 10 .*densest point has 0"):
        extract(nothing, resolution=16, threshold=10.0)
    with pytest.raises(EmptyField, match=r"too thin to see: its densest point has 0\.1"):
        extract(lambda p: nothing(p) + 0.1, resolution=16)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"not a number at 4096 of 4096 points.*diverged"):
        extract(lambda p: torch.full((len(p),), float("nan")), resolution=16)
    for setting in ({"resolution": 1}, {"resolution": FINEST + 1}, {"faces": 0}, {"threshold": 0.0}):
        with pytest.raises(UserError, match=f"{next(iter(setting))}=.*expected"):
            extract(ball(0.5), **setting)  # type: ignore[arg-type]


def test_sampling_visits_cell_centres_and_only_where_occupied() -> None:
    visited: list[Tensor] = []

    def density(p: Tensor) -> Tensor:
        visited.append(p)
        return p @ torch.tensor([1.0, 10.0, 100.0]) + 200

    centre = (np.arange(8) + 0.5) / 4 - 1
    x, y, z = np.meshgrid(centre, centre, centre, indexing="ij")
    expected = x + 10 * y + 100 * z + 200
    assert np.abs(sample(density, 8) - expected).max() < 1e-4
    visited.clear()
    assert np.abs(sample(density, 8, lambda p: p[:, 0] > 0) - expected * (x > 0)).max() < 1e-4
    assert sum(len(p) for p in visited) == 8**3 // 2 and min(p[:, 0].min() for p in visited) > 0


@pytest.mark.parametrize("width", [0.01, 0.03, 0.06])
def test_the_automatic_level_lies_between_silhouette_and_depth(width: float) -> None:
    """A soft ball's silhouette is where a chord's integral is ln 2, and from the front it is seen where the radius'
    own passes ln 2: both found here by quadrature. A hard ball has one radius, a soft one is met between the two."""
    field, along = ball(0.5, width=width), torch.linspace(-1, 1, 4001, dtype=torch.float64)

    def chord(offset: float) -> Tensor:
        points = torch.stack([torch.full_like(along, offset), torch.zeros_like(along), along], -1)
        return torch.cumulative_trapezoid(field(points), along)

    low, silhouette = 0.3, 0.99
    for _ in range(40):
        middle = (low + silhouette) / 2
        low, silhouette = (middle, silhouette) if chord(middle)[-1] > np.log(2) else (low, middle)
    seen = -float(along[1:][chord(0.0) > np.log(2)][0])
    mesh = extract(field, resolution=96)
    radius = np.linalg.norm(mesh.vertices, axis=1).mean()
    assert seen - 1 / 96 < radius < silhouette + 1 / 96
    assert silhouette - radius < 0.6 * (silhouette - seen) + 1 / 96, "the silhouette counts for more"


def test_the_automatic_level_sits_between_fog_and_object() -> None:
    field = sample(lambda p: ball(0.5, width=0.001)(p) + 0.2, 64)
    depth = least_depth(field, 2 / 64)
    level = fitting_level(field, depth, 2 / 64)
    assert abs((depth > level).mean() - 4 / 3 * np.pi * 0.5**3 / 8) < 0.005


def test_the_automatic_level_against_brute_force() -> None:
    """The highest of the levels with silhouettes as good as the best ones', ray by ray, for a soft and pitted ball."""
    rng = np.random.default_rng(0)
    field = sample(ball(0.5, width=0.04), 48) * rng.uniform(0.5, 2, (48, 48, 48)).astype(np.float32)
    depth = least_depth(field, 2 / 48)
    views = [(a.numpy(), b.numpy()) for a, b in _through(field, depth, 2 / 48)]

    def iou(level: float) -> float:
        found = []
        for absorbed, most in views:
            pairs = [(a > np.log(2), m > np.float32(level)) for a, m in zip(absorbed, most, strict=True)]
            found.append(sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs))
        return float(np.mean(found))

    fits = [iou(level) for level in LEVELS]
    good = [level for level, fit in zip(LEVELS, fits, strict=True) if fit >= (1 - GIVEN) * max(fits)]
    assert 0 < len(good) < len(LEVELS) and fitting_level(field, depth, 2 / 48) == pytest.approx(max(good))


def test_the_least_depth_against_brute_force() -> None:
    """Ray by ray, and centre to centre, from outside the grid."""
    field, cell = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32), 0.5
    expected = np.full(field.shape, np.inf)
    for at in np.ndindex(field.shape):
        for step in itertools.product((-1, 0, 1), repeat=3):
            if any(step):
                passed, here = [], np.array(at)
                while (here >= 0).all() and (here < field.shape).all():
                    passed.append(field[tuple(here)])
                    here = here - step
                depth = (sum(passed) - passed[0] / 2) * cell * np.linalg.norm(step)
                expected[at] = min(expected[at], depth)
    assert least_depth(field, cell) == pytest.approx(expected, rel=1e-5)


def test_a_thin_part_has_half_of_its_own_depth_in_its_middle() -> None:
    """A slab that stops half of the light, in soft cells: ln 2 / 2; and a ball of even density: its distance from the
    outside, times that."""
    slab = np.zeros((9, 32, 32), np.float32)
    slab[2:7] = np.log(2) / (5 * 0.1)
    assert least_depth(slab, 0.1)[4, 8:-8, 8:-8] == pytest.approx(np.log(2) / 2)
    solid = sample(lambda p: 10.0 * (p.norm(dim=-1) < 0.7), 64)
    centre = (np.arange(64) + 0.5) / 32 - 1
    radius = np.sqrt(sum(np.square(axis) for axis in np.meshgrid(centre, centre, centre, indexing="ij")))
    inside = radius < 0.4
    off = least_depth(solid, 1 / 32)[inside] / (10 * (0.7 - radius[inside]))
    assert off.min() > 0.88 and off.max() < 1.15, "to a cell, and where no direction is the shortest"


def test_what_no_direction_sees_is_filled_and_what_one_sees_through_stays() -> None:
    """A hollow ball, whose shell has a slanted perforation that ends inside; and a ring."""

    def hollow(p: Tensor) -> Tensor:
        radius = p.norm(dim=-1)
        pit = (p[:, 0] - 0.4 * p[:, 2]).abs().maximum((p[:, 1] - 0.3 * p[:, 2]).abs()) < 0.04
        return 60.0 * ((radius < 0.7) & (radius > 0.5) & ~(pit & (p[:, 2] > 0)))

    def ring(p: Tensor) -> Tensor:
        return 60.0 * ((p[:, :2].norm(dim=-1) - 0.6).square() + p[:, 2].square() < 0.15**2)

    filled, open = extract(hollow, resolution=64), extract(ring, resolution=64)
    assert shape(filled)["genus"] == 0 and shape(filled)["bodies"] == 1
    assert filled.volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.03)
    assert shape(open)["genus"] == 1 and shape(open)["bodies"] == 1


@pytest.mark.parametrize("density", [1.5, 6.0, 60.0])
def test_a_thin_part_stays_beside_a_dense_body(density: float) -> None:
    """A plate of three cells on a ball: a ray through it is half absorbed, or more, at any of these densities."""
    body, plate = ball(0.3, (0, 0, -0.4)), torch.tensor([0.8, 0.8, 0.05])

    def field(p: Tensor) -> Tensor:
        inside = ((p - torch.tensor([0.0, 0, 0.2])).abs() < plate).all(-1) | (
            (p[:, :2].norm(dim=-1) < 0.08) & (p[:, 2].abs() < 0.2)
        )
        return body(p) + density * 5 * inside

    mesh = extract(field, resolution=64)
    assert shape(mesh)["bodies"] == 1 and np.abs(mesh.bounds[:, :2]).min() > 0.75


def test_a_pitted_surface_is_evened_and_stays_where_it_is() -> None:
    """Densities that differ by up to 6 times from cell to cell, in a soft ball."""
    noise = np.exp(np.random.default_rng(0).normal(0, 0.9, (64, 64, 64))).astype(np.float32)
    field = sample(ball(0.5, width=0.02), 64) * noise
    rough, even = (surface(each, 10.0, 2 / 64) for each in (field, evened(field, 10.0, 1 / 64)))
    spread = [np.linalg.norm(mesh.vertices, axis=1) for mesh in (rough, even)]
    assert spread[1].std() < 0.5 * spread[0].std() and abs(spread[1].mean() - spread[0].mean()) < 0.01


@pytest.mark.parametrize("faces", [500, 5000])
def test_the_face_budget(faces: int) -> None:
    box = torch.tensor([0.6, 0.4, 0.25])

    def table(p: Tensor) -> Tensor:
        return 100 * torch.sigmoid(-(p.abs() - box).amax(-1) / 0.004)

    mesh = extract(table, resolution=64, threshold=50.0, faces=faces)
    assert is_closed(mesh) and faces * 0.9 <= len(mesh.faces) <= faces
    assert abs(mesh.volume / (8 * 0.6 * 0.4 * 0.25) - 1) < 0.03


def test_a_rough_surface_stays_closed_after_decimation() -> None:
    """Edge collapses make sheets of a noisy field touch: the budget holds and the mesh is still closed."""
    noise = 6 * torch.randn(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))

    def rough(p: Tensor) -> Tensor:
        at = p.view(1, 1, 1, -1, 3)
        value = torch.nn.functional.grid_sample(noise, at, align_corners=False).view(-1)
        return torch.exp(value + 30 * (0.6 - p.norm(dim=-1)).clamp(max=0.1))

    mesh = extract(rough, resolution=64, threshold=3.0, faces=4000)
    assert is_closed(mesh) and len(mesh.faces) <= 4000
    merged = trimesh.Trimesh(mesh.vertices.round(6), mesh.faces)
    assert is_closed(merged), "vertices that were parted stay apart when a reader merges the equal ones"


def test_smoothing_takes_the_noise_and_leaves_the_volume() -> None:
    sphere = trimesh.creation.icosphere(5)
    noisy = sphere.copy()
    noisy.vertices *= 1 + 0.01 * np.random.default_rng(0).standard_normal((len(sphere.vertices), 1))
    smooth = smoothed(noisy)
    assert np.linalg.norm(smooth.vertices, axis=1).std() < 0.4 * np.linalg.norm(noisy.vertices, axis=1).std()
    assert abs(smooth.volume / noisy.volume - 1) < 0.002


def test_decimation_gives_way_before_it_ruins_the_shape() -> None:
    """A tetrahedron's worth of faces cannot hold a torus: more are kept, but not many."""
    torus = trimesh.creation.torus(0.6, 0.2)
    fewer = decimated(torus, 4)
    assert is_closed(fewer) and fewer.euler_number == 0 and abs(fewer.volume / torus.volume - 1) < VOLUME
    assert len(fewer.faces) <= 64 < len(torus.faces)


@pytest.mark.parametrize("faces", [100, 200, 400, 1000])
def test_a_small_budget_is_kept(faces: int) -> None:
    """A rough body with a thin leg, of 14 thousand faces."""
    noise = torch.randn(1, 1, 10, 10, 10, generator=torch.Generator().manual_seed(0))

    def rough(p: Tensor) -> Tensor:
        value = torch.nn.functional.grid_sample(noise, p.view(1, 1, 1, -1, 3), align_corners=False).view(-1)
        leg = ((p[:, :2] - 0.3).norm(dim=-1) < 0.05) & (p[:, 2] < 0) & (p[:, 2] > -0.9)
        return 100 * torch.sigmoid((0.6 + 0.1 * value - p.norm(dim=-1)) / 0.01) + 100 * leg

    mesh = extract(rough, resolution=64, threshold=10.0, faces=faces)
    assert is_closed(mesh) and 0.8 * faces < len(mesh.faces) <= faces


def test_sheets_that_touch_are_parted_and_fins_go() -> None:
    """Two boxes that share an edge, and a third on a corner, with a fin and a folded sheet of no thickness."""
    corners = np.array([(0, 0, 0), (1, 1, 0), (2, 0, 1)])
    boxes = [trimesh.creation.box(bounds=np.stack([low, low + 1])) for low in corners]
    faces = np.concatenate([box.faces + 8 * number for number, box in enumerate(boxes)])
    touching = trimesh.Trimesh(np.concatenate([box.vertices for box in boxes]), faces)
    assert not touching.is_watertight, "the edge is in four faces"
    fin = np.array([[0, 1, 2], [0, 2, 1], [3, 4, 5], [4, 3, 5]])
    mesh = parted(np.asarray(touching.vertices), np.concatenate([touching.faces, fin]))
    assert is_closed(mesh) and mesh.body_count == 3 and len(mesh.faces) == 36
    assert abs(mesh.volume - 3) < 0.1 and len(np.unique(mesh.vertices.round(6), axis=0)) == 24


def test_parting_leaves_a_closed_mesh_as_it_is() -> None:
    sphere = trimesh.creation.icosphere(3)
    mesh = parted(np.asarray(sphere.vertices), np.asarray(sphere.faces))
    assert np.allclose(mesh.triangles, sphere.triangles) and len(mesh.vertices) == len(sphere.vertices)


def test_noise_ends_within_reach_of_its_budget() -> None:
    """Densities drawn cell by cell: no object, but a mesh of bounded size."""
    noise = torch.randn(16**3, generator=torch.Generator().manual_seed(0)).mul(6).exp()

    def field(p: Tensor) -> Tensor:
        x, y, z = ((p + 1) * 8).long().clamp(0, 15).unbind(-1)
        return noise[x * 256 + y * 16 + z]

    mesh = extract(field, resolution=16, faces=1000)
    assert 100 < len(mesh.faces) <= 8000 and np.isfinite(mesh.vertices).all() and np.abs(mesh.vertices).max() <= 1.1


def test_noise_of_too_many_faces_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_module, "MOST_FACES", 20_000)
    noise = torch.randn(64**3, generator=torch.Generator().manual_seed(0)).mul(3).exp()

    def field(p: Tensor) -> Tensor:
        x, y, z = ((p + 1) * 32).long().clamp(0, 63).unbind(-1)
        return noise[x * 4096 + y * 64 + z]

    mesh = extract(field, resolution=64, threshold=1.0, faces=1000)
    assert 100 < len(mesh.faces) <= 8000 and np.isfinite(mesh.vertices).all()


def test_halving_is_the_mean_of_eight() -> None:
    field = np.random.default_rng(0).random((5, 4, 7))
    small = halved(field)
    assert small.shape == (2, 2, 3)
    assert small[1, 0, 2] == pytest.approx(np.mean([field[i, j, k] for i in (2, 3) for j in (0, 1) for k in (4, 5)]))


def test_where_the_object_lies_does_not_matter() -> None:
    """The surface is cut out of the bounding box of what is solid."""
    corner = extract(ball(0.2, (0.75, -0.75, 0.75)), resolution=64, threshold=50.0)
    assert np.abs(corner.vertices.mean(0) - (0.75, -0.75, 0.75)).max() < 2e-3
    assert np.abs(np.linalg.norm(corner.vertices - (0.75, -0.75, 0.75), axis=1) - 0.2).max() < 0.01
