"""The radiance field: its start, its gradients, its renderings and its occupancy grid."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from slopes import expect_finite_differences
from torch import Tensor

from text23d.cameras import Cameras, orbit
from text23d.closeups import Closeups, draw_corners
from text23d.errors import UserError
from text23d.interlaced import FIELDS, Interlaced
from text23d.representation.hashgrid import HashGrid
from text23d.representation.nerf import Nerf
from text23d.representation.occupancy import Occupancy
from text23d.representation.views import CameraSampler
from text23d.representation.volume import HIDDEN, in_front, points_on_rays, render_points
from text23d.settings import build
from text23d.spaces import from_picture, to_picture

pytestmark = pytest.mark.usefixtures("both_backends")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(seed: int = 0, spread: float = 1e-4, **options: float) -> Nerf:
    """A coarse field; `spread` scales its grid, so that 1 is a field full of detail."""
    generator = seeded(seed)
    grid = HashGrid(3, 2, 10, 4, 16, generator)
    with torch.no_grad():
        grid.table.mul_(spread / 1e-4)
    return Nerf(grid, hidden=8, steps=24, occupancy=Occupancy(12), generator=generator, **options)  # type: ignore[arg-type]


def views(n: int = 2) -> Cameras:
    return CameraSampler().sample(n, seeded(9))


def test_gradients_of_a_rendering_are_finite_differences() -> None:
    nerf = small(1, spread=0.5, gain=3.0).double()
    cameras = Cameras(*(getattr(views(1), name).double() for name in ("azimuth", "elevation", "distance", "fov")))
    weight = torch.randn(1, 4, 5, 5, generator=seeded(2), dtype=torch.float64)

    def loss() -> Tensor:
        return (nerf.render(cameras, (5, 5), seeded(3)) * weight).sum()

    expect_finite_differences(nerf, loss, 1e-7)


def test_the_untrained_field_is_a_soft_grey_ball() -> None:
    nerf = Nerf(generator=seeded())
    axis = torch.linspace(0, 1.2, 25)[:, None] * torch.nn.functional.normalize(torch.tensor([[1.0, -2.0, 0.5]]))
    density, rgb = nerf.query(axis)
    assert density[0].item() == pytest.approx(25 * math.log1p(math.exp(1)), rel=1e-3)
    assert density[axis.norm(dim=-1) > 1].eq(0).all()
    assert all(near >= far for near, far in pairwise(density.tolist()))
    assert torch.allclose(rgb, torch.full_like(rgb, 0.5), atol=0.01)
    picture = nerf.render_image(orbit(3), 32)
    colour, alpha = from_picture(picture)
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    off_centre = ((row - 15.5) ** 2 + (column - 15.5) ** 2).sqrt() / 16  # picture half-widths, 1.09 scene units each
    apart = (picture[0] - picture[1]).abs()
    assert apart[:, off_centre < 0.9].max() < 0.02 and apart.mean() < 0.001, "the same from every side, but at the rim"
    assert alpha[:, 0, off_centre < 0.35].min() > 0.95 and alpha[:, 0, off_centre > 0.99].max() < 0.01
    assert torch.allclose(colour, 0.5 * alpha.expand_as(colour), atol=0.01)


def test_pictures_are_in_range_and_colour_never_exceeds_coverage() -> None:
    nerf = small(4, spread=3.0)
    picture = nerf.render(views(3), (16, 16), seeded())
    assert picture.shape == (3, 4, 16, 16) and picture.dtype == torch.float32
    assert picture.min() >= -1 - 1e-5 and picture.max() <= 1 + 1e-5
    colour, alpha = from_picture(picture)
    assert (colour >= -1e-5).all() and (colour <= alpha + 1e-5).all()
    assert alpha.std() > 0.1


def test_a_wide_picture_shows_more_of_the_same_scale() -> None:
    """The field of view is vertical: a square picture is the middle of a wider one of its height, and of a taller one
    no more is seen than of a square as high."""
    nerf = small(4, spread=3.0)
    square, wide, tall = (nerf.render(views(3), shape) for shape in ((12, 12), (12, 18), (12, 8)))
    assert wide.shape == (3, 4, 12, 18) and tall.shape == (3, 4, 12, 8)
    torch.testing.assert_close(wide[..., 3:-3], square, atol=1e-4, rtol=0)
    torch.testing.assert_close(tall, square[..., 2:-2], atol=1e-4, rtol=0)
    torch.testing.assert_close(nerf.render_image(views(3), (12, 18), 50), wide, atol=HIDDEN, rtol=0)
    assert torch.equal(nerf.render_image(views(3), 12), nerf.render_image(views(3), (12, 12)))


def test_matter_on_the_left_of_the_world_appears_on_the_left_of_the_front_view() -> None:
    nerf = small()
    low, high = torch.arange(12).chunk(2)
    nerf.occupancy.mask[high], nerf.occupancy.mask[:, :, low] = False, False  # what is left has x < 0 and z > 0
    alpha = from_picture(nerf.render_image(orbit(1, elevation=0), 16))[1][0, 0]
    assert alpha[:8, :8].mean() > 10 * alpha[:8, 8:].mean() and alpha[:8, :8].mean() > 10 * alpha[8:].mean()


def test_the_generator_decides_a_rendering_bit_by_bit() -> None:
    nerf = small(spread=1.0)
    first, again, other = (nerf.render(views(), (12, 12), seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(nerf.render(views(), (12, 12)), nerf.render(views(), (12, 12)))
    twin = small(spread=1.0)
    assert all(torch.equal(a, b) for a, b in zip(nerf.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("window", [False, True], ids=["whole views", "windows"])
def test_the_fields_of_a_picture_are_its_rows(window: bool) -> None:
    nerf, seen = small(3, spread=1.0), views(2)
    if window:
        seen = Closeups(seen, draw_corners(2, seeded(1)), torch.zeros(2, 4, 6, 6))  # type: ignore[assignment]
    whole = nerf.render(seen, (6, 5))
    for first in range(FIELDS):
        rows = nerf.render(Interlaced(seen, first), (3, 5))  # type: ignore[arg-type]
        torch.testing.assert_close(rows, whole[:, :, first::FIELDS], rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [7, 100, 1 << 14])
def test_large_pictures_rendered_in_chunks_are_the_same_pictures(chunk: int) -> None:
    nerf = small(spread=1.0)
    image = nerf.render_image(views(), 12, chunk)
    assert not image.requires_grad
    assert torch.allclose(image, nerf.render(views(), (12, 12)), atol=HIDDEN)


def test_pictures_are_those_of_whole_rays_to_one_part_in_ten_thousand() -> None:
    """The brute force asks at all points of all rays."""
    nerf = small(spread=3.0, gain=200.0)
    origins, directions = (each.reshape(-1, 3) for each in views().rays((24, 24)))
    points = points_on_rays(origins, directions, nerf.occupancy.mask, nerf.dt)
    whole = render_points(points, nerf.query, nerf.dt)
    hidden = len(points.x) - len(in_front(points, nerf.density(points.x), nerf.dt).x)
    assert 0.1 < hidden / len(points.x) < 0.9
    expected = to_picture(*(each.reshape(2, 24, 24, -1).permute(0, 3, 1, 2) for each in whole))
    assert (expected - nerf.render_image(views(), 24)).abs().max() <= HIDDEN


def test_an_empty_field_renders_nothing_and_can_still_learn() -> None:
    nerf = small(spread=1.0, blob=-100.0, radius=1.0)  # raw - 100 (1 - |x|): matter at most near the ball's surface
    with torch.no_grad():
        list(nerf.mlp.parameters())[-1][0] = -30
    picture = nerf.render(views(), (8, 8))
    assert torch.allclose(picture[:, 3], torch.tensor(-1.0)) and picture[:, :3].abs().max() < 1e-6
    picture.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in nerf.parameters())
    nerf.refresh_occupancy(0)
    assert not nerf.occupancy.mask.any()
    assert nerf.render(views(), (8, 8))[:, 3].max() == -1


def test_refreshing_the_occupancy_saves_samples_and_keeps_the_picture() -> None:
    nerf = Nerf(steps=64, blob=10.0, generator=seeded())
    before, cells = nerf.render_image(views(), 24), nerf.occupancy.mask.sum()
    assert [nerf.refresh_occupancy(step, seeded()) for step in range(9)] == [True, *[False, False, False, True] * 2]
    assert nerf.occupancy.mask.sum() < 0.7 * cells
    change = (nerf.render_image(views(), 24) - before).abs()
    assert change.max() < 0.08 and change.mean() < 0.004, "only haze of less than 0.005 a step is lost"


def in_ball(radius: float, x: Tensor) -> Tensor:
    return 100.0 * (x.norm(dim=-1) < radius)


def test_occupancy_starts_full_then_covers_matter_and_forgets_it_when_gone() -> None:
    occupancy, dt = Occupancy(32, threshold=0.02, decay=0.1), 2 / 64
    distance = torch.stack(torch.meshgrid(*[(torch.arange(32) + 0.5) / 16 - 1] * 3, indexing="ij"), -1).norm(dim=-1)
    assert occupancy.mask[distance < 1].all() and not occupancy.mask[distance > 1 + 3**0.5 / 32].any()
    for generator in (seeded(0), seeded(1), None):
        occupancy.update(lambda x: in_ball(0.5, x), dt, generator)
        assert occupancy.mask[distance < 0.5].all(), "conservative wherever matter is"
    assert not occupancy.mask[distance > 0.5 + 4 * 3**0.5 / 32].any(), "and no more than two cells beyond"
    points = torch.tensor([[0.0, 0.0, 0.49], [-0.3, 0.3, 0.0], [0.0, 0.7, 0.0], [-1.0, 1.0, 1.0]])
    assert occupancy.occupied(points).tolist() == [True, True, False, False]
    seen = [int(occupancy.mask.sum())]
    for _ in range(3):
        occupancy.update(lambda x: in_ball(0.2, x), dt)
        seen.append(int(occupancy.mask.sum()))
    # 100 falls below -log(0.98) * 32 = 0.65 with the third update: 10, 1, 0.1
    assert seen[2] > 0.9 * seen[0] and 0 < seen[3] < seen[0] / 3


def test_occupancy_resumes_exactly() -> None:
    nerf, twin = small(spread=1.0), small(seed=3)
    nerf.refresh_occupancy(0, seeded(1))
    twin.load_state_dict(nerf.state_dict())
    for each in (nerf, twin):
        each.refresh_occupancy(8, seeded(2))
    assert torch.equal(nerf.occupancy.density, twin.occupancy.density) and nerf.occupancy.density.max() > 0
    assert torch.equal(nerf.occupancy.mask, twin.occupancy.mask)
    assert torch.equal(nerf.render(views(), (8, 8), seeded(4)), twin.render(views(), (8, 8), seeded(4)))


def test_optimising_the_groups_fits_a_picture() -> None:
    nerf, cameras = small(), views(2)
    groups = nerf.param_groups(lr_grid=0.05, lr_mlp=0.02)
    assert {group["name"]: group["lr"] for group in groups} == {"grid": 0.05, "mlp": 0.02}
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in nerf.parameters())
    target = small(7, spread=0.3, radius=0.3).render_image(cameras, 12)
    optimiser, losses = torch.optim.Adam(groups), []
    for step in range(40):
        nerf.refresh_occupancy(step, seeded(step))
        loss = (nerf.render(cameras, (12, 12), seeded(step)) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("option", ["hidden", "steps", "gain", "radius", "refresh"])
def test_impossible_numbers_are_named(option: str) -> None:
    with pytest.raises(UserError, match=rf"^representation\.{option}=0: expected a (whole )?number"):
        build({"_target_": "text23d.representation.nerf.Nerf", option: 0}, "representation")
    with pytest.raises(UserError, match="occupancy grid"):
        Occupancy(decay=1.0)
