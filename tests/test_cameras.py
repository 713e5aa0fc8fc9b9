"""Camera conventions, checked by a projection written independently of `Cameras.rays`."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from text23d.cameras import Cameras, orbit
from text23d.contracts import each
from text23d.errors import UserError
from text23d.representation.views import CameraSampler
from text23d.rng import generator


def project(cameras: Cameras, point: Tensor, high: int, wide: int | None = None) -> Tensor:
    """Pixel positions [B, 2] (column, row) of one world point: inverse pose, then pinhole intrinsics of square pixels,
    in pictures `high` pixels high (and as wide, unless said otherwise)."""
    world = torch.cat([point, point.new_ones(1)])
    eye = torch.einsum("bij,j->bi", torch.linalg.inv(cameras.to_world()), world)
    focal = 0.5 * high / torch.tan(torch.deg2rad(cameras.fov) / 2)
    x, y = focal * eye[:, 0] / -eye[:, 2], focal * eye[:, 1] / -eye[:, 2]
    return torch.stack([(high if wide is None else wide) / 2 + x, high / 2 - y], -1)


def one(azimuth: float, elevation: float = 0.0) -> Cameras:
    return Cameras(*(torch.tensor([value], dtype=torch.float64) for value in (azimuth, elevation, 3.0, 40.0)))


@pytest.mark.parametrize("shape", [(16, 16), (16, 24), (20, 13)])
def test_rays_pass_through_the_points_that_project_onto_their_pixels(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    cameras = CameraSampler().sample(5, generator)
    jitter = torch.rand(5, *shape, 2, generator=generator)
    origins, directions = cameras.rays(shape, jitter)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(5, *shape))
    for row, column in ((0, 0), (3, 12), (15, 7)):
        for view in range(5):
            point = origins[view, row, column] + 2.7 * directions[view, row, column]
            expected = torch.tensor([column, row]) + jitter[view, row, column]
            assert torch.allclose(project(cameras, point, *shape)[view], expected, atol=1e-3)


@pytest.mark.parametrize(("azimuth", "position"), [(0.0, (0, -3, 0)), (90.0, (3, 0, 0)), (180.0, (0, 3, 0))])
def test_azimuth_names_the_side_that_is_seen(azimuth: float, position: tuple[int, ...]) -> None:
    expected = torch.tensor([position], dtype=torch.float64)
    assert torch.allclose(one(azimuth).positions(), expected, atol=1e-12)


def test_picture_axes_follow_the_world() -> None:
    """From the front +X lies right and +Z up (rows count downwards); from +X, +Y lies right."""
    point = torch.eye(3, dtype=torch.float64) * 0.5
    column, row = project(one(0.0), point[0], 64)[0].tolist()
    assert column > 40 and row == pytest.approx(32)
    column, row = project(one(0.0), point[2], 64)[0].tolist()
    assert column == pytest.approx(32) and row < 24
    column, row = project(one(90.0), point[1], 64)[0].tolist()
    assert column > 40 and row == pytest.approx(32)
    assert project(one(0.0, 30.0), point[1], 64)[0, 1] < 32, "from above, what is farther away lies higher"


def test_poses_are_right_handed_rotations_that_look_at_the_origin() -> None:
    pose = CameraSampler().sample(8, torch.Generator().manual_seed(1)).to_world()
    rotation = pose[:, :3, :3]
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).expand(8, 3, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(rotation), torch.ones(8), atol=1e-5)
    back = pose[:, :3, 3] / pose[:, :3, 3].norm(dim=-1, keepdim=True)
    assert torch.allclose(rotation[:, :, 2], back, atol=1e-5)


def test_every_batch_covers_the_circle_and_every_angle_is_equally_likely() -> None:
    generator, n = torch.Generator().manual_seed(2), 4
    batches = torch.stack([CameraSampler().sample(n, generator).azimuth for _ in range(2000)])
    assert batches.min() >= 0 and batches.max() < 360
    gaps = torch.diff(batches.sort(dim=1).values, dim=1)
    assert gaps.max() <= 2 * 360 / n + 1e-3, "one camera per bin: neighbours are at most two bins apart"
    share = torch.histc(batches, 12, 0, 360) / batches.numel()
    assert (share * 12 - 1).abs().max() < 0.15  # 667 expected in each bin, so 0.15 is nearly 4 standard errors


def test_samples_stay_in_their_ranges_and_elevation_is_uniform_over_the_sphere() -> None:
    sampler = CameraSampler((-10, 50), (2.8, 3.2), (38, 42))
    cameras = sampler.sample(20_000, torch.Generator().manual_seed(3))
    drawn = {(-10, 50): cameras.elevation, (2.8, 3.2): cameras.distance, (38, 42): cameras.fov}
    for (low, high), values in drawn.items():
        assert values.min() >= low - 1e-4 and values.max() <= high + 1e-4
        assert values.max() - values.min() > 0.99 * (high - low)
    expected = (math.sin(math.radians(-10)) + math.sin(math.radians(50))) / 2
    assert torch.deg2rad(cameras.elevation).sin().mean().item() == pytest.approx(expected, abs=0.007)


def test_the_generator_decides_everything() -> None:
    first, again = (CameraSampler().sample(6, torch.Generator().manual_seed(7)) for _ in range(2))
    other = CameraSampler().sample(6, torch.Generator().manual_seed(8))
    for name in ("azimuth", "elevation", "distance", "fov"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_orbit_is_evenly_spaced_from_the_front() -> None:
    cameras = orbit(8, elevation=20, distance=2.9, fov=39)
    assert torch.equal(cameras.azimuth, torch.arange(8) * 45.0)
    assert cameras.elevation.unique().tolist() == [20] and len(cameras) == 8
    assert cameras.distance.unique().tolist() == pytest.approx([2.9]) and cameras.fov.unique().tolist() == [39]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("elevation", (50, -10)),
        ("elevation", (0, 90)),
        ("elevation", (-90, 0)),
        ("distance", (0.9, 3)),
        ("distance", (3.2, 2.8)),
        ("fov", (0, 40)),
        ("fov", (40, 180)),
        ("fov", (float("nan"), 40)),
        ("fov", (40,)),
    ],
)
def test_impossible_ranges_are_named(option: str, value: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match=rf"camera {option} is .*expected .*: change the range") as caught:
        CameraSampler(**{option: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_at_least_one_camera_and_a_possible_orbit() -> None:
    with pytest.raises(UserError, match="at least 1"):
        CameraSampler().sample(0)
    with pytest.raises(UserError, match="at least 1"):
        orbit(0)
    with pytest.raises(UserError, match="camera distance"):
        orbit(4, distance=0.5)


def test_cameras_one_by_one_are_the_cameras() -> None:
    cameras = CameraSampler().sample(5, generator(0, 0, 0, "cameras"))
    assert [len(one) for one in each(cameras)] == [1] * 5
    assert torch.equal(Cameras.cat(list(each(cameras))).features(), cameras.features())
