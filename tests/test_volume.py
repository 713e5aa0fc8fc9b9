"""The renderer against a brute-force integral, a closed form and nerfacc."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from text23d.kernels import ops
from text23d.representation import volume
from text23d.representation.views import CameraSampler
from text23d.representation.volume import (
    HIDDEN,
    ROUND,
    Field,
    Points,
    Remembered,
    in_front,
    points_on_rays,
    render_points,
)

FULL = torch.ones(4, 4, 4, dtype=torch.bool)

pytestmark = pytest.mark.usefixtures("both_backends")


def camera_rays(views: int = 1, size: int = 5) -> tuple[Tensor, Tensor]:
    cameras = CameraSampler().sample(views, torch.Generator().manual_seed(0))
    origins, directions = (rays.reshape(-1, 3).double() for rays in cameras.rays((size, size)))
    return origins, directions / directions.norm(dim=-1, keepdim=True)


def render_rays(
    origins: Tensor, directions: Tensor, field: Field, occupancy: Tensor, dt: float, jitter: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return render_points(points_on_rays(origins, directions, occupancy, dt, jitter), field, dt)


def ripples(x: Tensor) -> tuple[Tensor, Tensor]:
    """A smooth field with some empty space; density [N] and colour [N, 3]."""
    density = 4 * (torch.sin(3 * x[:, 0]) + torch.cos(4 * x[:, 1] * x[:, 2])).clamp(min=0)
    return density, 0.5 + 0.5 * torch.sin(x * 5)


def ball(x: Tensor, radius: float, density: float) -> tuple[Tensor, Tensor]:
    return density * (x.norm(dim=-1) < radius).to(x), torch.full_like(x, 0.25)


def integrate(origin: Tensor, direction: Tensor, occupancy: Tensor, dt: float, jitter: float) -> tuple[Tensor, float]:
    """One ray by a plain loop over its steps: colour [3] and alpha."""
    slabs = [sorted(((-1 - o) / d, (1 - o) / d)) for o, d in zip(origin.tolist(), direction.tolist(), strict=True)]
    enter, leave = max(0.0, *(s[0] for s in slabs)), min(s[1] for s in slabs)
    colour, transmittance, k = torch.zeros(3, dtype=torch.float64), 1.0, 0
    while (t := enter + (k + jitter) * dt) < leave:
        point = origin + t * direction
        cell = tuple(min(int((v + 1) / 2 * len(occupancy)), len(occupancy) - 1) for v in point.tolist())
        if occupancy[cell]:
            density, rgb = ripples(point[None])
            alpha = 1 - math.exp(-density.item() * dt)
            colour, transmittance = colour + transmittance * alpha * rgb[0], transmittance * (1 - alpha)
        k += 1
    return colour, 1 - transmittance


def test_rendering_is_the_brute_force_ray_integral() -> None:
    generator = torch.Generator().manual_seed(1)
    origins, directions = camera_rays()
    occupancy = torch.rand(5, 5, 5, generator=generator) < 0.6
    jitter = torch.rand(len(origins), generator=generator).double()
    colour, alpha = render_rays(origins, directions, ripples, occupancy, 2 / 40, jitter)
    assert alpha.max() > 0.9 and alpha.min() < 0.3
    for ray in range(len(origins)):
        expected = integrate(origins[ray], directions[ray], occupancy, 2 / 40, jitter[ray].item())
        assert torch.allclose(colour[ray], expected[0], atol=1e-10)
        assert alpha[ray].item() == pytest.approx(expected[1], abs=1e-10)


def test_a_ball_of_constant_density_absorbs_by_its_chord() -> None:
    """alpha = 1 - exp(-rho * chord), to the length of the two partial steps at its ends."""
    rho, radius, dt = 1.5, 0.6, 2 / 1000
    origins, directions = camera_rays(size=8)
    colour, alpha = render_rays(origins, directions, lambda x: ball(x, radius, rho), FULL, dt)
    nearest = torch.linalg.cross(origins, directions).norm(dim=-1)
    chord = 2 * (radius**2 - nearest**2).clamp(min=0).sqrt()
    assert (alpha[:, 0] - (1 - torch.exp(-rho * chord))).abs().max() <= rho * dt
    assert (alpha > 0).sum() > 10 and (alpha == 0).sum() > 10
    assert torch.allclose(colour, 0.25 * alpha.expand(-1, 3)), "a uniform colour is premultiplied by alpha"


def test_skipping_cells_that_are_empty_changes_nothing() -> None:
    origins, directions = camera_rays(views=2, size=8)
    centre = (torch.arange(16) + 0.5) / 8 - 1
    grid = torch.stack(torch.meshgrid(centre, centre, centre, indexing="ij"), -1)
    mask = (grid.abs() - 1 / 16).clamp(min=0).norm(dim=-1) <= 0.6
    asked: list[int] = []

    def field(x: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(x))
        return ball(x, 0.6, 8.0)

    full, skipped = (render_rays(origins, directions, field, grid, 2 / 64) for grid in (FULL, mask))
    assert asked[1] < 0.5 * asked[0]
    for expected, got in zip(full, skipped, strict=True):
        assert torch.allclose(expected, got, atol=1e-12)


def test_rays_without_matter_are_black_and_transparent_with_finite_gradients() -> None:
    origins, directions = camera_rays()
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    colour, alpha = render_rays(origins, directions, lambda x: (scale * x[:, 0] ** 2, x * 0), FULL, 2 / 32)
    assert not colour.any() and not alpha.any()
    alpha.sum().backward()
    assert scale.grad is not None and scale.grad.isfinite() and scale.grad > 0
    for sign, occupancy in ((-1, FULL), (1, ~FULL)):
        missed = render_rays(origins, sign * directions, ripples, occupancy, 2 / 32)
        assert [part.shape for part in missed] == [(25, 3), (25, 1)] and not any(part.any() for part in missed)


def opaque(x: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """`ripples` so dense that most rays end inside."""
    density, rgb = ripples(x)
    return 8 * scale * density, rgb


def colour_by_density(points: Points) -> Tensor:
    """Derivatives [M] of the sum of all colours of all rays: at most 3 dt T behind a transmittance of T."""
    density, rgb = (each.requires_grad_() for each in opaque(points.x))
    return torch.autograd.grad(render_points(points, lambda _: (density, rgb), 0.05)[0].sum(), density)[0]


def test_what_lies_in_front_is_what_a_loop_along_each_ray_reaches() -> None:
    points = points_on_rays(*camera_rays(2, 6), FULL, 0.05)
    density, samples = opaque(points.x)[0], points.samples
    kept = []
    for first, last in zip(samples.offsets[:-1].tolist(), samples.offsets[1:].tolist(), strict=True):
        transmittance = 1.0
        for index in range(first, last):
            if transmittance >= HIDDEN:
                kept.append(index)
            transmittance *= math.exp(-density[index].item() * 0.05)
    near = in_front(points, density, 0.05)
    assert 0.2 * len(points.x) < len(kept) < 0.8 * len(points.x)
    assert torch.equal(near.x, points.x[kept]) and torch.equal(near.samples.t, samples.t[kept])
    assert torch.equal(near.samples.steps, samples.steps[kept])
    counts = torch.bincount(samples.rays[kept], minlength=len(samples.offsets) - 1)
    assert torch.equal(near.samples.offsets.diff(), counts)
    assert torch.equal(near.samples.rays, samples.rays[kept])

    slopes = colour_by_density(points)
    hidden = slopes.index_fill(0, torch.tensor(kept), 0)
    assert max(hidden.abs().max(), (slopes[kept] - colour_by_density(near)).abs().max()) <= 3 * 0.05 * HIDDEN
    assert slopes.abs().max() > 0.01


def test_remembered_points_leave_out_what_is_hidden_and_look_at_it_again_every_round() -> None:
    """Matter that vanishes hides what is behind it for a round at most."""
    points = points_on_rays(*camera_rays(2, 6), FULL, 0.05)
    remembered, scale = Remembered(points), 1.0
    asked: list[int] = []

    def field(x: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(len(x))
        return opaque(x, scale)

    for _ in range(ROUND):
        for whole, near in zip(render_points(points, field, 0.05), remembered.render(field, 0.05), strict=True):
            assert (whole - near).abs().max() <= HIDDEN
    assert asked[1] == len(points.x) and max(asked[3::2]) < 0.8 * len(points.x)
    scale = 1e-3
    for whole, near in zip(render_points(points, field, 0.05), remembered.render(field, 0.05), strict=True):
        assert torch.equal(whole, near)


def packed(generator: torch.Generator) -> tuple[ops.Samples, Tensor, Tensor]:
    """Random samples of 7 rays, one of them empty, with optical depths and colours that want gradients."""
    counts = torch.tensor([3, 0, 5, 1, 8, 2, 4])
    rays = torch.arange(7).repeat_interleave(counts)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    depth, rgb = (torch.rand(len(rays), *s, generator=generator, dtype=torch.float64) for s in ((), (3,)))
    samples = ops.Samples(rays, torch.zeros(len(rays), dtype=torch.float64), rays, offsets)
    return samples, (3 * depth).requires_grad_(), rgb.requires_grad_()


def gradients(outputs: tuple[Tensor, Tensor], depth: Tensor, rgb: Tensor) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 2, 7, dtype=torch.float64)
    return torch.autograd.grad((outputs[0].sin().sum(-1) * weight + outputs[1] ** 2).sum(), (depth, rgb))


def test_compositing_equals_nerfaccs_batched_rendering_and_its_gradients() -> None:
    import nerfacc

    samples, depth, rgb = packed(torch.Generator().manual_seed(2))
    place = torch.arange(len(depth)) - samples.offsets[samples.rays]
    dense_depth = depth.new_zeros(7, 8).index_put((samples.rays, place), depth)
    dense_rgb = rgb.new_zeros(7, 8, 3).index_put((samples.rays, place), rgb)
    start = torch.zeros_like(dense_depth)
    weights, _, _ = nerfacc.render_weight_from_density(start, start + 1, dense_depth)
    alpha = nerfacc.accumulate_along_rays(weights, None)[:, 0]
    theirs = nerfacc.accumulate_along_rays(weights, dense_rgb), alpha
    ours = volume.composite(depth, rgb, samples)
    for expected, got in zip(theirs, ours, strict=True):
        assert torch.allclose(expected, got, atol=1e-12)
    for expected, got in zip(gradients(theirs, depth, rgb), gradients(ours, depth, rgb), strict=True):
        assert torch.allclose(expected, got, atol=1e-12)


def test_the_path_through_nerfaccs_packed_functions_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their packed scan exists on CUDA only, so a loop stands in for it: all that we call around it is theirs."""

    def exclusive_sum(inputs: Tensor, packed_info: Tensor) -> Tensor:
        chunks = [inputs[start : start + count] for start, count in packed_info.tolist()]
        return torch.cat([chunk.cumsum(0) - chunk for chunk in chunks])

    monkeypatch.setattr("nerfacc.volrend.exclusive_sum", exclusive_sum)
    samples, depth, rgb = packed(torch.Generator().manual_seed(3))
    theirs, ours = volume.nerfacc_composite(depth, rgb, samples), volume.composite(depth, rgb, samples)
    for expected, got in zip(theirs + gradients(theirs, depth, rgb), ours + gradients(ours, depth, rgb), strict=True):
        assert torch.allclose(expected, got, atol=1e-12)


def test_nerfaccs_cuda_half_is_used_only_where_it_loads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    half = ModuleType("nerfacc.cuda._backend")
    monkeypatch.setitem(sys.modules, "nerfacc.cuda._backend", half)
    for given, loads in ((object(), True), (None, False)):
        monkeypatch.setattr(half, "_C", given, raising=False)
        assert volume.nerfacc_scans_load.__wrapped__() is loads
    monkeypatch.delattr(half, "_C")
    assert volume.nerfacc_scans_load.__wrapped__() is False
    assert "rendering with torch instead" in caplog.text
