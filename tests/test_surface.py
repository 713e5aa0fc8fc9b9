"""What keeps surfaces together, against spheres, planes and sums by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from text23d.representation.nerf import Nerf
from text23d.representation.occupancy import Occupancy
from text23d.representation.surface import NEAR, Density, Surface, near_surface, normals

DT = 1 / 32
RADIUS = 0.5


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball(x: Tensor) -> Tensor:
    """Density that falls tenfold over 0.1, and makes a step half opaque at RADIUS."""
    return torch.exp((RADIUS - x.norm(dim=-1)) * 23.0) * 0.69 / DT


def wall(x: Tensor) -> Tensor:
    return torch.exp(-x[:, 2] * 23.0) * 0.69 / DT


def everywhere(field: Density = ball) -> Occupancy:
    occupancy = Occupancy(32)
    occupancy.update(field, DT)
    return occupancy


def test_normals_of_a_ball_point_away_from_its_middle() -> None:
    x = torch.nn.functional.normalize(torch.randn(500, 3, generator=draw()), dim=-1) * RADIUS
    found = normals(ball, x, DT, 0.016)
    torch.testing.assert_close(found, x / RADIUS, atol=2e-3, rtol=0)
    assert (normals(lambda x: x.new_ones(len(x)), x, DT, 0.016) == 0).all()


def test_normals_are_those_of_autograd() -> None:
    nerf = Nerf(generator=draw(3))
    with torch.no_grad():
        nerf.encoding.table.mul_(300)  # type: ignore[operator]
    x = (torch.rand(200, 3, generator=draw(1)) - 0.5).requires_grad_()
    (slope,) = torch.autograd.grad(torch.log(nerf.density(x) * DT + 1e-3).sum(), x)
    cosine = torch.cosine_similarity(normals(nerf.density, x.detach(), DT, 1e-4), -slope)
    assert cosine.median() > 0.99


def test_points_lie_where_a_step_is_between_transparent_and_opaque() -> None:
    occupancy = everywhere()
    x, _ = near_surface(ball, occupancy, DT, 400, draw())
    opacity = 1 - torch.exp(-ball(x) * DT)
    assert len(x) == 400 and occupancy.occupied(x).all()
    assert opacity.min() > NEAR[0] and opacity.max() < NEAR[1]
    assert x.std(0).min() > 0.2, "from all sides"


@pytest.mark.parametrize(("field", "curved"), [(wall, 0), (ball, 1)])
def test_smoothness_is_how_much_the_curvature_turns_a_normal(field: Density, curved: float) -> None:
    """On a sphere the second derivative of the normal along e is -(t^2 n + 2 e.n t) / r^2, with t what of e lies in the
    surface: E |.|^2 = 16 spread^4 / r^4."""
    surface = Surface(smooth=1, opaque=0, points=3000, spread=0.05)
    loss = surface.penalty(field, everywhere(field), DT, 1.0, draw())
    assert loss is not None
    radius = near_surface(field, everywhere(field), DT, 3000, draw())[0].norm(dim=-1)
    expected = curved * 16 * 0.05**4 * radius.pow(-4).mean().item()
    assert loss().item() == pytest.approx(expected, rel=0.12, abs=1e-5)


@pytest.mark.parametrize(("progress", "share"), [(0.75, 0.5), (1.0, 1)])
def test_opacity_has_to_decide_from_the_middle_of_a_run_on(progress: float, share: float) -> None:
    surface = Surface(smooth=0, opaque=3, points=2000)
    loss = surface.penalty(ball, everywhere(), DT, progress, draw())
    assert loss is not None
    x, _ = near_surface(ball, everywhere(), DT, 2000, draw())
    opacity = 1 - torch.exp(-ball(x) * 4 * DT)
    assert loss().item() == pytest.approx(3 * share * (opacity * (1 - opacity)).mean().item(), rel=1e-4)


def test_there_is_no_penalty_before_the_middle_of_a_run_nor_without_a_surface() -> None:
    assert Surface().penalty(ball, everywhere(), DT, 0.5, draw()) is None
    empty = Occupancy(8)
    empty.mask.zero_()
    assert Surface().penalty(ball, empty, DT, 1.0, draw()) is None


def test_following_the_gradient_takes_bumps_off_a_ball() -> None:
    nerf = Nerf(surface=Surface(smooth=1.0, opaque=0.0, points=1000), generator=draw(5))
    with torch.no_grad():
        nerf.encoding.table.uniform_(-0.3, 0.3, generator=draw(6))  # type: ignore[operator]
    nerf.refresh_occupancy(0, draw(7))
    adam = torch.optim.Adam(nerf.parameters(), lr=0.01)
    losses = []
    for step in range(12):
        penalty = nerf.penalty(1.0, draw(step))
        assert penalty is not None
        loss = penalty()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_same_draw_asks_the_same_points() -> None:
    penalties = [Surface().penalty(ball, everywhere(), DT, 1.0, draw(seed)) for seed in (0, 0, 1)]
    first, again, other = (penalty() for penalty in penalties if penalty)
    assert first == again != other
