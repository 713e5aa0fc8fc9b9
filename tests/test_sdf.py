"""The signed distance field: its density, its gradient, its penalty and its renderings against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from slopes import expect_finite_differences
from tiny import settings
from torch import Tensor
from torch.nn.functional import normalize

from text23d.artifact.mesh import extract
from text23d.cameras import Cameras, orbit
from text23d.kernels.reference import laplace_density
from text23d.representation.hashgrid import HashGrid
from text23d.representation.nerf import Nerf
from text23d.representation.occupancy import Occupancy
from text23d.representation.sdf import Eikonal, SdfNerf, gradients
from text23d.settings import build
from text23d.spaces import from_picture

pytestmark = pytest.mark.usefixtures("both_backends")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sphere(beta: float = 0.1, **options: float) -> SdfNerf:
    """A field whose network says nothing."""
    nerf = SdfNerf(HashGrid(2, 2, 8, 8, 16), hidden=4, beta=beta, generator=seeded(), **options)  # type: ignore[arg-type]
    with torch.no_grad():
        nerf.encoding.table.zero_()  # type: ignore[attr-defined]
    return nerf


def detailed(seed: int = 1) -> SdfNerf:
    generator = seeded(seed)
    grid = HashGrid(3, 2, 10, 4, 16, generator)
    with torch.no_grad():
        grid.table.mul_(5e3)
    return SdfNerf(grid, hidden=8, steps=24, occupancy=Occupancy(12), distance=Eikonal(points=50), generator=generator)


def test_the_density_is_the_laplace_distributions() -> None:
    sdf = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    for beta in (0.01, 0.1):
        scale = torch.tensor(beta, dtype=torch.float64)
        known = torch.distributions.Laplace(torch.zeros_like(scale), scale).cdf(-sdf) / beta
        torch.testing.assert_close(laplace_density(-sdf, scale), known, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_an_untrained_field_is_a_sphere(dtype: torch.dtype, error: float) -> None:
    nerf, x = sphere().to(dtype), 0.57 * torch.rand(500, 3, generator=seeded(), dtype=dtype)
    x.requires_grad_()
    sdf, rgb = nerf.sdf(x), nerf.query(x)[1]
    torch.testing.assert_close(sdf, x.norm(dim=-1) - 0.5, rtol=0, atol=error)
    assert rgb.eq(0.5).all()
    (slope,) = torch.autograd.grad(sdf.sum(), x)
    torch.testing.assert_close(slope, normalize(x.detach(), dim=-1), rtol=0, atol=10 * error)
    assert nerf.density(2 * normalize(x.detach(), dim=-1)).eq(0).all(), "nothing outside the ball of radius 1"


def test_the_sharpness_is_learnt_up_to_a_part_of_a_step() -> None:
    nerf = sphere(beta=0.1)
    assert nerf.beta.item() == pytest.approx(0.1 + nerf.dt / 16)
    (_, mlp) = nerf.param_groups(1.0, 0.5)
    assert any(each is nerf.sharpness for each in mlp["params"])
    nerf.render(orbit(2), (8, 8)).square().sum().backward()
    assert nerf.sharpness.grad is not None and nerf.sharpness.grad.abs() > 0
    with torch.no_grad():
        nerf.sharpness.fill_(5)
    assert nerf.beta.item() == pytest.approx(nerf.dt / 16)


def test_gradients_of_a_rendering_are_finite_differences() -> None:
    nerf = detailed().double()
    cameras = Cameras(*(getattr(orbit(1, 20.0), name).double() for name in ("azimuth", "elevation", "distance", "fov")))
    weight = torch.randn(1, 4, 5, 5, generator=seeded(2), dtype=torch.float64)

    penalty = nerf.penalty(0.75, seeded(4))
    assert penalty is not None

    def loss() -> Tensor:
        return (nerf.render(cameras, (5, 5), seeded(3)) * weight).sum() + 100 * penalty()

    expect_finite_differences(nerf, loss, 1e-6)


def test_the_penalty_is_the_written_one() -> None:
    """Of |x| - r the slope is 1, and the normal is that of the point; of a field k times as steep it is k. Opacities
    are those of four steps through the density at the same points."""
    x = 0.5 * normalize(torch.randn(400, 3, generator=seeded(), dtype=torch.float64), dim=-1)
    e = 0.02 * torch.randn(x.shape, generator=seeded(7)).to(x)
    there, here, opposite = (normalize(at, dim=-1) for at in (x + e, x, x - e))
    turned = (there - 2 * here + opposite).square().sum(-1).mean().item()
    for k in (1.0, 3.0):
        nerf = sphere().double()
        nerf.sdf = lambda p, k=k: k * (p.norm(dim=-1) - 0.5)  # type: ignore[method-assign,misc]
        nerf.occupancy.random_points = lambda count, generator: x  # type: ignore[method-assign]
        eikonal, smooth, opaque = (
            Eikonal(*weights, points=400, step=1e-4).penalty(nerf, 1.0, seeded(7))().item()
            for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        )
        assert eikonal == pytest.approx((k - 1) ** 2, abs=1e-6)
        assert smooth == pytest.approx(k**2 * turned, rel=1e-5)
        clear = math.exp(-0.5 / nerf.beta.item() * 4 * nerf.dt)
        assert opaque == pytest.approx(clear * (1 - clear), rel=1e-6)
    early = Eikonal(0.0, 0.0, 1.0, points=400).penalty(nerf, 0.5, seeded(7))()
    assert early.item() == 0, "nothing has to decide in the first half"


def test_what_the_penalty_wants_is_reached() -> None:
    nerf = detailed()
    nerf.refresh_occupancy(0, seeded())
    optimiser = torch.optim.Adam(nerf.param_groups(0.02, 0.006))

    def apart() -> float:
        x = 0.5 * torch.randn(2000, 3, generator=seeded(8)).clamp(-1, 1)
        return (gradients(nerf.sdf, x, 0.016).norm(dim=-1) - 1).abs().mean().item()

    before = apart()
    for step in range(60):
        penalty = nerf.penalty(0.0, seeded(step))
        assert penalty is not None
        optimiser.zero_grad()
        penalty().backward()
        optimiser.step()
    assert apart() < 0.3 * before


def test_a_sphere_is_rendered_as_its_closed_form() -> None:
    """A ray at a distance b of the centre: the optical depth by quadrature, for b = 0 it is 1 / beta exactly."""
    nerf = sphere(beta=0.05, steps=256)
    picture = nerf.render_image(orbit(1, 0.0), 33)
    alpha = from_picture(picture)[1][0, 0].double()
    origins, directions = (each[0].reshape(-1, 3).double() for each in orbit(1, 0.0).rays((33, 33)))
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    half = (1 - closest.square()).clamp(min=0).sqrt()
    along = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    distance = (closest[:, None].square() + (half[:, None] * along).square()).sqrt()
    depth = torch.trapezoid(laplace_density(0.5 - distance, nerf.beta.double()), half[:, None] * along)
    torch.testing.assert_close(alpha.view(-1), -torch.expm1(-depth), rtol=0, atol=0.01)
    assert depth.view(33, 33)[16, 16].item() == pytest.approx(1 / nerf.beta.item(), rel=1e-3)


def test_the_silhouette_of_a_sharp_sphere_is_its_disc() -> None:
    nerf = sphere(beta=0.001, steps=256)
    nerf.refresh_occupancy(0)
    covered = from_picture(nerf.render_image(orbit(3), 64))[1][:, 0] > 0.5
    origins, directions = orbit(3).rays((64, 64))
    closest = torch.linalg.cross(origins, directions).norm(dim=-1)
    assert covered[closest < 0.5].all() and not covered[closest > 0.5 + 5 * nerf.beta].any()


def test_its_mesh_is_the_sphere_that_its_pictures_show() -> None:
    """A ray is half absorbed a little outside of sdf = 0, and there, or a beta before, the mesh is."""
    nerf = sphere(beta=0.01).requires_grad_(False)
    mesh = extract(nerf.density, 64, occupied=nerf.occupancy.occupied)
    assert mesh.is_watertight and mesh.body_count == 1
    radius = torch.tensor(np.asarray(mesh.vertices)).norm(dim=-1)
    assert radius.std() < 0.001 and 0.5 < radius.mean() < 0.5 + 4 * nerf.beta


def test_the_configuration_builds_it(tiny_prior: Path) -> None:
    section = settings(tiny_prior, "representation=nerf_sdf")["representation"]
    nerf = build(section, "representation", Nerf)
    assert type(nerf) is SdfNerf and nerf.distance == Eikonal()
